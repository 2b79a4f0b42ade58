"""What pools could be made of, and which kinds a host has."""

from __future__ import annotations

import pytest

from conf.storage.capabilities import ORDER, parse_pool_capabilities, pool_capabilities, write_pool_capabilities
from conf.storage.pool import PoolType
from conf.storage.sources import parse_pool_sources, parse_source_spec, sources_from_gluster, write_pool_sources
from schema.errors import XmlDetailError, XmlError


def listing(*names: str) -> str:
    """What Gluster's tool says."""
    volumes = "".join(f"<volume><name>{name}</name></volume>" for name in names)
    return f"<cliOutput><volInfo><volumes>{volumes}<count>9</count></volumes></volInfo></cliOutput>"


def test_gluster_volumes_are_pools_of_two_kinds() -> None:
    of_netfs = write_pool_sources(sources_from_gluster(listing("a"), "h", PoolType.NETFS))
    assert "<dir path='a'/>" in of_netfs
    assert "<format type='glusterfs'/>" in of_netfs
    native = sources_from_gluster(listing("a", "b"), "h", PoolType.GLUSTER)
    assert [(one.name, one.dir) for one in native.sources] == [("a", "/"), ("b", "/")]
    assert parse_pool_sources(write_pool_sources(native)) == native


def test_a_listing_that_is_none_is_refused() -> None:
    with pytest.raises(XmlError, match="gluster volume name"):
        sources_from_gluster(listing(""), "h", PoolType.GLUSTER)
    with pytest.raises(XmlDetailError):
        sources_from_gluster("No volumes present", "h", PoolType.GLUSTER)


def test_nothing_found_is_an_open_element() -> None:
    assert write_pool_sources(sources_from_gluster(listing(), "h", PoolType.GLUSTER)) == "<sources>\n</sources>\n"


def test_where_to_look_is_a_source_of_its_own() -> None:
    assert parse_source_spec("<source><host name='h'/></source>").hosts[0].name == "h"
    with pytest.raises(XmlError):
        parse_source_spec("<pool/>")


def test_all_kinds_are_told_whether_the_host_has_them_or_not() -> None:
    assert set(ORDER) == set(PoolType)
    found = pool_capabilities([PoolType.DIR])
    assert [one.type for one in found.pools if one.supported] == [PoolType.DIR]
    assert parse_pool_capabilities(write_pool_capabilities(found)) == found
