"""Identities that are made up where a definition has none."""

from __future__ import annotations

from uuid import UUID

from conf.domain.rules import DomainRules


def new_uuid(rules: DomainRules) -> UUID:
    """A random identity."""
    return UUID(bytes=rules.random_bytes(16), version=4)


def new_mac(rules: DomainRules) -> str:
    """A random address below the driver's prefix."""
    return rules.mac_prefix + "".join(f":{byte:02x}" for byte in rules.random_bytes(3))
