"""Errors a user can meet: one class per meaning, with libvirt's code and the text its clients print.

`NoSuchDomain("no domain with matching name 'x'")` has the message "Domain not found: no domain with matching name 'x'";
`str1` is the format and `str2` the detail, as libvirt fills them. A class crosses a process boundary by its name
(`to_wire`, `from_wire`); a name unknown on this side becomes a plain `VirtError` with the same code and text.
The meanings that only Virtroupe has are in `own_errors`; everything is imported from here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from schema.enums.error import ErrorCode as ErrorCode
from schema.enums.error import ErrorDomain as ErrorDomain
from schema.error_root import CLASSES
from schema.error_root import VirtError as VirtError
from schema.own_errors import Busy as Busy
from schema.own_errors import CallNotStarted as CallNotStarted
from schema.own_errors import CallPending as CallPending
from schema.own_errors import CallUndone as CallUndone
from schema.own_errors import Cancelled as Cancelled
from schema.own_errors import DeadlinePassed as DeadlinePassed
from schema.own_errors import DriverDegraded as DriverDegraded
from schema.own_errors import DriverGone as DriverGone
from schema.own_errors import DriverStopped as DriverStopped
from schema.own_errors import Fenced as Fenced
from schema.own_errors import HypervisorGone as HypervisorGone
from schema.own_errors import InvalidMessage as InvalidMessage
from schema.own_errors import NotRegistered as NotRegistered


class InternalError(VirtError):
    """The fault is ours."""

    code = ErrorCode.INTERNAL_ERROR


class RefusedDocument(InternalError):
    """A document is refused with words that libvirt calls an internal error; the fault is the document's."""

    expected = True


class OutOfMemory(VirtError):
    """The host has no memory left for this."""

    code = ErrorCode.NO_MEMORY


class UnsupportedCall(VirtError):
    """The driver does not answer this call; the detail is the name of the public function."""

    code = ErrorCode.NO_SUPPORT
    expected = True


class NoConnection(VirtError):
    """No driver serves this URI."""

    code = ErrorCode.NO_CONNECT
    expected = True


class InvalidConnection(VirtError):
    """The call came before the connection was opened, or after it was closed."""

    code = ErrorCode.INVALID_CONN
    expected = True


class InvalidArguments(VirtError):
    """An argument is missing, unknown, of the wrong type or out of bounds."""

    code = ErrorCode.INVALID_ARG
    expected = True


class UnsupportedFlags(InvalidArguments):
    """A bit of the flags means nothing to this function; libvirt's clients fall back to older flags on it."""

    def __init__(self, flags: int, function: str) -> None:
        super().__init__()
        self.message = f"unsupported flags (0x{flags:x}) in function {function}"
        self.str1 = function
        self.str2 = "flags"
        self.int1 = self.int2 = 0


class ArgumentUnsupported(VirtError):
    """The value of an argument is valid, but not for this driver."""

    code = ErrorCode.ARGUMENT_UNSUPPORTED
    expected = True


class OperationFailed(VirtError):
    """It was tried and did not work."""

    code = ErrorCode.OPERATION_FAILED
    expected = True


class OperationDenied(VirtError):
    """A read-only connection, or the policy, forbids this."""

    code = ErrorCode.OPERATION_DENIED
    expected = True


class AccessDenied(VirtError):
    """The access policy refuses this to the caller."""

    code = ErrorCode.ACCESS_DENIED
    domain = ErrorDomain.ACCESS
    expected = True


class AuthFailed(VirtError):
    """The peer could not prove who it is."""

    code = ErrorCode.AUTH_FAILED
    domain = ErrorDomain.RPC
    expected = True


class AuthCancelled(VirtError):
    """The user gave up proving who they are."""

    code = ErrorCode.AUTH_CANCELLED
    domain = ErrorDomain.RPC
    expected = True


class AuthUnavailable(VirtError):
    """No authentication agent answers."""

    code = ErrorCode.AUTH_UNAVAILABLE
    domain = ErrorDomain.RPC
    expected = True


class OpenFailed(VirtError):
    """Something could not be opened; the detail says what."""

    code = ErrorCode.OPEN_FAILED


class XmlError(VirtError):
    """A document is not what it should be."""

    code = ErrorCode.XML_ERROR
    expected = True


class XmlDetailError(VirtError):
    """A document is not well-formed; the detail says where."""

    code = ErrorCode.XML_DETAIL
    domain = ErrorDomain.XML
    expected = True


class XmlInvalidSchema(VirtError):
    """A document does not validate against its schema."""

    code = ErrorCode.XML_INVALID_SCHEMA
    domain = ErrorDomain.XML
    expected = True


class InvalidMac(VirtError):
    """A text is no MAC address."""

    code = ErrorCode.INVALID_MAC
    expected = True


