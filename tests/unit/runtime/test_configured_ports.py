"""Secrets, volumes and networks of the host's configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from actors.runtime.configured_ports import SECRET_BYTES_MAX, configured_ports
from actors.runtime.ports import Ports
from schema.errors import HostSystemError, NoSuchNetwork, NoSuchSecret, NoSuchStoragePool, NoSuchStorageVol

NUMBER = UUID("6f1d4f0e-1c4f-4a6e-9d0c-5f5d1b6f2b10")


async def at_once(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    (tmp_path / "key").write_bytes(b"open\0sesame\n")
    (tmp_path / "long").write_bytes(bytes(SECRET_BYTES_MAX + 1))
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "disk.img").write_bytes(b"")
    key = str(tmp_path / "key")
    secrets = {
        str(NUMBER).upper(): key,
        "ceph:client.admin": key,
        "ceph:long": str(tmp_path / "long"),
        "ceph:gone": str(tmp_path / "gone"),
    }
    return configured_ports(secrets, {"images": str(tmp_path / "pool")}, {"default": "br7"}, at_once)


async def test_a_secret_is_found_by_uuid_or_by_use(ports: Ports) -> None:
    assert await ports.secrets.secret_value(uuid=NUMBER, usage_type="", usage="") == b"open\0sesame\n"
    assert await ports.secrets.secret_value(uuid=None, usage_type="ceph", usage="client.admin") == b"open\0sesame\n"


async def test_a_secret_that_is_not_configured_does_not_exist(ports: Ports) -> None:
    with pytest.raises(NoSuchSecret, match="no secret with matching usage"):
        await ports.secrets.secret_value(uuid=None, usage_type="iscsi", usage="client.admin")
    with pytest.raises(NoSuchSecret, match="no secret with matching uuid"):
        await ports.secrets.secret_value(uuid=UUID(int=1), usage_type="", usage="")


async def test_a_secret_that_cannot_be_read_is_told_with_its_file(ports: Ports) -> None:
    with pytest.raises(HostSystemError, match="gone"):
        await ports.secrets.secret_value(uuid=None, usage_type="ceph", usage="gone")
    with pytest.raises(HostSystemError, match="65536 bytes"):
        await ports.secrets.secret_value(uuid=None, usage_type="ceph", usage="long")


async def test_a_volume_is_a_file_of_its_pool(ports: Ports, tmp_path: Path) -> None:
    assert await ports.volumes.volume_path("images", "disk.img") == str(tmp_path / "pool" / "disk.img")
    with pytest.raises(NoSuchStoragePool, match="'other'"):
        await ports.volumes.volume_path("other", "disk.img")


@pytest.mark.parametrize("name", ["absent", "", ".", "..", "../key", "a/b", "a\0b"])
async def test_what_is_no_volume_of_the_pool_is_not_found(ports: Ports, name: str) -> None:
    with pytest.raises(NoSuchStorageVol):
        await ports.volumes.volume_path("images", name)


async def test_a_network_is_its_bridge(ports: Ports) -> None:
    assert await ports.networks.network_bridge("default") == "br7"
    with pytest.raises(NoSuchNetwork, match="no network with matching name 'other'"):
        await ports.networks.network_bridge("other")
