"""Who listens to which source: what the event socket is told, counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TOPIC_MAX: Final = 128
TOPICS_MAX: Final = 1024

_SUBSCRIBE: Final = 1
_UNSUBSCRIBE: Final = 0


class Subscriptions:
    """Topics with at least one subscriber; the socket reports the first and the last of each."""

    def __init__(self) -> None:
        self._topics: set[bytes] = set()
        self.malformed = 0

    def receive(self, message: bytes) -> None:
        """What came in on the event socket; anything that is no subscription is counted and forgotten."""
        kind, topic = message[:1], message[1:]
        if len(topic) > TOPIC_MAX or kind not in (b"\0", b"\1"):
            self.malformed += 1
        elif kind[0] == _UNSUBSCRIBE:
            self._topics.discard(topic)
        elif len(self._topics) < TOPICS_MAX:
            self._topics.add(topic)

    def has_listeners(self, source: bytes) -> bool:
        """Whether somebody listens to a source."""
        return any(source.startswith(topic) for topic in self._topics)

    def summary(self) -> Mapping[str, bool]:
        """The topics, for people."""
        return {topic.decode("utf-8", "replace") or "*": True for topic in sorted(self._topics)}
