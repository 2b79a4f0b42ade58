"""Messages are four frames; what is not must not take anybody else's message with it."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from broker.calls import Caller
from broker.policy import CallerKind
from broker.sockets import RCVMORE, Router

HEADER = b"\1\1" + bytes(14)


class Frames:
    """What a socket gives: messages of frames, and whether more of the same message follow the last one."""

    def __init__(self, messages: list[list[bytes]]) -> None:
        self._left = deque((frame, index + 1 < len(m)) for m in messages for index, frame in enumerate(m))
        self._more = False

    def recv(self, flags: int) -> bytes:
        if not self._left:
            raise zmq.Again
        frame, self._more = self._left.popleft()
        return frame

    def get(self, option: int) -> int:
        assert option == RCVMORE
        return int(self._more)


def router_of(messages: list[list[bytes]], *granted: bytes) -> Router:
    router = Router.__new__(Router)
    frames = Frames(messages)
    parts: dict[str, Any] = {
        "_recv": frames.recv,
        "_get": frames.get,
        "_begun": None,
        "granted": {name: Caller(name, CallerKind.CLIENT, {}, limit=1) for name in granted},
        "received": 0,
        "strangers": 0,
        "malformed": 0,
    }
    for name, value in parts.items():
        setattr(router, name, value)
    return router


def received(router: Router) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    while True:
        try:
            message = router.receive()
        except zmq.Again:
            return found
        if message is not None:
            found.append((message[0].routing_id, message[3]))


A, B = b"c" + b"a" * 16, b"c" + b"b" * 16


def good(source: bytes, body: bytes = b"body") -> list[bytes]:
    return [source, b"test", HEADER, body]


def test_whole_messages_are_received() -> None:
    assert received(router_of([good(A, b"1"), good(B, b"2"), good(A, b"")], A, B)) == [(A, b"1"), (B, b"2"), (A, b"")]


def test_messages_of_strangers_are_dropped_whole() -> None:
    router = router_of([good(b"x"), [b"y", b""], [b"z"] * 9, good(A)], A)
    assert received(router) == [(A, b"body")]
    assert router.strangers == 3


@pytest.mark.parametrize(
    "bad",
    [
        [A, b""],
        [A, b"test"],
        [A, b"test", HEADER],
        [A, b"test", b"short"],
        [A, b"test", b"short", b"body"],
        [A, b"test", HEADER, b"body", b"more"],
        [A, b"test", HEADER, b"body", A],
        [A, b"test", HEADER, A],
        [A, b"test", HEADER, b"body", b"more", b"and more"],
        [A, A, A, A, A, A],
        [A] * 7,
    ],
)
def test_a_message_of_another_form_takes_no_other_message_with_it(bad: list[bytes]) -> None:
    router = router_of([good(B, b"before"), bad, good(B, b"after"), bad, bad, good(B, b"last")], A, B)
    assert [body for source, body in received(router) if source == B] == [b"before", b"after", b"last"]


FRAME = st.sampled_from([A, b"test", HEADER, b"", b"x", b"y" * 300])


@given(st.lists(st.lists(FRAME, min_size=1, max_size=7), max_size=6))
def test_whatever_one_peer_sends_every_message_of_the_others_arrives(bad: list[list[bytes]]) -> None:
    messages: list[list[bytes]] = [good(B, b"0")]
    for number, frames in enumerate(bad, 1):
        messages += [[A, *frames], [b"stranger", *frames], good(B, b"%d" % number)]
    router = router_of(messages, A, B)
    assert [body for source, body in received(router) if source == B] == [b"%d" % n for n in range(len(bad) + 1)]
