"""Documents against libvirt's RELAX NG schemas, where those are installed on the host."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from lxml import etree

from schema.errors import OperationUnsupported, XmlInvalidSchema

SCHEMAS: Final = Path("/usr/share/libvirt/schemas")
_MAX_FINDINGS: Final = 20
_FILES: Final = {
    "capabilities": "capability.rng",
    "cpu": "cpu.rng",
    "domain": "domain.rng",
    "domainCapabilities": "domaincaps.rng",
    "domainbackup": "domainbackup.rng",
    "domaincheckpoint": "domaincheckpoint.rng",
    "domainsnapshot": "domainsnapshot.rng",
    "device": "nodedev.rng",
    "filter": "nwfilter.rng",
    "filterbinding": "nwfilterbinding.rng",
    "interface": "interface.rng",
    "network": "network.rng",
    "networkport": "networkport.rng",
    "pool": "storagepool.rng",
    "secret": "secret.rng",
    "storagepoolCapabilities": "storagepoolcaps.rng",
    "volume": "storagevol.rng",
}


def check_schema(node: etree._Element, schema: str | None = None, *, folder: Path = SCHEMAS) -> None:
    """Sees a document validate against a schema: the one that is named, or its root element's.

    Raises XmlInvalidSchema with what is wrong, OperationUnsupported when the host has no such schema.
    """
    name = schema or _FILES.get(str(node.tag))
    if name is None:
        raise OperationUnsupported(f"there is no schema for documents of '{etree.QName(node).localname}'")
    path = folder / name
    validator = _validator(path)
    if not validator.validate(node):
        found = "\n".join(entry.message for entry in list(validator.error_log)[:_MAX_FINDINGS])
        raise XmlInvalidSchema(f"Unable to validate doc against {path}\n{found}")


def has_schema(schema: str, *, folder: Path = SCHEMAS) -> bool:
    """Is the schema installed?"""
    return (folder / schema).is_file()


@cache
def _validator(path: Path) -> etree.RelaxNG:
    if not path.is_file():
        raise OperationUnsupported(f"cannot validate the document: the schema '{path}' is not installed")
    try:
        return etree.RelaxNG(file=str(path))
    except (etree.RelaxNGError, etree.XMLSyntaxError) as exc:
        raise OperationUnsupported(f"cannot validate the document: the schema '{path}' is broken: {exc}") from exc
