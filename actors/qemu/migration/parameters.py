"""What a caller says of a migration: by typed parameters, or by the few arguments of the older calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from schema.enums.typed_parameter import TypedParameterType as Type
from schema.errors import ArgumentUnsupported, InvalidArguments
from schema.objects import TypedParam

_STRINGS: Final = {
    "destination_name": "dname",
    "destination_xml": "dest_xml",
    "persistent_xml": "persist_xml",
    "migrate_uri": "uri",
    "graphics_uri": "graphics_uri",
    "listen_address": "listen",
    "disks_uri": "disks_uri",
    "tls.destination": "tls_destination",
}
_NUMBERS: Final = {
    "bandwidth": (Type.ULLONG, "bandwidth"),
    "bandwidth.postcopy": (Type.ULLONG, "postcopy_bandwidth"),
    "bandwidth.avail.switchover": (Type.ULLONG, "switchover_bandwidth"),
    "disks_port": (Type.INT, "disks_port"),
    "compression.mt.level": (Type.INT, "compress_level"),
    "compression.mt.threads": (Type.INT, "compress_threads"),
    "compression.mt.dthreads": (Type.INT, "decompress_threads"),
    "compression.xbzrle.cache": (Type.ULLONG, "xbzrle_cache"),
    "auto_converge.initial": (Type.INT, "throttle_initial"),
    "auto_converge.increment": (Type.INT, "throttle_increment"),
    "parallel.connections": (Type.INT, "channels"),
    "compression.zlib.level": (Type.INT, "zlib_level"),
    "compression.zstd.level": (Type.INT, "zstd_level"),
}
_METHODS: Final = ("mt", "xbzrle", "zlib", "zstd")


@dataclass(slots=True)
class MigrationParameters:
    """All of it; `bandwidth` and `postcopy_bandwidth` in MiB/s, None for what nobody has said."""

    dname: str | None = None
    dest_xml: str | None = None
    persist_xml: str | None = None
    uri: str | None = None
    graphics_uri: str | None = None
    listen: str | None = None
    disks_uri: str | None = None
    tls_destination: str | None = None
    bandwidth: int | None = None
    postcopy_bandwidth: int | None = None
    switchover_bandwidth: int | None = None
    disks_port: int | None = None
    compress_level: int | None = None
    compress_threads: int | None = None
    decompress_threads: int | None = None
    xbzrle_cache: int | None = None
    throttle_initial: int | None = None
    throttle_increment: int | None = None
    channels: int | None = None
    zlib_level: int | None = None
    zstd_level: int | None = None
    disks: list[str] = field(default_factory=list)
    compression: list[str] = field(default_factory=list)


def read_migration_parameters(params: Sequence[TypedParam]) -> MigrationParameters:
    """Raises ArgumentUnsupported for an unknown parameter, InvalidArguments for a wrong type or one said twice."""
    found = MigrationParameters()
    seen: set[str] = set()
    for param in params:
        name = param.field
        if name in ("migrate_disks", "compression"):
            _check_type(param, Type.STRING)
            if name == "compression" and param.value not in _METHODS:
                raise InvalidArguments(f"Unsupported compression method '{param.value}'")
            if name == "compression" and param.value in found.compression:
                raise InvalidArguments(f"Compression method '{param.value}' is specified twice")
            (found.disks if name == "migrate_disks" else found.compression).append(str(param.value))
            continue
        if name in seen:
            raise InvalidArguments(f"parameter '{name}' occurs multiple times")
        seen.add(name)
        if name in _STRINGS:
            _check_type(param, Type.STRING)
            setattr(found, _STRINGS[name], param.value)
        elif name in _NUMBERS:
            kind, attribute = _NUMBERS[name]
            _check_type(param, kind)
            setattr(found, attribute, param.value)
        else:
            raise ArgumentUnsupported(f"parameter '{name}' not supported")
    return found


def _check_type(param: TypedParam, wanted: Type) -> None:
    if param.type != wanted:
        raise InvalidArguments(
            f"invalid type '{Type(param.type).name.lower()}' for parameter '{param.field}', "
            f"expected '{wanted.name.lower()}'"
        )


def write_migration_parameters(values: MigrationParameters) -> list[TypedParam]:
    """The same as typed parameters, for the other side of the migration."""
    found: list[TypedParam] = []
    for name, attribute in _STRINGS.items():
        text: str | None = getattr(values, attribute)
        if text is not None:
            found.append(TypedParam.of_string(name, text))
    for name, (kind, attribute) in _NUMBERS.items():
        number: Any = getattr(values, attribute)
        if number is not None:
            found.append(TypedParam(name, int(kind), int(number)))
    found += [TypedParam.of_string("migrate_disks", one) for one in values.disks]
    found += [TypedParam.of_string("compression", one) for one in values.compression]
    return found
