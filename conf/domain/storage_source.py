"""Where the bytes of a disk are: `<source>` by the disk's type."""

from enum import StrEnum

from conf.domain.address import SourcePciAddress
from conf.domain.seclabel import SourceSeclabel, visible_labels
from conf.domain.secrets import Auth, Encryption
from conf.domain.status_parts import ImagePrivate, in_status
from conf.element import Element, Empty, attr, child, children, content, value
from conf.faults import lacking, malformed, unsupported
from conf.flags import XmlFlags
from conf.values import UINT, ULONG, YES_NO
from schema.errors import InvalidArguments, XmlError

_STATUS = XmlFlags.STATUS.value


class SourceType(StrEnum):
    """The kinds of places."""

    FILE = "file"
    BLOCK = "block"
    DIR = "dir"
    NETWORK = "network"
    VOLUME = "volume"
    NVME = "nvme"
    VHOSTUSER = "vhostuser"


class StartupPolicy(StrEnum):
    """What happens when the source is not there at start."""

    MANDATORY = "mandatory"
    REQUISITE = "requisite"
    OPTIONAL = "optional"


class Protocol(StrEnum):
    """The network protocols of storage."""

    NBD = "nbd"
    RBD = "rbd"
    SHEEPDOG = "sheepdog"
    GLUSTER = "gluster"
    ISCSI = "iscsi"
    HTTP = "http"
    HTTPS = "https"
    FTP = "ftp"
    FTPS = "ftps"
    TFTP = "tftp"
    SSH = "ssh"
    VXHS = "vxhs"
    NFS = "nfs"


class Transport(StrEnum):
    """How a storage server is reached."""

    TCP = "tcp"
    UNIX = "unix"
    RDMA = "rdma"


_SLICE = lacking(XmlError, "missing offset or size attribute of slice")
_BAD_SLICE = malformed("malformed offset or size attribute of slice")


class Slice(Element, tag="slice"):
    """A part of the source."""

    type: str = attr("type", str)
    offset: int = attr("offset", ULONG, missing=_SLICE, bad=_BAD_SLICE)
    size: int = attr("size", ULONG, missing=_SLICE, bad=_BAD_SLICE)


def _bad_port(text: str) -> InvalidArguments:
    return InvalidArguments(f"failed to parse port number '{text}'")


class Host(Element, tag="host"):
    """A storage server."""

    name: str | None = attr("name", str, default=None)
    port: int | None = attr("port", UINT, default=None, bad=_bad_port)
    transport: Transport | None = attr(
        "transport", Transport, default=None, bad=unsupported("unknown protocol transport type '{}'")
    )
    socket: str | None = attr("socket", str, default=None)


class Cookie(Element, tag="cookie"):
    """A cookie sent to an HTTP server."""

    name: str = attr("name", str, missing=lacking(XmlError, "missing cookie name"), blank=True)
    value: str | None = content(str, default=None)


class PersistentReservations(Element, tag="reservations"):
    """Who handles SCSI persistent reservations."""

    class Source(Element, tag="source"):
        """The socket of the helper."""

        type: str | None = attr("type", str, default=None)
        path: str | None = attr("path", str, default=None)
        mode: str | None = attr("mode", str, default=None)

    managed: bool = attr("managed", YES_NO)
    source: Source | None = child(Source, default=None)


class Initiator(Element, tag="initiator"):
    """Who the host is to an iSCSI server."""

    iqn: str | None = value("iqn", "name", str, default=None)


class NfsIdentity(Element, tag="identity"):
    """Who the host is to an NFS server."""

    user: str | None = attr("user", str, default=None)
    group: str | None = attr("group", str, default=None)


class Readahead(Element, tag="readahead"):
    """How far an HTTP client reads ahead."""

    size: int = attr("size", ULONG, bad=malformed("invalid readahead size or timeout"))


class StorageSource(Element, tag="source", empty=Empty.OMIT):
    """Any source of a disk; `index` numbers the images of a running guest."""

    index: int | None


