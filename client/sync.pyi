"""Types of the library without `await`; written by `tests/unit/client/sync_stub.py`, do not edit."""
from broker.wire import Cursor
from client.calling import CallOptions
from client.calling import Called
from client.errors import CallPending
from client.event import Event
from client.event import Resync
from client.facts import DomainInfo
from client.facts import DomainStateInfo
from client.facts import NodeInfo
from client.facts import Version
from client.guests import Guest
from client.link import WAIT_S
from client.outcome import Outcome
from client.snapshot import Snapshot
from client.storage_pool import StoragePoolInfo
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from schema.enums.connect import ConnectListAllDomainsFlags
from schema.enums.domain import DomainConsoleFlags
from schema.enums.domain import DomainCreateFlags
from schema.enums.domain import DomainDefineFlags
from schema.enums.domain import DomainDestroyFlags
from schema.enums.domain import DomainMetadataType
from schema.enums.domain import DomainModificationImpact
from schema.enums.domain import DomainRebootFlags
from schema.enums.domain import DomainSaveRestoreFlags
from schema.enums.domain import DomainShutdownFlags
from schema.enums.domain import DomainUndefineFlags
from schema.enums.domain import DomainXMLFlags
from schema.enums.domain_resources import DomainMemoryModFlags
from schema.enums.domain_resources import DomainMemoryStatTags
from schema.enums.domain_resources import DomainVcpuFlags
from schema.enums.network import ConnectListAllNetworksFlags
from schema.enums.storage_pool import ConnectListAllStoragePoolsFlags
from types import TracebackType
from typing import Any
from typing import Self
from typing import Unpack
from uuid import UUID
import os

