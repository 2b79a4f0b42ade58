"""The public face of the library: every name that a program imports as `virtroupe.NAME`."""

from __future__ import annotations

from broker.wire import Cursor
from client import errors, sync
from client.calling import Called, CallOptions
from client.connecting import connect
from client.connection import Connection
from client.console import Console
from client.domain import Domain
from client.errors import (
    AgentUnreachable,
    Busy,
    CallPending,
    CallUndone,
    Cancelled,
    DeadlinePassed,
    DomainExists,
    DomainStateError,
    DriverDegraded,
    DriverGone,
    DriverStopped,
    InvalidArguments,
    NoConnection,
    NoSuchDomain,
    NoSuchNetwork,
    NoSuchStoragePool,
    OperationDenied,
    UnsupportedCall,
    VirtError,
)
from client.event import Event, KnownObject, ObjectName, Resync
from client.events import EventStream
from client.facts import DomainInfo, DomainStateInfo, NodeInfo, Version
from client.guests import Guest
from client.lifecycle import lifecycle_of
from client.network import Network
from client.outcome import Outcome, OutcomeState
from client.snapshot import Snapshot
from client.storage_pool import StoragePool, StoragePoolInfo
from schema.enums.connect import ConnectListAllDomainsFlags
from schema.enums.domain import (
    DomainConsoleFlags,
    DomainCreateFlags,
    DomainDefineFlags,
    DomainDestroyFlags,
    DomainMetadataType,
    DomainModificationImpact,
    DomainRebootFlags,
    DomainSaveRestoreFlags,
    DomainShutdownFlags,
    DomainUndefineFlags,
    DomainXMLFlags,
)
from schema.enums.domain_event import DomainEventType
from schema.enums.domain_resources import DomainMemoryModFlags, DomainMemoryStatTags, DomainVcpuFlags
from schema.enums.domain_state import DomainState

__all__ = [
    "AgentUnreachable",
    "Busy",
    "CallOptions",
    "CallPending",
    "CallUndone",
    "Called",
    "Cancelled",
    "ConnectListAllDomainsFlags",
    "Connection",
    "Console",
    "Cursor",
    "DeadlinePassed",
    "Domain",
    "DomainConsoleFlags",
    "DomainCreateFlags",
    "DomainDefineFlags",
    "DomainDestroyFlags",
    "DomainEventType",
    "DomainExists",
    "DomainInfo",
    "DomainMemoryModFlags",
    "DomainMemoryStatTags",
    "DomainMetadataType",
    "DomainModificationImpact",
    "DomainRebootFlags",
    "DomainSaveRestoreFlags",
    "DomainShutdownFlags",
    "DomainState",
    "DomainStateError",
    "DomainStateInfo",
    "DomainUndefineFlags",
    "DomainVcpuFlags",
    "DomainXMLFlags",
    "DriverDegraded",
    "DriverGone",
    "DriverStopped",
    "Event",
    "EventStream",
    "Guest",
    "InvalidArguments",
    "KnownObject",
    "Network",
    "NoConnection",
    "NoSuchDomain",
    "NoSuchNetwork",
    "NoSuchStoragePool",
    "NodeInfo",
    "ObjectName",
    "OperationDenied",
    "Outcome",
    "OutcomeState",
    "Resync",
    "Snapshot",
    "StoragePool",
    "StoragePoolInfo",
    "UnsupportedCall",
    "Version",
    "VirtError",
    "connect",
    "errors",
    "lifecycle_of",
    "sync",
]
