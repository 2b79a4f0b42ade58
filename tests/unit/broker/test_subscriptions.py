"""What the event socket is told by subscribers."""

from __future__ import annotations

from broker.subscriptions import TOPICS_MAX, Subscriptions


def test_topics_are_prefixes_and_the_empty_one_is_everything() -> None:
    subscriptions = Subscriptions()
    subscriptions.receive(b"\1qemu")
    assert subscriptions.has_listeners(b"qemu")
    assert not subscriptions.has_listeners(b"test")
    subscriptions.receive(b"\1")
    assert subscriptions.has_listeners(b"test")
    subscriptions.receive(b"\0")
    assert not subscriptions.has_listeners(b"test")
    assert dict(subscriptions.summary()) == {"qemu": True}


def test_what_is_no_subscription_is_counted_and_forgotten() -> None:
    subscriptions = Subscriptions()
    for message in (b"", b"hello", b"\2x", b"\1" + b"x" * 200):
        subscriptions.receive(message)
    assert subscriptions.malformed == 4 and not subscriptions.summary()


def test_topics_are_bounded() -> None:
    subscriptions = Subscriptions()
    for number in range(2 * TOPICS_MAX):
        subscriptions.receive(b"\1%d" % number)
    assert len(subscriptions.summary()) == TOPICS_MAX
