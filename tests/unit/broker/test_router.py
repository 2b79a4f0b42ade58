"""The broker's ROUTER over real unix sockets, without its loop: whole messages, and nobody's harm to another."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from broker.calls import FULL, GONE, SENT, Caller
from broker.policy import CallerKind
from broker.router import HANDSHAKE_WITHIN_S, STRANGER_FRAME_MAX, STRANGERS_MAX, UNSENT_MAX, Router
from broker.zmtp import FrameReader, greeting, pack_message, ready_command

HEADER = b"\1\1" + bytes(14)
A, B = b"c" + b"a" * 16, b"c" + b"b" * 16


class Loop:
    """The broker's loop, one pass at a time."""

    def __init__(self) -> None:
        self.is_alone = False
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.faults: list[Exception] = []

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.epoll.register(fd, select.EPOLLIN)
        self.handlers[fd] = handler

    def want_room(self, fd: int, wanted: bool) -> None:
        self.epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        self.epoll.unregister(fd)
        del self.handlers[fd]

    def fault(self, exc: Exception) -> None:
        self.faults.append(exc)


class House:
    """A router that keeps what it receives."""

    def __init__(self, folder: Path, *granted: bytes, message_max: int = 1 << 20, hwm: int = 100) -> None:
        self.path = folder / "route.sock"
        self.loop = Loop()
        self.now = 0.0
        self.received: list[tuple[bytes, bytes]] = []
        self.router = Router(
            self.path,
            0o600,
            "test",
            self.loop,
            self._message,
            message_max=message_max,
            hwm=hwm,
            clock=lambda: self.now,
        )
        for name in granted:
            self.router.grant(caller(name))

    def _message(self, source: Caller, destination: bytes, header: bytes, body: bytes) -> None:
        self.received.append((source.routing_id, body))
        if body == b"bad":
            raise ValueError(body)

    def turn(self) -> None:
        """Serves until nothing comes any more."""
        while True:
            self.router.flush()
            ready = self.loop.epoll.poll(0)
            if not ready:
                return
            for fd, _ in ready:
                if (handler := self.loop.handlers.get(fd)) is not None:
                    handler()

    def until(self, done: Callable[[], bool]) -> None:
        """Serves until something holds."""
        end = time.monotonic() + 10
        while not done():
            assert time.monotonic() < end
            self.turn()
            time.sleep(0.001)

    def connect(self, identity: bytes) -> socket.socket:
        """A peer that has shaken hands."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(os.fspath(self.path))
        sock.settimeout(10)
        sock.sendall(greeting() + ready_command(b"DEALER", identity))
        self.turn()
        assert sock.recv(65536).startswith(greeting())
        return sock

    def close(self) -> None:
        self.router.close()
        self.loop.epoll.close()


def caller(name: bytes) -> Caller:
    return Caller(name, CallerKind.CLIENT, {}, limit=1)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    made = House(folder, A, B)
    yield made
    made.close()


def good(body: bytes = b"body") -> bytes:
    return pack_message([b"test", HEADER, body])


def test_whole_messages_are_received_from_everyone(house: House) -> None:
    with house.connect(A) as a, house.connect(B) as b:
        a.sendall(good(b"1") + good(b""))
        b.sendall(good(b"2" * 1000))
        house.turn()
    assert sorted(house.received) == [(A, b""), (A, b"1"), (B, b"2" * 1000)]
    assert house.router.received == 3


def test_a_message_comes_in_pieces_of_any_size(house: House) -> None:
    with house.connect(A) as a:
        for byte in good(b"x" * 300):
            a.sendall(bytes((byte,)))
            house.turn()
    assert house.received == [(A, b"x" * 300)]


def test_messages_of_strangers_are_dropped_and_counted(house: House) -> None:
    with house.connect(b"x") as x, house.connect(A) as a:
        x.sendall(good() + good() + pack_message([b"z"] * 9))
        a.sendall(good())
        house.turn()
    assert house.received == [(A, b"body")]
    assert house.router.strangers == 3


@pytest.mark.parametrize(
    "bad",
    [
        [b""],
        [b"test"],
        [b"test", HEADER],
        [b"test", b"short"],
        [b"test", b"short", b"body"],
        [b"test", HEADER, b"body", b"more"],
        [b"test", HEADER, b"body", B],
        [B, B, B],
        [b"z"] * 9,
    ],
)
def test_a_message_of_another_form_takes_no_other_with_it(house: House, bad: list[bytes]) -> None:
    with house.connect(A) as a, house.connect(B) as b:
        a.sendall(pack_message(bad) + good(b"last"))
        b.sendall(good(b"other"))
        house.turn()
    assert sorted(house.received) == [(A, b"last"), (B, b"other")]
    assert house.router.malformed == 1


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_whatever_one_peer_sends_the_others_messages_arrive(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as path:
        house = House(Path(path), A, B)
        with house.connect(A) as a, house.connect(B) as b, house.connect(b"y") as y:
            for number, piece in enumerate(pieces):
                for sock in (a, y):
                    try:
                        sock.sendall(piece)
                    except OSError:
                        pass  # it was closed for what it said before
                b.sendall(good(b"%d" % number))
                house.turn()
        house.close()
    assert [body for source, body in house.received if source == B] == [b"%d" % n for n in range(len(pieces))]
    assert not house.loop.faults


def test_a_message_that_goes_wrong_here_does_not_take_the_next_with_it(house: House) -> None:
    with house.connect(A) as a:
        a.sendall(good(b"bad") + good(b"next"))
        house.turn()
    assert house.received == [(A, b"bad"), (A, b"next")]
    assert len(house.loop.faults) == 1


def test_a_message_that_is_too_long_ends_its_connection(folder: Path) -> None:
    house = House(folder, A, message_max=1000)
    for message in (
        pack_message([b"test", HEADER, bytes(1001)]),
        pack_message([b"test", HEADER, bytes(900), bytes(900), bytes(900)]),
    ):
        with house.connect(A) as a:
            a.sendall(good() + message + good())
            house.turn()
            assert a.recv(1) == b""
    assert house.router.send(A, b"x", HEADER, b"") == GONE
    house.close()


def test_strangers_may_not_send_much_but_who_is_granted_later_may(house: House) -> None:
    late = b"c" + b"l" * 16
    with house.connect(late) as sock, house.connect(b"x") as other:
        house.router.grant(caller(late))
        body = bytes(STRANGER_FRAME_MAX + 1)
        sock.sendall(pack_message([b"test", HEADER, body]))
        house.until(lambda: bool(house.received))
        assert house.received == [(late, body)]
        assert house.router.send(late, b"s", HEADER, b"") == SENT
        other.sendall(pack_message([b"test", HEADER, body])[:100])
        house.turn()
        assert other.recv(1) == b""


def test_only_so_many_strangers_are_kept_and_they_push_nobody_else_out(house: House) -> None:
    with house.connect(A) as a:
        strangers = [house.connect(b"s%d" % number) for number in range(STRANGERS_MAX + 1)]
        assert strangers[0].recv(1) == b""
        a.sendall(good())
        house.turn()
        assert house.received == [(A, b"body")]
        for sock in strangers:
            sock.close()


def test_who_says_nothing_is_dropped(house: House) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent, house.connect(A) as a:
        silent.settimeout(10)
        silent.connect(os.fspath(house.path))
        house.turn()
        assert silent.recv(65536).startswith(greeting())
        house.now = HANDSHAKE_WITHIN_S + 1
        house.router.drop_silent(house.now)
        assert silent.recv(1) == b""
        assert house.router.send(A, b"s", HEADER, b"") == SENT
        a.close()


def test_a_newer_connection_of_the_same_id_takes_over(house: House) -> None:
    with house.connect(A) as old, house.connect(A) as new:
        assert old.recv(1) == b""
        house.router.send(A, b"source", HEADER, b"answer")
        house.turn()
        assert FrameReader(1000).receive(new.recv(1000)) == [[b"source", HEADER, b"answer"]]


def test_who_is_not_there_is_gone_and_who_does_not_read_is_full(folder: Path) -> None:
    house = House(folder, A, B, hwm=5)
    assert house.router.send(A, b"s", HEADER, b"") == GONE
    with house.connect(A) as a:
        body = bytes(300_000)
        answers = []
        for _ in range(20):
            answers.append(house.router.send(A, b"s", HEADER, body))
            house.router.flush()
        assert answers[0] == SENT and answers[-1] == FULL and house.router.full == answers.count(FULL)
        reader, found = FrameReader(1 << 20), 0
        a.setblocking(False)
        while found < answers.count(SENT):
            house.turn()
            try:
                found += len(reader.receive(a.recv(1 << 20)))
            except BlockingIOError:
                continue
        assert house.router.send(A, b"s", HEADER, body) == SENT
    house.close()


def test_bytes_that_wait_are_bounded_too(folder: Path) -> None:
    house = House(folder, A, hwm=1_000_000)
    with house.connect(A):
        body = bytes(UNSENT_MAX // 4)
        answers = [house.router.send(A, b"s", HEADER, body) for _ in range(6)]
    assert answers.count(SENT) <= 5 and answers[-1] == FULL
    house.close()


def test_what_a_peer_said_before_it_ended_is_read(house: House) -> None:
    with house.connect(A) as a:
        a.sendall(good(b"1" * 100_000) + good(b"2"))
    house.router.read_rest(A)
    assert [len(body) for _, body in house.received] == [100_000, 1]


def test_who_is_revoked_is_not_heard(house: House) -> None:
    with house.connect(A) as a:
        house.router.revoke(caller(A))
        a.sendall(good())
        house.turn()
    assert not house.received and house.router.strangers == 1


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n".ljust(80), greeting() + pack_message([b"early"]), greeting() + b"\4\x06\5HELLO"]
)
def test_another_protocol_is_refused(house: House, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(os.fspath(house.path))
        sock.sendall(said)
        house.turn()
        while sock.recv(65536):
            pass
    assert house.router.malformed == 1


def test_libzmq_is_a_peer_like_any_other(house: House) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.ROUTING_ID, A)
    dealer.setsockopt(zmq.HEARTBEAT_IVL, 20)
    dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2000)
    dealer.connect(f"ipc://{house.path}")
    for body in (b"small", b"l" * 500_000):
        dealer.send_multipart([b"test", HEADER, body])
        house.until(lambda body=body: (A, body) in house.received)  # type: ignore[misc]
        assert house.router.send(A, b"source", HEADER, body) == SENT
        house.until(lambda: bool(dealer.poll(1)))
        assert dealer.recv_multipart() == [b"source", HEADER, body]
    end = time.monotonic() + 0.2
    while time.monotonic() < end:  # its PINGs are answered, so it stays
        house.turn()
        time.sleep(0.002)
    assert house.router.send(A, b"source", HEADER, b"still") == SENT
    house.until(lambda: bool(dealer.poll(1)))
    dealer.close(linger=0)
    context.term()


def test_what_a_lone_message_causes_is_written_at_once_and_what_several_cause_together(house: House) -> None:
    def answer(source: Caller, destination: bytes, header: bytes, body: bytes) -> None:
        house.router.send(source.routing_id, b"s", HEADER, body)
        written.append(not house.router.planned)

    written: list[bool] = []
    house.router.on_message = answer
    with house.connect(A) as a:
        for count in (1, 2):
            house.loop.is_alone = True
            a.sendall(good() * count)
            for fd, _ in house.loop.epoll.poll(1):
                house.loop.handlers[fd]()
        house.router.flush()
        assert FrameReader(1000).receive(a.recv(65536)) == [[b"s", HEADER, b"body"]] * 3
    assert written == [True, False, False]
