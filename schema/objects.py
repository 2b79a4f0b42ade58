"""The values that several procedures share, as static classes: references to objects, typed parameters, records.

They travel as positional arrays in the order of `structs.txt`, which is also the order of the XDR encoding.
A reference names an object, it does not describe it: handlers look the object up by its uuid (or key) and trust
neither the name nor the id that a client sent along.
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from msgspec import Meta, Struct

STRING_MAX: Final = 4194304

Int = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Uint = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Hyper = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Uhyper = Annotated[int, Meta(ge=0)]  # msgpack has no integer above 64 bits, and msgspec no bound that high
Char = Annotated[int, Meta(ge=-128, le=127)]
Uchar = Annotated[int, Meta(ge=0, le=255)]
Short = Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)]
Ushort = Annotated[int, Meta(ge=0, le=2**16 - 1)]
String = Annotated[str, Meta(max_length=STRING_MAX)]
Uuid = Annotated[bytes, Meta(min_length=16, max_length=16)]


class WireRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A struct of the protocol, written as a positional array."""


class DomainRef(WireRecord, frozen=True):
    """A guest; `id` is -1 while it is off."""

    name: String
    uuid: Uuid
    id: Int = -1


class NetworkRef(WireRecord, frozen=True):
    """A virtual network."""

    name: String
    uuid: Uuid


class NetworkPortRef(WireRecord, frozen=True):
    """A guest's connection to a virtual network."""

    net: NetworkRef
    uuid: Uuid


class NWFilterRef(WireRecord, frozen=True):
    """A set of packet filter rules."""

    name: String
    uuid: Uuid


class NWFilterBindingRef(WireRecord, frozen=True):
    """A filter in force on one host interface."""

    portdev: String
    filtername: String


class InterfaceRef(WireRecord, frozen=True):
    """A network interface of the host."""

    name: String
    mac: String


class StoragePoolRef(WireRecord, frozen=True):
    """A place that holds volumes."""

    name: String
    uuid: Uuid


class StorageVolRef(WireRecord, frozen=True):
    """A volume in a pool; `key` is unique on the host."""

    pool: String
    name: String
    key: String


class NodeDeviceRef(WireRecord, frozen=True):
    """A device of the host."""

    name: String


class SecretRef(WireRecord, frozen=True):
    """A secret, without its value."""

    uuid: Uuid
    usageType: Int  # noqa: N815  (the wire's own field name)
    usageID: String  # noqa: N815


class DomainCheckpointRef(WireRecord, frozen=True):
    """A point in a guest's block history."""

    name: String
    dom: DomainRef


class DomainSnapshotRef(WireRecord, frozen=True):
    """A saved state of a guest."""

    name: String
    dom: DomainRef


class ErrorRecord(WireRecord, frozen=True):
    """An error as libvirt's own protocol carries it."""

    code: Int
    domain: Int
    message: String | None
    level: Int
    dom: DomainRef | None
    str1: String | None
    str2: String | None
    str3: String | None
    int1: Int
    int2: Int
    net: NetworkRef | None


_INTEGER_RANGES: Final = (
    (1, 0),  # 0 is no type: an empty range refuses every value
    (-(2**31), 2**31 - 1),
    (0, 2**32 - 1),
    (-(2**63), 2**63 - 1),
    (0, 2**64 - 1),
    (1, 0),
    (0, 1),
)


class TypedParam(WireRecord, frozen=True):
    """A named value that says its own type.

    Made, or read from the wire, with a value that its type does not allow, it raises ValueError.
    """

    field: String
    type: Annotated[int, Meta(ge=1, le=7)]
    value: int | float | String

    def __post_init__(self) -> None:
        kind = self.type
        value = self.value
        python_type = type(value)
        if python_type is int:
            if 1 <= kind <= 6:
                low, high = _INTEGER_RANGES[kind]
                if low <= value <= high:  # type: ignore[operator]
                    return
        elif python_type is float:
            if kind == 5:
                return
        elif python_type is str and kind == 7:
            return
        raise ValueError(f"parameter '{self.field}': {value!r} is not a value of type {kind}")

    @classmethod
    def of_int(cls, field: str, value: int) -> Self:
        return cls(field, 1, int(value))

    @classmethod
    def of_uint(cls, field: str, value: int) -> Self:
        return cls(field, 2, int(value))

    @classmethod
    def of_llong(cls, field: str, value: int) -> Self:
        return cls(field, 3, int(value))

    @classmethod
    def of_ullong(cls, field: str, value: int) -> Self:
        return cls(field, 4, int(value))

    @classmethod
    def of_double(cls, field: str, value: float) -> Self:
        return cls(field, 5, float(value))

    @classmethod
    def of_boolean(cls, field: str, value: bool) -> Self:
        return cls(field, 6, 1 if value else 0)

    @classmethod
    def of_string(cls, field: str, value: str) -> Self:
        return cls(field, 7, value)