class ConfigUnsupported(VirtError):
    """The definition asks for something that cannot be had here."""

    code = ErrorCode.CONFIG_UNSUPPORTED
    expected = True


class UnknownOsType(VirtError):
    """The definition names an OS type that the driver does not know."""

    code = ErrorCode.OS_TYPE
    expected = True


class DomainStateError(VirtError):
    """The object is not in a state that allows this."""

    code = ErrorCode.OPERATION_INVALID
    expected = True


class OperationUnsupported(VirtError):
    """The driver knows the call, but not in this form or on this host."""

    code = ErrorCode.OPERATION_UNSUPPORTED
    expected = True


class OperationTimeout(VirtError):
    """It took too long."""

    code = ErrorCode.OPERATION_TIMEOUT
    expected = True


class OperationAborted(VirtError):
    """It was given up before its end."""

    code = ErrorCode.OPERATION_ABORTED
    expected = True


class ResourceBusy(VirtError):
    """Something else uses what is needed."""

    code = ErrorCode.RESOURCE_BUSY
    expected = True


class NumericOverflow(VirtError):
    """A number does not fit."""

    code = ErrorCode.OVERFLOW
    expected = True


class DomainExists(OperationFailed):
    """A guest with this name or uuid exists already."""

    code = ErrorCode.OPERATION_FAILED
    expected = True


class NoSuchDomain(VirtError):
    """There is no such guest."""

    code = ErrorCode.NO_DOMAIN
    expected = True


class NoSuchNetwork(VirtError):
    """There is no such network."""

    code = ErrorCode.NO_NETWORK
    expected = True


class NoSuchNetworkPort(VirtError):
    """There is no such network port."""

    code = ErrorCode.NO_NETWORK_PORT
    expected = True


class NoSuchInterface(VirtError):
    """There is no such host interface."""

    code = ErrorCode.NO_INTERFACE
    expected = True


class NoSuchStoragePool(VirtError):
    """There is no such storage pool."""

    code = ErrorCode.NO_STORAGE_POOL
    expected = True


class NoSuchStorageVol(VirtError):
    """There is no such volume."""

    code = ErrorCode.NO_STORAGE_VOL
    expected = True


class StorageVolExists(VirtError):
    """A volume of this name exists already; the detail is the quoted name."""

    code = ErrorCode.STORAGE_VOL_EXIST
    expected = True


class StoragePoolBuilt(VirtError):
    """The pool is built already."""

    code = ErrorCode.STORAGE_POOL_BUILT
    expected = True


class StorageProbeFailed(VirtError):
    """What is on the device could not be told."""

    code = ErrorCode.STORAGE_PROBE_FAILED
    expected = True


class NoSuchNodeDevice(VirtError):
    """There is no such host device."""

    code = ErrorCode.NO_NODE_DEVICE
    expected = True


class NoSuchSecret(VirtError):
    """There is no such secret."""

    code = ErrorCode.NO_SECRET
    expected = True


class InvalidSecret(VirtError):
    """The secret is of the wrong kind, or may not be told."""

    code = ErrorCode.INVALID_SECRET
    expected = True


class NoSuchNWFilter(VirtError):
    """There is no such network filter."""

    code = ErrorCode.NO_NWFILTER
    expected = True


class NoSuchNWFilterBinding(VirtError):
    """There is no such network filter binding."""

    code = ErrorCode.NO_NWFILTER_BINDING
    expected = True


class InvalidNWFilter(VirtError):
    """The network filter cannot be used so."""

    code = ErrorCode.INVALID_NWFILTER
    expected = True


class FirewallFailed(VirtError):
    """The rules could not be put in force."""

    code = ErrorCode.BUILD_FIREWALL


class NoSuchSnapshot(VirtError):
    """There is no such snapshot."""

    code = ErrorCode.NO_DOMAIN_SNAPSHOT
    expected = True


class InvalidSnapshot(VirtError):
    """The snapshot cannot be used so."""

    code = ErrorCode.INVALID_DOMAIN_SNAPSHOT
    expected = True


class SnapshotRevertRisky(VirtError):
    """Going back could break the guest; the caller has to insist."""

    code = ErrorCode.SNAPSHOT_REVERT_RISKY
    expected = True


class NoSuchCheckpoint(VirtError):
    """There is no such checkpoint."""

    code = ErrorCode.NO_DOMAIN_CHECKPOINT
    expected = True


class CheckpointInconsistent(VirtError):
    """The checkpoint and the disk disagree."""

    code = ErrorCode.CHECKPOINT_INCONSISTENT
    expected = True


class NoSuchBackup(VirtError):
    """No backup runs."""

    code = ErrorCode.NO_DOMAIN_BACKUP
    expected = True


