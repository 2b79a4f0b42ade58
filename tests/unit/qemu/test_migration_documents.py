"""Cookies of guests that move, and parameters that are kept meanwhile."""

from __future__ import annotations

from uuid import UUID

import pytest

from actors.qemu.migration.cookies import migration_cookie, parse_migration_cookie, write_migration_cookie
from actors.qemu.migration.qemu_parameters import kept_parameters, parameters_from_kept, parameters_from_reply
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from schema.errors import InternalError, XmlError

HERE = UUID(int=1)
THERE = UUID(int=2)


def domain(graphics: str = "") -> Domain:
    """A guest that moves."""
    return parse_domain(
        f"<domain type='test'><name>d</name><uuid>{UUID(int=9)}</uuid><memory>1</memory>"
        f"<os><type arch='x86_64'>hvm</type></os><devices>{graphics}</devices></domain>"
    )


def test_a_cookie_is_understood_on_the_other_side() -> None:
    guest = domain("<graphics type='spice' port='5900'><listen type='address' address='10.0.0.1'/></graphics>")
    told = migration_cookie(guest, "here", HERE, features=["cpu-hotplug"])
    cookie = parse_migration_cookie(write_migration_cookie(told), guest, THERE)
    assert cookie == told
    assert cookie.graphics is not None
    assert (cookie.graphics.listen, cookie.graphics.tls_port) == ("10.0.0.1", -1)


def test_only_spice_viewers_go_along() -> None:
    assert migration_cookie(domain("<graphics type='vnc'/>"), "here", HERE).graphics is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<name>d<", "<name>e<", "unexpected name"),
        (str(UUID(int=9)), str(UUID(int=8)), "unexpected UUID"),
        (str(HERE), str(THERE), "same host"),
        ("cpu-hotplug", "telepathy", "Unknown migration cookie feature telepathy"),
        ("cpu-hotplug", "nbd", "Unsupported migration cookie feature nbd"),
    ],
)
def test_a_cookie_of_something_else_is_refused(old: str, new: str, said: str) -> None:
    text = write_migration_cookie(migration_cookie(domain(), "here", HERE, features=["cpu-hotplug"]))
    with pytest.raises(InternalError, match=said):
        parse_migration_cookie(text.replace(old, new), domain(), THERE, understood=["cpu-hotplug"])


def test_what_is_no_cookie_is_refused() -> None:
    with pytest.raises(XmlError):
        parse_migration_cookie("<cookie/>", domain(), THERE)


def test_parameters_survive_in_a_status_document() -> None:
    told = {"max-bandwidth": 5, "tls-creds": "x", "block-incremental": True, "odd": 1, "downtime-limit": "no"}
    found = parameters_from_reply(told)
    assert found == {"tls-creds": "x", "max-bandwidth": 5, "block-incremental": True}
    kept = kept_parameters(found)
    assert parameters_from_kept(kept) == found
    kept.parameters[1].value = "damaged"
    assert "max-bandwidth" not in parameters_from_kept(kept)
    assert kept_parameters({}).to_xml() == "<migParams>\n</migParams>\n"
