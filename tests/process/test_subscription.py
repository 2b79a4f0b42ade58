"""A subscription beside libzmq's own XPUB, which is what the broker publishes with."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from broker.subscriber import EventSubscription
from broker.wire import Position, Published, pack_position

pytestmark = pytest.mark.process
WAIT_S = 30.0


@pytest.fixture
def path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder / "events"
    shutil.rmtree(folder)


@contextlib.contextmanager
def publisher(path: Path) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.XPUB) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.bind(f"ipc://{path}")
        yield sock
    context.term()


async def wishes(sock: zmq.Socket[bytes], count: int) -> set[bytes]:
    """What is subscribed to, once there are so many."""
    found: set[bytes] = set()
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            try:
                found.add(sock.recv(zmq.NOBLOCK))
            except zmq.Again:
                await asyncio.sleep(0.01)
    return found


def publish(sock: zmq.Socket[bytes], source: bytes, seq: int, body: bytes = b"") -> None:
    position = pack_position(Position(1, seq, 1, seq, Published.EVENT))
    sock.send_multipart([source, position, body])


async def seqs(subscription: EventSubscription, count: int) -> list[tuple[str, int]]:
    async with asyncio.timeout(WAIT_S):
        told = [await subscription.next() for _ in range(count)]
    return [(source, position.seq) for source, position, _ in told]


async def test_only_what_was_subscribed_to_is_given(path: Path) -> None:
    with publisher(path) as sock:
        async with EventSubscription(path, ["qemu", "test"]) as subscription:
            assert await wishes(sock, 2) == {b"\1qemu", b"\1test"}
            for seq, source in enumerate((b"qemu", b"lxc", b"qemu-more", b"test")):
                publish(sock, source, seq, bytes(300_000))
            assert await seqs(subscription, 2) == [("qemu", 0), ("test", 3)]


async def test_a_publisher_that_comes_later_and_again_is_found(path: Path) -> None:
    async with EventSubscription(path, None) as subscription:
        waiting = asyncio.ensure_future(seqs(subscription, 1))
        for seq in (1, 2):
            with publisher(path) as sock:
                assert await wishes(sock, 1) == {b"\1"}
                publish(sock, b"test", seq)
                assert await waiting == [("test", seq)]
                waiting = asyncio.ensure_future(seqs(subscription, 1))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("nonsense", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(100)])
async def test_who_does_not_publish_is_left(path: Path, nonsense: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        other.setblocking(False)

        async def talk() -> None:
            accepted, _ = await asyncio.get_running_loop().sock_accept(other)
            with accepted:
                if nonsense:
                    await asyncio.get_running_loop().sock_sendall(accepted, nonsense)

        talking = asyncio.ensure_future(talk())
        async with EventSubscription(path, None) as subscription:
            await talking
            other.close()
            path.unlink()
            with publisher(path) as sock:
                waiting = asyncio.ensure_future(seqs(subscription, 1))
                await wishes(sock, 1)
                publish(sock, b"test", 7)
                assert await waiting == [("test", 7)]


async def test_nothing_is_read_before_it_is_asked_for(path: Path) -> None:
    with publisher(path) as sock:
        async with EventSubscription(path, None) as subscription:
            await wishes(sock, 1)
            publish(sock, b"test", 0)
            assert await seqs(subscription, 1) == [("test", 0)]
            for seq in range(1, 20):
                publish(sock, b"test", seq, bytes(100_000))
            await asyncio.sleep(0.1)
            assert len(subscription._messages) <= 2
            assert [seq for _, seq in await seqs(subscription, 19)] == list(range(1, 20))


async def test_the_end_cancels_who_waits(path: Path) -> None:
    with publisher(path) as sock:
        async with EventSubscription(path, None) as subscription:
            await wishes(sock, 1)
            waiting = asyncio.ensure_future(subscription.next())
            await asyncio.sleep(0)
            subscription.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(RuntimeError):
                await subscription.next()
