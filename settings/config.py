"""Everything that can be set, with its default; read from one TOML file.

Each field's comment is its documentation: `virtroupe config` prints them, and an unknown key is an error that names it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

import msgspec

from settings.numbers import Positive, Seconds
from settings.qemu import QemuSettings


class ConfigError(ValueError):
    """The file cannot be used; the text names file and key."""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Routing, queues and liveness."""

    heartbeat_s: Seconds = 0.5  # how often an actor's heartbeat thread writes
    hang_after_s: Seconds = 4.0  # an actor without a beat or without progress for longer is fenced and replaced
    client_message_max: Positive = 16 * 1024 * 1024  # bytes of one message of a native client
    actor_message_max: Positive = 64 * 1024 * 1024  # bytes of one message of an actor or the gateway
    calls_per_client: Positive = 1024  # calls one client may have outstanding; one more is answered Busy
    calls_per_actor: Positive = 8192  # calls one actor may hold
    waiting_per_actor: Positive = 8192  # calls that may wait for an actor to start
    replay_records_max: Positive = 4096  # records of one replay part
    allow: tuple[
        str, ...
    ] = ()  # who besides root and the agent's own user may use the read-write door: "user:NAME", "group:NAME"


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The event journal."""

    sync: Literal["interval", "always"] = "interval"  # fdatasync within sync_interval_s, or before acknowledging
    sync_interval_s: Seconds = 0.05
    segment_bytes: Positive = 16 * 1024 * 1024
    retain_bytes: Positive = 1024 * 1024 * 1024  # a segment goes when the journal is larger than this
    retain_s: Seconds = 7 * 86400.0  # and the segment is older than this


@dataclass(frozen=True, slots=True)
class WardenSettings:
    """Restarts and their budget."""

    crashes_per_period: Positive = 10  # more crashes than this in crash_period_s and the actor is degraded
    crash_period_s: Seconds = 30.0  # the period of crashes_per_period
    backoff_first_s: float = 0.0  # wait before the first restart
    backoff_max_s: Seconds = 5.0  # the longest wait between restarts of an actor that never gets ready
    idle_stop_s: float = 0.0  # an actor without calls and guests for longer is stopped; 0: never
    start_timeout_s: Seconds = 30.0  # an actor that is not ready for longer is killed and replaced


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """Limits of one actor, `[actors.NAME]`."""

    memory_mib: Positive = 1024  # resident memory; above it the actor is stopped and started again
    open_files: Positive = 65536  # descriptors that it may hold; guests get the limit from before
    cgroup: bool = False  # the kernel keeps memory_mib and processes in a control group, where the agent may make one
    processes: Positive = 2048  # processes and threads that it may have in that group; guests are in none of it
    user: str = ""  # drops to this user when started as root; empty: stays
    idle_stop_s: float = -1.0  # -1: the warden's
    spare: bool = True  # a second process waits, imported, to take over at once; costs its memory
    autostart: bool = False  # started with the agent instead of at the first call
    changes_per_guest: Positive = 64  # calls that may wait for one guest's change lane
    queries_per_guest: Positive = 64  # reads that may ask one guest's hypervisor at once
    retain_calls_s: Seconds = 3600.0  # how long the outcome of a change with an idempotency key is kept


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """libvirt's RPC in front of the broker."""

    keepalive_interval_s: float = 5.0
    keepalive_count: Positive = 5
    max_clients: Positive = 5000
    max_greetings: Positive = 50  # clients that may be connected without having proved yet who they are
    max_client_requests: Positive = 5
    read_wait_s: Seconds = 0.05  # how long a cached read waits for the caller's own change to arrive
    fresh_s: Seconds = 2.0  # a source that was silent for longer is not answered from the cache
    documents_settle_s: float = 2.0  # unchanged for so long, a guest's XML is fetched for the cache; 0: never
    socket_group: str = ""  # group that may use the read-write socket; empty: the agent's own user only
    calls_in_flight: Positive = 8192
    drop_in: bool = False  # libvirt's own socket paths lead here, so that clients that are told nothing come here too
    listen_tls: str = ""  # "HOST:PORT" (":16514" for every address) to serve libvirt's clients over TLS
    tls_certificate: str = "/etc/pki/libvirt/servercert.pem"
    tls_key: str = "/etc/pki/libvirt/private/serverkey.pem"
    tls_authority: str = "/etc/pki/CA/cacert.pem"  # signs the certificates of clients; each must have one
    tls_revoked: str = ""  # the authority's list of certificates that are no good any more
    tls_allowed_names: tuple[str, ...] = ()  # patterns of clients' names, like "C=GB,O=Acme,CN=*"; empty: all
    listen_tcp: str = ""  # "HOST:PORT" to serve over bare TCP
    auth_tcp: Literal["sasl", "none"] = "sasl"  # by SASL, which then encrypts; "none" needs tcp_without_authentication
    tcp_without_authentication: bool = False  # with auth_tcp "none": whoever reaches listen_tcp may do everything
    auth_tls: Literal["sasl", "none"] = "none"  # what a client has to prove besides its certificate
    auth_unix: Literal["polkit", "sasl", "none"] = "none"  # what one has to prove besides reaching the socket
    auth_unix_read_only: Literal["polkit", "sasl", "none"] = "none"  # the same for the read-only socket
    sasl_mechanisms: tuple[str, ...] = ()  # those that clients may choose from; empty: as SASL's own file libvirt.conf
    sasl_database: str = ""  # a file of names and passwords, as saslpasswd2 writes it; empty: as SASL's own file says
    sasl_keytab: str = ""  # a file with the Kerberos key of libvirt/HOST, for GSSAPI; empty: as SASL's own file says
    sasl_allowed_names: tuple[str, ...] = ()  # patterns of names that may connect, like "*@EXAMPLE.COM"; empty: all
    polkit_bus: str = ""  # D-Bus address at which polkit is asked; empty: the system's
    allowed_addresses: tuple[str, ...] = ()  # networks from which clients may come over TCP and TLS; empty: all

    access_policy: str = (
        ""  # a TOML file that says who may do what (docs/access.md); empty: whoever is let in may do all
    )
    access_log_all: bool = False  # what the policy allows is logged too, not only what it refuses

    def __post_init__(self) -> None:
        if self.listen_tcp and self.auth_tcp == "none" and not self.tcp_without_authentication:
            raise ValueError(
                "'auth_tcp' is 'none', which needs 'tcp_without_authentication = true': nobody is asked who he is there"
            )
        for name in ("listen_tcp", "listen_tls"):
            address = getattr(self, name)
            host, _, port = address.rpartition(":")
            if address and not (port.isdecimal() and int(port) < 65536 and (":" not in host or host[:1] == "[")):
                raise ValueError(f"'{name}' is '{address}', not HOST:PORT")
        for network in self.allowed_addresses:
            ip_network(network, strict=False)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Structured logs on standard error, which supervisord files."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json: bool = False


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Prometheus endpoint; always on its unix socket."""

    listen: str = ""  # "127.0.0.1:9177" to serve it over TCP too


@dataclass(frozen=True, slots=True)
class TestSettings:
    """The test driver."""

    __test__ = False
    keep: bool = False  # keep the default state's changes when the last libvirt connection closes
    screenshot: str = "/usr/share/libvirt/test-screenshot.png"  # what screenshots show; without it, one of our own


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    broker: BrokerSettings = field(default_factory=BrokerSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    warden: WardenSettings = field(default_factory=WardenSettings)
    actors: dict[str, ActorSettings] = field(default_factory=dict)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    test: TestSettings = field(default_factory=TestSettings)
    qemu: QemuSettings = field(default_factory=QemuSettings)

    def actor(self, name: str) -> ActorSettings:
        """The limits of one actor."""
        return self.actors.get(name, ActorSettings())


def load_config(path: Path) -> Config:
    """The settings of a TOML file; all defaults when there is none. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"Cannot read '{path}': {exc}") from exc
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> Config:
    """The settings of a TOML text; `name` stands in its errors. Raises ConfigError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"'{name}' is not valid TOML: {exc}") from exc
    _check_keys(data, Config, name, "")
    try:
        return msgspec.convert(data, Config, strict=True)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"'{name}': {exc}") from exc


def _check_keys(data: dict[str, Any], cls: type, name: str, prefix: str) -> None:
    fields = msgspec.structs.fields(cls) if issubclass(cls, msgspec.Struct) else msgspec.inspect.type_info(cls).fields  # type: ignore[attr-defined]
    known = {f.name: f for f in fields}
    for key, value in data.items():
        if key not in known:
            raise ConfigError(f"'{name}': unknown key '{prefix}{key}'. Known here: {', '.join(sorted(known))}")
        info = known[key].type
        if isinstance(value, dict):
            if isinstance(info, msgspec.inspect.DataclassType):
                _check_keys(value, info.cls, name, f"{prefix}{key}.")
            elif isinstance(info, msgspec.inspect.DictType) and isinstance(
                info.value_type, msgspec.inspect.DataclassType
            ):
                for item, table in value.items():
                    if isinstance(table, dict):
                        _check_keys(table, info.value_type.cls, name, f"{prefix}{key}.{item}.")