class Domain:

    @property
    def name(self) -> str:
        ...

    @property
    def uuid(self) -> UUID:
        ...

    @property
    def id(self) -> int | None:
        ...

    def refresh(self, **options: Unpack[CallOptions]) -> None:
        ...

    def state(self, **options: Unpack[CallOptions]) -> DomainStateInfo:
        ...

    def is_active(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def is_updated(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def info(self, **options: Unpack[CallOptions]) -> DomainInfo:
        ...

    def os_type(self, **options: Unpack[CallOptions]) -> str:
        ...

    def xml(self, flags: DomainXMLFlags | int=0, **options: Unpack[CallOptions]) -> str:
        ...

    def start(self, flags: DomainCreateFlags=DomainCreateFlags.NONE, **options: Unpack[CallOptions]) -> None:
        ...

    def shutdown(self, flags: DomainShutdownFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def reboot(self, flags: DomainRebootFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def reset(self, **options: Unpack[CallOptions]) -> None:
        ...

    def destroy(self, flags: DomainDestroyFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def suspend(self, **options: Unpack[CallOptions]) -> None:
        ...

    def resume(self, **options: Unpack[CallOptions]) -> None:
        ...

    def undefine(self, flags: DomainUndefineFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def rename(self, name: str, **options: Unpack[CallOptions]) -> None:
        ...

    def save(self, path: str | os.PathLike[str], *, xml: str | None=None, flags: DomainSaveRestoreFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def managed_save(self, flags: DomainSaveRestoreFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def has_managed_save(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def remove_managed_save(self, **options: Unpack[CallOptions]) -> None:
        ...

    def autostart(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def set_autostart(self, autostart: bool, **options: Unpack[CallOptions]) -> None:
        ...

    def max_memory_kib(self, **options: Unpack[CallOptions]) -> int:
        ...

    def set_memory(self, memory_kib: int, flags: DomainMemoryModFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def memory_stats(self, **options: Unpack[CallOptions]) -> dict[DomainMemoryStatTags, int]:
        ...

    def set_memory_stats_period(self, period_s: int, flags: DomainModificationImpact | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def vcpus(self, flags: DomainVcpuFlags | int=0, **options: Unpack[CallOptions]) -> int:
        ...

    def set_vcpus(self, count: int, flags: DomainVcpuFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def metadata(self, type: DomainMetadataType, uri: str | None=None, flags: DomainModificationImpact | int=0, **options: Unpack[CallOptions]) -> str | None:
        ...

    def set_metadata(self, type: DomainMetadataType, text: str | None, *, key: str | None=None, uri: str | None=None, flags: DomainModificationImpact | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def attach_device(self, xml: str, flags: DomainModificationImpact | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def detach_device(self, xml: str, flags: DomainModificationImpact | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def abort_job(self, **options: Unpack[CallOptions]) -> None:
        ...

    def screenshot(self, screen: int=0, **options: Unpack[CallOptions]) -> tuple[str, bytes]:
        ...

    def console(self, device: str | None=None, flags: DomainConsoleFlags | int=0, **options: Unpack[CallOptions]) -> Console:
        ...

class Network:

    @property
    def name(self) -> str:
        ...

    @property
    def uuid(self) -> UUID:
        ...

    def is_active(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def autostart(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def bridge(self, **options: Unpack[CallOptions]) -> str:
        ...

    def xml(self, flags: int=0, **options: Unpack[CallOptions]) -> str:
        ...

class StoragePool:

    @property
    def name(self) -> str:
        ...

    @property
    def uuid(self) -> UUID:
        ...

    def is_active(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def autostart(self, **options: Unpack[CallOptions]) -> bool:
        ...

    def info(self, **options: Unpack[CallOptions]) -> StoragePoolInfo:
        ...

    def xml(self, flags: int=0, **options: Unpack[CallOptions]) -> str:
        ...

class Console:

    def read(self) -> bytes:
        ...

    def write(self, data: bytes) -> None:
        ...

    def aclose(self) -> None:
        ...

    def __enter__(self) -> Self:
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ...

class EventStream:

    @property
    def cursor(self) -> Cursor | None:
        ...

    def start(self) -> None:
        ...

    def aclose(self) -> None:
        ...

    def __iter__(self) -> Iterator[Event | Resync]:
        ...

    def __next__(self) -> Event | Resync:
        ...

    def next_within(self, timeout: float) -> Event | Resync | None:
        ...

    def __enter__(self) -> Self:
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ...

class Connection:

    def aclose(self) -> None:
        ...

    def call(self, procedure: str, args: Mapping[str, object] | None=None, /, *, timeout: float | None=-1.0, idempotency_key: str | None=None, trace: str | None=None, **more: object) -> Any:
        ...

    def called(self, procedure: str, args: Mapping[str, object], options: CallOptions | None=None, *, destination: str | None=None) -> Called:
        ...

    def outcome_of(self, pending: CallPending | str, **options: Unpack[CallOptions]) -> Outcome:
        ...

    def open(self, **options: Unpack[CallOptions]) -> None:
        ...

    def list_domains(self, flags: ConnectListAllDomainsFlags | int=0, **options: Unpack[CallOptions]) -> list[Domain]:
        ...

    def list_guests(self, flags: ConnectListAllDomainsFlags | int=0, **options: Unpack[CallOptions]) -> list[Guest]:
        ...

    def domain(self, which: str | int | UUID, **options: Unpack[CallOptions]) -> Domain:
        ...

    def domain_by_name(self, name: str, **options: Unpack[CallOptions]) -> Domain:
        ...

    def domain_by_uuid(self, uuid: UUID | str, **options: Unpack[CallOptions]) -> Domain:
        ...

    def domain_by_id(self, id: int, **options: Unpack[CallOptions]) -> Domain:
        ...

    def define(self, xml: str, flags: DomainDefineFlags | int=0, **options: Unpack[CallOptions]) -> Domain:
        ...

    def create(self, xml: str, flags: DomainCreateFlags=DomainCreateFlags.NONE, **options: Unpack[CallOptions]) -> Domain:
        ...

    def restore(self, path: str | os.PathLike[str], *, xml: str | None=None, flags: DomainSaveRestoreFlags | int=0, **options: Unpack[CallOptions]) -> None:
        ...

    def list_networks(self, flags: ConnectListAllNetworksFlags | int=0, **options: Unpack[CallOptions]) -> list[Network]:
        ...

    def network_by_name(self, name: str, **options: Unpack[CallOptions]) -> Network:
        ...

    def list_storage_pools(self, flags: ConnectListAllStoragePoolsFlags | int=0, **options: Unpack[CallOptions]) -> list[StoragePool]:
        ...

    def storage_pool_by_name(self, name: str, **options: Unpack[CallOptions]) -> StoragePool:
        ...

    def hypervisor(self, **options: Unpack[CallOptions]) -> str:
        ...

    def version(self, **options: Unpack[CallOptions]) -> Version:
        ...

    def api_version(self, **options: Unpack[CallOptions]) -> Version:
        ...

    def hostname(self, **options: Unpack[CallOptions]) -> str:
        ...

    def capabilities(self, **options: Unpack[CallOptions]) -> str:
        ...

    def node_info(self, **options: Unpack[CallOptions]) -> NodeInfo:
        ...

    def cursor(self) -> Cursor:
        ...

    def events(self, after: Cursor | str | None=None, *, kinds: Collection[str] | None=None, objects: Collection[Domain | UUID | str | bytes] | None=None, everywhere: bool=False) -> EventStream:
        ...

    def sources(self) -> list[str]:
        ...

    def snapshot(self, *, everywhere: bool=False) -> Snapshot:
        ...

    def status(self, **options: Unpack[CallOptions]) -> dict[str, Any]:
        ...

    def close(self) -> None:
        ...

    def __enter__(self) -> Self:
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ...

def connect(uri: str | None=None, *, root: str | os.PathLike[str] | None=None, read_only: bool=False, program: str='', wait_s: float=WAIT_S, auth: Asked | None=None) -> Connection:
    ...