class NoDomainMetadata(VirtError):
    """The guest has no such metadata."""

    code = ErrorCode.NO_DOMAIN_METADATA
    expected = True


class NoSuchHostname(VirtError):
    """The guest tells no host name."""

    code = ErrorCode.NO_HOSTNAME
    expected = True


class DeviceMissing(VirtError):
    """The guest has no such device."""

    code = ErrorCode.DEVICE_MISSING
    expected = True


class AgentUnresponsive(VirtError):
    """The guest agent does not answer."""

    code = ErrorCode.AGENT_UNRESPONSIVE
    expected = True


class AgentUnsynced(VirtError):
    """The guest agent answered another question."""

    code = ErrorCode.AGENT_UNSYNCED
    expected = True


class BlockCopyActive(VirtError):
    """A block copy stands in the way."""

    code = ErrorCode.BLOCK_COPY_ACTIVE
    expected = True


class MigrateUnsafe(VirtError):
    """Migrating could lose data; the caller has to insist."""

    code = ErrorCode.MIGRATE_UNSAFE
    expected = True


class MigrateFinishOk(VirtError):
    """A migration was called off, as its caller wanted: the guest is not here."""

    code = ErrorCode.MIGRATE_FINISH_OK
    expected = True


class MigratePersistFailed(VirtError):
    """The guest has arrived, but could not be made persistent."""

    code = ErrorCode.MIGRATE_PERSIST_FAILED


class CpuIncompatible(VirtError):
    """The host cannot give the guest this CPU."""

    code = ErrorCode.CPU_INCOMPATIBLE
    expected = True


class NoSecurityModel(VirtError):
    """There is no such security model."""

    code = ErrorCode.NO_SECURITY_MODEL
    expected = True


class NoSuchServer(VirtError):
    """The daemon has no such server."""

    code = ErrorCode.NO_SERVER
    domain = ErrorDomain.ADMIN
    expected = True


class NoSuchClient(VirtError):
    """The server has no such client."""

    code = ErrorCode.NO_CLIENT
    domain = ErrorDomain.ADMIN
    expected = True


class RpcError(VirtError):
    """The libvirt protocol was not followed."""

    code = ErrorCode.RPC
    domain = ErrorDomain.RPC
    expected = True


class HostSystemError(VirtError):
    """A system call failed; `int1` is its errno."""

    code = ErrorCode.SYSTEM_ERROR

    def __init__(self, errno: int, what: str | None = None, *, domain: ErrorDomain | None = None) -> None:
        reason = os.strerror(errno)
        super().__init__(reason if what is None else f"{what}: {reason}", domain=domain, int1=errno)


class UnknownProcedure(VirtError):
    """There is no procedure of that name or number.

    libvirt's clients turn a text that begins with "unknown procedure" into "not supported" and try an older call.
    """

    code = ErrorCode.RPC
    domain = ErrorDomain.RPC
    expected = True

    def __init__(self, procedure: str | int) -> None:
        super().__init__(f"unknown procedure: {procedure}")


def to_wire(error: VirtError) -> list[Any]:
    """The error as ten plain values: kind, code, domain, message, str1, str2, str3, int1, int2, retry_after_s."""
    return [
        error.kind,
        int(error.code),
        int(error.domain),
        error.message,
        error.str1,
        error.str2,
        error.str3,
        error.int1,
        error.int2,
        error.retry_after_s,
    ]


def from_wire(values: Sequence[Any]) -> VirtError:
    """The error that `to_wire` wrote; what a newer peer adds at the end is ignored.

    Raises InvalidMessage for anything that is not such a list.
    """
    if isinstance(values, str | bytes) or len(values) < 10:
        raise InvalidMessage("an error record has ten values")
    kind, code, domain, message, str1, str2, str3, int1, int2, retry_after_s = values[:10]
    texts_ok = isinstance(kind, str) and isinstance(message, str)
    details_ok = all(text is None or isinstance(text, str) for text in (str1, str2, str3))
    numbers_ok = all(isinstance(number, int) for number in (code, domain, int1, int2))
    if not (texts_ok and details_ok and numbers_ok and isinstance(retry_after_s, int | float | None)):
        raise InvalidMessage("a value of an error record has the wrong type")
    cls = CLASSES.get(kind, VirtError)
    error = cls.__new__(cls, message)
    error.code = code
    error.domain = domain
    error.message = message
    error.str1 = str1
    error.str2 = str2
    error.str3 = str3
    error.int1 = int1
    error.int2 = int2
    error.retry_after_s = retry_after_s
    return error


def find_error_class(kind: str) -> type[VirtError] | None:
    """The class of that name, if there is one."""
    return CLASSES.get(kind)
