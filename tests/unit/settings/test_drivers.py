"""Which actor answers what for a URI."""

from __future__ import annotations

import pytest

from settings import drivers
from settings.drivers import Driver, NoDriverForUri, actor_for, driver_for_uri


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Driver]:
    """What is installed, instead of what this checkout holds."""
    found = [Driver("test", "actors.test", ("test",)), Driver("qemu", "actors.qemu", ("qemu",))]
    monkeypatch.setattr(drivers, "_own_drivers", lambda: tuple(found))
    monkeypatch.setattr(drivers, "known_drivers", lambda: tuple(found))
    return found


def test_the_driver_of_the_uri_answers_for_guests() -> None:
    assert actor_for("hypervisor", "test:///default") == "test"


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("test+unix:///default?socket=/x", "remote"),
        ("qemu+ssh://host/system", "remote"),
        ("qemu://host/system", "remote"),
        ("vz+tls://host/system", "remote"),
        ("test:///default", "test"),
        ("test:///a+b.xml", "test"),
    ],
)
def test_a_transport_or_a_host_leads_to_another_daemon(installed: list[Driver], uri: str, driver: str) -> None:
    installed.append(Driver("remote", "actors.remote"))
    assert actor_for("hypervisor", uri) == driver
    assert actor_for("network", uri) == driver


def test_a_self_contained_driver_answers_for_its_networks_and_pools() -> None:
    assert [actor_for(word, "test:///default") for word in ("network", "storage", "nodedev")] == ["test"] * 3


def test_a_local_driver_leaves_networks_to_the_secondary_actor_once_that_is_installed(
    installed: list[Driver],
) -> None:
    assert actor_for("network", "qemu:///system") == "qemu"
    installed.append(Driver("network", "actors.secondary.network"))
    assert actor_for("network", "qemu:///system") == "network"
    assert actor_for("hypervisor", "qemu:///system") == "qemu"


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NoDriverForUri, match=r"No driver for URI 'tset:///default'\. Known schemes: .*test"):
        driver_for_uri("tset:///default")
