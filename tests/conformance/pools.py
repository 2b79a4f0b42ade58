"""Storage pools of the corpus: what a host tells of them, and what they could be made of."""

from __future__ import annotations

from typing import Any

from conf.storage.capabilities import pool_capabilities, write_pool_capabilities
from conf.storage.pool import PoolType
from conf.storage.sources import sources_from_gluster, write_pool_sources
from tests.shared import SHARED


def capabilities(case: dict[str, Any]) -> str:
    """What a host tells that has all kinds, or those that the case names."""
    supported = case["supported"]
    return write_pool_capabilities(
        pool_capabilities(list(PoolType) if supported == "all" else [PoolType(one) for one in supported])
    )


def gluster_sources(case: dict[str, Any]) -> str:
    """What a Gluster server offers."""
    listing = (SHARED / "corpus" / case["input"]).read_bytes()
    return write_pool_sources(sources_from_gluster(listing, case["host"], PoolType(case["pool_type"])))
