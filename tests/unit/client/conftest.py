"""A connection whose driver is a script."""

from __future__ import annotations

import pytest

from client.connection import Connection
from settings import drivers
from settings.drivers import Driver
from tests.fakes.link import FakeLink
from tests.unit.client.guests import SCOPE


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (Driver("test", "actors.test", ("test",)), Driver("qemu", "actors.qemu", ("qemu",)))
    monkeypatch.setattr(drivers, "_own_drivers", lambda: found)
    monkeypatch.setattr(drivers, "known_drivers", lambda: found)


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def conn(link: FakeLink) -> Connection:
    return Connection(link, SCOPE, SCOPE)
