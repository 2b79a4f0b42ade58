"""What hosts tell each other of guests that move, and the parameters of QEMU that are kept meanwhile."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from lxml import etree

from actors.qemu.migration.cookie_document import CookieCapabilities
from actors.qemu.migration.cookies import migration_cookie, parse_migration_cookie, write_migration_cookie
from actors.qemu.migration.qemu_parameters import (
    KeptParameters,
    kept_parameters,
    parameters_from_kept,
    parameters_from_reply,
)
from conf.document import parse_document
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from schema.errors import XmlError
from tests.shared import SHARED

HOST: Final = UUID("4a802f00-4cba-5df6-9679-a08c4c5b577f")
"""The host of libvirt's tests."""
_MANDATORY: Final = ("memory-hotplug", "cpu-hotplug")


def round_trip(case: dict[str, Any]) -> str:
    """A cookie as this host would tell it again."""
    source = (SHARED / "corpus" / case["input"]).read_bytes()
    cookie = parse_migration_cookie(source, _domain(case["inputs"]["status"]), HOST)
    cookie.hostname, cookie.host_uuid, cookie.features = "hostname", HOST, []
    cookie.capabilities = cookie.capabilities or CookieCapabilities()
    return write_migration_cookie(cookie)


def first_cookie(case: dict[str, Any]) -> str:
    """What a host tells of a running guest."""
    domain = _domain(case["input"])
    host = UUID(case["host_uuid"])
    return write_migration_cookie(migration_cookie(domain, case["hostname"], host, features=_MANDATORY))


def parameters_to_xml(case: dict[str, Any]) -> str:
    """QEMU's answer as a status document keeps it."""
    return _kept(_reply(case))


def parameters_round_trip(case: dict[str, Any], source: bytes) -> str:
    """Parameters of a status document, read and kept again."""
    node = parse_document(source).find("migParams")
    if node is None:
        raise XmlError("missing migParams element")
    return _kept(parameters_from_kept(KeptParameters.parse(node)))


def parameters_to_json(case: dict[str, Any]) -> str:
    """QEMU's answer as it is told again."""
    return json.dumps(_reply(case), indent=2) if _reply(case) else "{\n\n}"


def _kept(parameters: dict[str, Any]) -> str:
    out = ["<test>\n"]
    kept_parameters(parameters).write(out, "  ")
    return "".join(out) + "</test>\n"


def _domain(name: str) -> Domain:
    status = etree.parse(SHARED / "corpus" / name, etree.XMLParser(remove_blank_text=True)).getroot()
    node = status.find("domain")
    assert node is not None, name
    return Domain.parse(node, ParseFlags.STATUS)


def _reply(case: dict[str, Any]) -> dict[str, Any]:
    reply = json.loads((SHARED / "corpus" / case["input"]).read_text(encoding="utf-8"))
    return parameters_from_reply(reply["return"])