class FileSource(StorageSource, case="file", empty=Empty.OMIT):
    """A file of the host."""

    file: str | None = attr("file", str, default=None)
    fdgroup: str | None = attr("fdgroup", str, default=None)
    startup_policy: StartupPolicy | None = attr("startupPolicy", StartupPolicy, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    slices: list[Slice] = children(Slice, within="slices", default=[])
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: visible_labels(self.seclabels, flags)
    )
    auth: Auth | None = child(Auth, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
    reservations: PersistentReservations | None = child(PersistentReservations, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


class BlockSource(StorageSource, case="block", empty=Empty.OMIT):
    """A block device of the host."""

    dev: str | None = attr("dev", str, default=None)
    fdgroup: str | None = attr("fdgroup", str, default=None)
    startup_policy: StartupPolicy | None = attr("startupPolicy", StartupPolicy, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    slices: list[Slice] = children(Slice, within="slices", default=[])
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: visible_labels(self.seclabels, flags)
    )
    auth: Auth | None = child(Auth, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
    reservations: PersistentReservations | None = child(PersistentReservations, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


class DirSource(StorageSource, case="dir", empty=Empty.OMIT):
    """A folder of the host, shown as a FAT disk."""

    dir: str | None = attr("dir", str, default=None)
    startup_policy: StartupPolicy | None = attr("startupPolicy", StartupPolicy, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: visible_labels(self.seclabels, flags)
    )
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


class NetworkSource(StorageSource, case="network", empty=Empty.OMIT):
    """An image on a storage server."""

    protocol: Protocol = attr("protocol", Protocol)
    name: str | None = attr("name", str, default=None)
    query: str | None = attr("query", str, default=None)
    tls: bool | None = attr("tls", YES_NO, default=None)
    tls_hostname: str | None = attr("tlsHostname", str, default=None)
    tls_from_config: int | None = attr(
        "tlsFromConfig",
        UINT,
        default=None,
        shown=lambda self, flags: (self.tls_from_config or 0) if flags & _STATUS else None,
    )
    startup_policy: StartupPolicy | None = attr("startupPolicy", StartupPolicy, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    hosts: list[Host] = children(Host, default=[])
    identity: NfsIdentity | None = child(NfsIdentity, default=None)
    snapshot: str | None = value("snapshot", "name", str, default=None)
    config: str | None = value("config", "file", str, default=None)
    initiator: Initiator | None = child(Initiator, default=None)
    ssl_verify: bool | None = value("ssl", "verify", YES_NO, default=None)
    cookies: list[Cookie] = children(
        Cookie, within="cookies", default=[], shown=lambda self, flags: self.cookies if flags & 1 else []
    )
    readahead: Readahead | None = child(Readahead, default=None)
    timeout_s: int | None = value(
        "timeout", "seconds", UINT, default=None, bad=malformed("invalid readahead size or timeout")
    )
    slices: list[Slice] = children(Slice, within="slices", default=[])
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: visible_labels(self.seclabels, flags)
    )
    auth: Auth | None = child(Auth, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
    reservations: PersistentReservations | None = child(PersistentReservations, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


_half_volume = lacking(XmlError, "'pool' and 'volume' must be specified together for 'pool' type source")


class VolumeSource(StorageSource, case="volume", empty=Empty.OMIT):
    """A volume of a storage pool."""

    pool: str = attr("pool", str, missing=_half_volume)
    volume: str = attr("volume", str, missing=_half_volume)
    mode: str | None = attr("mode", str, default=None)
    startup_policy: StartupPolicy | None = attr("startupPolicy", StartupPolicy, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    slices: list[Slice] = children(Slice, within="slices", default=[])
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: visible_labels(self.seclabels, flags)
    )
    auth: Auth | None = child(Auth, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
    reservations: PersistentReservations | None = child(PersistentReservations, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


class NvmeSource(StorageSource, case="nvme", empty=Empty.OMIT):
    """A namespace of an NVMe controller that the guest drives itself."""

    type: str = attr("type", str, missing=lacking(XmlError, "missing 'type' attribute to disk source"))
    managed: bool | None = attr("managed", YES_NO, default=None)
    namespace_id: int = attr(
        "namespace", ULONG, missing=lacking(XmlError, "missing 'namespace' attribute to disk source")
    )
    index: int | None = attr("index", UINT, default=None, live=True)
    address: SourcePciAddress | None = child(SourcePciAddress, default=None)
    slices: list[Slice] = children(Slice, within="slices", default=[])
    encryption: Encryption | None = child(Encryption, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


class VhostUserSource(StorageSource, case="vhostuser", empty=Empty.OMIT):
    """The socket of a vhost-user-blk server."""

    class Reconnect(Element, tag="reconnect"):
        """When to try again."""

        enabled: bool | None = attr("enabled", YES_NO, default=None)
        timeout_s: int | None = attr("timeout", UINT, default=None)

    type: str = attr("type", str, missing=lacking(XmlError, "missing 'type' attribute for vhostuser disk source"))
    path: str | None = attr("path", str, default=None)
    mode: str | None = attr("mode", str, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    reconnect: Reconnect | None = child(Reconnect, default=None)
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))


SOURCES = (FileSource, BlockSource, DirSource, NetworkSource, VolumeSource, NvmeSource, VhostUserSource)
