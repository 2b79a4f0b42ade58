"""Guests that move over TLS, memory and disks, between drivers with certificates of an authority of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import DomainStateError, InternalError, InvalidArguments, VirtError
from schema.objects import TypedParam
from tests.contract.house import House
from tests.process.certificates import Authority
from tests.real.houses import root
from tests.real.migration_steps import (
    LIVE,
    Traveller,
    ask,
    begin,
    confirm,
    emulators_below,
    finish,
    host,
    move,
    perform,
    prepare,
    runs,
    start,
)

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]
__all__ = ["root"]

TLS = int(LIVE | Flags.TLS)


def certificates(folder: Path, authority: str) -> Path:
    """A folder as QEMU wants it: of a host that others go to, and that goes to others."""
    made = Authority(folder / authority, authority)
    server, client = made.server(), made.client("host")
    place = folder / f"pki-{authority}"
    place.mkdir()
    shutil.copy(made.certificate, place / "ca-cert.pem")
    for end, where in (("server", server), ("client", client)):
        for what in ("cert", "key"):
            shutil.copy(where / f"{end}{what}.pem", place / f"{end}-{what}.pem")
    return place


@contextlib.asynccontextmanager
async def side(root: Path, name: str, pki: Path) -> AsyncIterator[House]:
    async with host(root, name) as house:
        config = house.runtime.config
        qemu = dataclasses.replace(config.qemu, migrate_tls_folder=str(pki))
        house.runtime.config = dataclasses.replace(config, qemu=qemu)
        yield house


async def objects_of(house: House, guest: Traveller) -> set[str]:
    told = await house.host.guests[guest.uuid.bytes].ask("qom-list", {"path": "/objects"})
    return {str(one["name"]) for one in told}


async def test_memory_and_disks_move_over_tls(root: Path) -> None:
    pki = certificates(root, "one")
    for name in ("a", "b"):
        (root / name).mkdir()
    here, there = root / "a" / "disk.raw", root / "b" / "disk.raw"
    here.write_bytes(os.urandom(1 << 20))
    guest = Traveller(
        more=f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{here}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    flags = TLS | int(Flags.NON_SHARED_DISK | Flags.NON_SHARED_SYNCHRONOUS_WRITES | Flags.PARALLEL)
    async with side(root, "a", pki) as source, side(root, "b", pki) as destination:
        await start(source, guest)
        shown = (await ask(source, "domain_get_xml_desc", dom=guest.ref, flags=1 << 3)).xml
        begun = await begin(
            source, guest, flags, TypedParam.of_string("destination_xml", shown.replace(str(here), str(there)))
        )
        prepared = await prepare(destination, guest, begun, flags, "tcp://127.0.0.1")
        assert "objlibvirt_migrate_tls0" in await objects_of(destination, guest)
        where = str(prepared.uri_out)
        cookie = await perform(source, guest, prepared.cookie_out, flags, where)
        await finish(destination, guest, cookie, flags)
        await confirm(source, guest, flags)
        assert await runs(destination, guest)
        assert there.read_bytes() == here.read_bytes()
        assert "objlibvirt_migrate_tls0" not in await objects_of(destination, guest)
        await ask(destination, "domain_destroy_flags", dom=guest.ref)


async def test_whoever_cannot_prove_itself_gets_nothing(root: Path) -> None:
    pki, other = certificates(root, "one"), certificates(root, "two")
    guest, uri = Traveller(), f"unix://{root}/m.sock"
    localhost = TypedParam.of_string("tls.destination", "localhost")
    async with side(root, "a", pki) as source, side(root, "b", pki) as destination:
        await start(source, guest)
        for way, wrong in (("destination", "elsewhere"), ("authority", "localhost")):
            begun = await begin(source, guest, TLS)
            prepared = await prepare(destination, guest, begun, TLS, uri)
            if way == "authority":
                config = source.runtime.config
                stranger = dataclasses.replace(config.qemu, migrate_tls_folder=str(other))
                source.runtime.config = dataclasses.replace(config, qemu=stranger)
            name = TypedParam.of_string("tls.destination", wrong)
            with pytest.raises(VirtError, match=r"migration out job|Connection closed"):
                await perform(source, guest, prepared.cookie_out, TLS, uri, name)
            with pytest.raises(VirtError):
                await finish(destination, guest, b"", TLS, cancelled=True)
            await confirm(source, guest, TLS, cancelled=True)
            assert await runs(source, guest) and emulators_below(root / "b") == [], way
            assert "objlibvirt_migrate_tls0" not in await objects_of(source, guest)
        with pytest.raises(InvalidArguments, match="Explicit destination hostname is required"):
            await perform(source, guest, b"", TLS, uri)
        with pytest.raises(DomainStateError, match="zero-copy is only available for parallel migration"):
            await begin(source, guest, int(LIVE | Flags.ZEROCOPY))
        config = source.runtime.config
        source.runtime.config = dataclasses.replace(
            config, qemu=dataclasses.replace(config.qemu, migrate_tls_folder=str(root / "none"))
        )
        with pytest.raises(DomainStateError, match="host migration TLS directory not configured"):
            await perform(source, guest, b"", TLS, uri, localhost)
        source.runtime.config = dataclasses.replace(
            config, qemu=dataclasses.replace(config.qemu, migrate_tls_folder=str(root / "a"))
        )
        with pytest.raises(InternalError, match="Unable to access credentials"):
            await perform(source, guest, b"", TLS, uri, localhost)
        source.runtime.config = dataclasses.replace(
            config, qemu=dataclasses.replace(config.qemu, migrate_tls_folder=str(pki))
        )
        await move(source, destination, guest, TLS, uri, localhost)
        assert await runs(destination, guest) and not await runs(source, guest)
        await ask(destination, "domain_destroy_flags", dom=guest.ref)
