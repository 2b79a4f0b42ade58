"""Definitions in files that hold a guest's memory, shown and changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from actors.qemu.definitions import read_definition
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.saved.header import SavedImage
from actors.qemu.saved.image import read_header, write_header
from actors.runtime.calls import Calls
from conf.domain.compat import check_compatible
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainSaveImageXMLFlags as ImageFlags
from schema.enums.domain import DomainSaveRestoreFlags as SaveFlags
from schema.errors import DomainStateError, InvalidArguments
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_STATES: Final = int(SaveFlags.RUNNING | SaveFlags.PAUSED)
_KEPT: Final = XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.MIGRATABLE


async def changed_image(host: QemuHost, image: SavedImage, xml: str) -> SavedImage:
    """The image with another definition.

    Raises XmlError and ConfigUnsupported, also for one by which the guest would see other hardware.
    """
    old, new = await read_definition(host, image.xml, ran=True), await read_definition(host, xml)
    check_compatible(old, new)
    return replace(image, xml=write_domain(new, _KEPT))


async def _describe(host: QemuHost, path: Path, flags: int) -> str:
    definition = await read_definition(host, read_header(path).xml, ran=True)
    secure = XmlFlags.SECURE if flags & ImageFlags.SECURE else XmlFlags.NONE
    return write_domain(definition, XmlFlags.INACTIVE | XmlFlags.MIGRATABLE | secure)


async def _define(host: QemuHost, path: Path, xml: str, flags: int) -> None:
    if flags & SaveFlags.RUNNING and flags & SaveFlags.PAUSED:
        raise InvalidArguments("VIR_DOMAIN_SAVE_RUNNING and VIR_DOMAIN_SAVE_PAUSED are mutually exclusive")
    image = read_header(path)
    changed = await changed_image(host, image, xml)
    running = bool(flags & SaveFlags.RUNNING) or (image.was_running and not flags & SaveFlags.PAUSED)
    if (changed.xml, running) != (image.xml, image.was_running):
        write_header(
            path,
            changed.xml,
            running=running,
            complete=True,
            cookie=image.cookie,
            length=image.length,
            compression=image.compression,
        )


def _managed(host: QemuHost, dom: DomainRef) -> Path:
    path = host.managed_save_path(host.guest(dom))
    if not path.exists():
        raise DomainStateError("domain does not have managed save image")
    return path


@calls.handles()
async def domain_save_image_get_xml_desc(host: QemuHost, file: str, flags: int) -> str:
    """The definition in a file. Raises OperationFailed for a file that holds no guest, HostSystemError."""
    check_flags(flags, int(ImageFlags.SECURE), "qemuDomainSaveImageGetXMLDesc")
    return await _describe(host, Path(file), flags)


@calls.handles()
async def domain_save_image_define_xml(host: QemuHost, file: str, dxml: str, flags: int) -> None:
    """Changes the definition in a file, or whether the guest will run.

    Raises OperationFailed for a file that holds no guest or has no room, XmlError, ConfigUnsupported when the guest
    would see other hardware, HostSystemError.
    """
    check_flags(flags, _STATES, "qemuDomainSaveImageDefineXML")
    await _define(host, Path(file), dxml, flags)


@calls.handles(key="dom", lane="query")
async def domain_managed_save_get_xml_desc(host: QemuHost, dom: DomainRef, flags: int) -> str:
    """The definition with which a sleeping guest will wake. Raises NoSuchDomain, DomainStateError when it is awake."""
    check_flags(flags, int(ImageFlags.SECURE), "qemuDomainManagedSaveGetXMLDesc")
    return await _describe(host, _managed(host, dom), flags)


@calls.handles(key="dom")
async def domain_managed_save_define_xml(host: QemuHost, dom: DomainRef, dxml: str | None, flags: int) -> None:
    """Changes the definition with which a sleeping guest will wake.

    Raises NoSuchDomain, DomainStateError when it is awake, and what changing a file raises.
    """
    check_flags(flags, _STATES, "qemuDomainManagedSaveDefineXML")
    await _define(host, _managed(host, dom), dxml or "", flags)