class SecurityLabel(WireRecord, frozen=True):
    """The label of a guest under one security model."""

    label: Annotated[bytes, Meta(max_length=4097)]
    enforcing: Int


class VcpuInfo(WireRecord, frozen=True):
    """What one virtual CPU does and where."""

    number: Uint
    state: Int
    cpu_time: Uhyper
    cpu: Int


class NodeCpuStat(WireRecord, frozen=True):
    """One counter of the host's processors."""

    field: String
    value: Uhyper


class NodeMemoryStat(WireRecord, frozen=True):
    """One counter of the host's memory."""

    field: String
    value: Uhyper


class DomainDiskError(WireRecord, frozen=True):
    """A disk of a guest that reported an error."""

    disk: String
    error: Int


class DomainMemoryStat(WireRecord, frozen=True):
    """One counter of a guest's memory."""

    tag: Int
    val: Uhyper


class DomainIothreadInfo(WireRecord, frozen=True):
    """An I/O thread and the host CPUs it may use."""

    iothread_id: Uint
    cpumap: Annotated[bytes, Meta(max_length=2048)]


class GraphicsAddress(WireRecord, frozen=True):
    """One end of a graphics connection."""

    family: Int
    node: String
    service: String


class GraphicsIdentity(WireRecord, frozen=True):
    """Who a graphics client proved to be."""

    type: String
    name: String


class NetworkDhcpLease(WireRecord, frozen=True):
    """An address that a virtual network lent to a guest."""

    iface: String
    expirytime: Hyper
    type: Int
    mac: String | None
    iaid: String | None
    ipaddr: String
    prefix: Uint
    hostname: String | None
    clientid: String | None


class DomainStatsRecord(WireRecord, frozen=True):
    """Bulk statistics of one guest."""

    dom: DomainRef
    params: Annotated[list[TypedParam], Meta(max_length=262144)]


class DomainFsinfo(WireRecord, frozen=True):
    """A file system mounted inside a guest."""

    mountpoint: String
    name: String
    fstype: String
    dev_aliases: Annotated[list[String], Meta(max_length=256)]


class DomainIpAddr(WireRecord, frozen=True):
    """An address of a guest's interface."""

    type: Int
    addr: String
    prefix: Uint


class DomainInterface(WireRecord, frozen=True):
    """A guest's interface with its addresses."""

    name: String
    hwaddr: String | None
    addrs: Annotated[list[DomainIpAddr], Meta(max_length=2048)]


class AdminServerRef(WireRecord, frozen=True):
    """A server inside the daemon that the admin program controls."""

    name: String


class AdminClientRef(WireRecord, frozen=True):
    """A client of such a server."""

    srv: AdminServerRef
    id: Uhyper
    timestamp: Hyper
    transport: Uint


CLASSES: Final[dict[str, type[WireRecord]]] = {
    "domain": DomainRef,
    "network": NetworkRef,
    "network_port": NetworkPortRef,
    "nwfilter": NWFilterRef,
    "nwfilter_binding": NWFilterBindingRef,
    "interface": InterfaceRef,
    "storage_pool": StoragePoolRef,
    "storage_vol": StorageVolRef,
    "node_device": NodeDeviceRef,
    "secret": SecretRef,
    "domain_checkpoint": DomainCheckpointRef,
    "domain_snapshot": DomainSnapshotRef,
    "error": ErrorRecord,
    "typed_param": TypedParam,
    "security_label": SecurityLabel,
    "vcpu_info": VcpuInfo,
    "node_get_cpu_stats": NodeCpuStat,
    "node_get_memory_stats": NodeMemoryStat,
    "domain_disk_error": DomainDiskError,
    "domain_memory_stat": DomainMemoryStat,
    "domain_iothread_info": DomainIothreadInfo,
    "domain_event_graphics_address": GraphicsAddress,
    "domain_event_graphics_identity": GraphicsIdentity,
    "network_dhcp_lease": NetworkDhcpLease,
    "domain_stats_record": DomainStatsRecord,
    "domain_fsinfo": DomainFsinfo,
    "domain_ip_addr": DomainIpAddr,
    "domain_interface": DomainInterface,
    "admin_server": AdminServerRef,
    "admin_client": AdminClientRef,
}
"""The class of each struct of `structs.txt`."""
