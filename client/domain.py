"""A guest, as an object whose methods are calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from client.calling import Called, CallOptions
from client.console import Console, read_stream
from client.errors import NoDomainMetadata
from client.facts import DomainInfo, DomainStateInfo, state_from_numbers
from schema.enums.domain import (
    DomainConsoleFlags,
    DomainCreateFlags,
    DomainDestroyFlags,
    DomainMetadataType,
    DomainModificationImpact,
    DomainRebootFlags,
    DomainSaveRestoreFlags,
    DomainShutdownFlags,
    DomainUndefineFlags,
    DomainXMLFlags,
)
from schema.enums.domain_resources import DomainMemoryModFlags, DomainMemoryStatTags, DomainVcpuFlags
from schema.objects import DomainRef

if TYPE_CHECKING:
    from client.connection import Connection

MEMORY_STATS_MAX = 1024


class Domain:
    """A guest. The object is a name for it and holds no state: each answer is the driver's, now.

    Every method raises NoSuchDomain when the guest is gone, and takes the `CallOptions`.
    """

    __slots__ = ("_conn", "ref")

    def __init__(self, conn: Connection, ref: DomainRef) -> None:
        self._conn = conn
        self.ref = ref

    def __repr__(self) -> str:
        return f"<Domain {self.name!r} {self.uuid}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and other.ref.uuid == self.ref.uuid and other._conn.uri == self._conn.uri

    def __hash__(self) -> int:
        return hash(self.ref.uuid)

    @property
    def name(self) -> str:
        """The name when the object was made or last renamed through it."""
        return self.ref.name

    @property
    def uuid(self) -> UUID:
        """What identifies the guest for ever."""
        return UUID(bytes=self.ref.uuid)

    @property
    def id(self) -> int | None:
        """The number of the running guest as last told, None when it was off."""
        return None if self.ref.id == -1 else self.ref.id

    async def refresh(self, **options: Unpack[CallOptions]) -> None:
        """Learns the guest's name and id anew."""
        self.ref = (await self._ask("domain_lookup_by_uuid", {"uuid": self.ref.uuid}, options)).dom

    async def state(self, **options: Unpack[CallOptions]) -> DomainStateInfo:
        """State and reason; while the driver is down for good, what was last known, marked unknown."""
        called = await self._called("domain_get_state", {"dom": self.ref}, options)
        return state_of(called)

    async def is_active(self, **options: Unpack[CallOptions]) -> bool:
        """Whether the guest runs or is paused."""
        return bool((await self._ask("domain_is_active", {"dom": self.ref}, options)).active)

    async def is_persistent(self, **options: Unpack[CallOptions]) -> bool:
        """Whether the guest's definition outlives it."""
        return bool((await self._ask("domain_is_persistent", {"dom": self.ref}, options)).persistent)

    async def is_updated(self, **options: Unpack[CallOptions]) -> bool:
        """Whether the definition differs from what runs."""
        return bool((await self._ask("domain_is_updated", {"dom": self.ref}, options)).updated)

    async def info(self, **options: Unpack[CallOptions]) -> DomainInfo:
        """State and consumption."""
        told = await self._ask("domain_get_info", {"dom": self.ref}, options)
        state = state_from_numbers(told.state, 0).state
        return DomainInfo(state, told.maxMem, told.memory, told.nrVirtCpu, told.cpuTime)

    async def os_type(self, **options: Unpack[CallOptions]) -> str:
        """How the guest is virtualized: `hvm`, `linux`, `exe`, ..."""
        return str((await self._ask("domain_get_os_type", {"dom": self.ref}, options)).type)

    async def xml(self, flags: DomainXMLFlags | int = 0, **options: Unpack[CallOptions]) -> str:
        """The definition in force; with INACTIVE that of the next start, with SECURE including passwords."""
        told = await self._ask("domain_get_xml_desc", {"dom": self.ref, "flags": int(flags)}, options)
        return str(told.xml)

    async def start(self, flags: DomainCreateFlags = DomainCreateFlags.NONE, **options: Unpack[CallOptions]) -> None:
        """Starts the guest. Raises DomainStateError when it is active."""
        told = await self._ask("domain_create_with_flags", {"dom": self.ref, "flags": int(flags)}, options)
        self.ref = told.dom

    async def shutdown(self, flags: DomainShutdownFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Asks the guest to shut down, and does not wait for it. Raises DomainStateError when it is off."""
        await self._ask("domain_shutdown_flags", {"dom": self.ref, "flags": int(flags)}, options)

    async def reboot(self, flags: DomainRebootFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Asks the guest to boot anew. Raises DomainStateError when it is off."""
        await self._ask("domain_reboot", {"dom": self.ref, "flags": int(flags)}, options)

    async def reset(self, **options: Unpack[CallOptions]) -> None:
        """Presses the reset button. Raises DomainStateError when the guest is off."""
        await self._ask("domain_reset", {"dom": self.ref}, options)

    async def destroy(self, flags: DomainDestroyFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Pulls the plug. Raises DomainStateError when the guest is off."""
        await self._ask("domain_destroy_flags", {"dom": self.ref, "flags": int(flags)}, options)
        self.ref = DomainRef(self.ref.name, self.ref.uuid, -1)

    async def suspend(self, **options: Unpack[CallOptions]) -> None:
        """Stops the guest's processors. Raises DomainStateError when it is off."""
        await self._ask("domain_suspend", {"dom": self.ref}, options)

    async def resume(self, **options: Unpack[CallOptions]) -> None:
        """Lets the guest's processors run again. Raises DomainStateError when it is off."""
        await self._ask("domain_resume", {"dom": self.ref}, options)

    async def undefine(self, flags: DomainUndefineFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Forgets the definition; a running guest becomes transient."""
        await self._ask("domain_undefine_flags", {"dom": self.ref, "flags": int(flags)}, options)

    async def rename(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Gives the guest another name. Raises DomainStateError when it is active."""
        await self._ask("domain_rename", {"dom": self.ref, "new_name": name}, options)
        self.ref = DomainRef(name, self.ref.uuid, self.ref.id)

    async def save(
        self,
        path: str | os.PathLike[str],
        *,
        xml: str | None = None,
        flags: DomainSaveRestoreFlags | int = 0,
        **options: Unpack[CallOptions],
    ) -> None:
        """Writes the guest's memory to a file on the host and ends it; `Connection.restore` goes on from there."""
        args = {"dom": self.ref, "to": str(Path(path).absolute()), "dxml": xml, "flags": int(flags)}
        await self._ask("domain_save_flags", args, options)
        self.ref = DomainRef(self.ref.name, self.ref.uuid, -1)

    async def managed_save(self, flags: DomainSaveRestoreFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Writes the guest's memory to a file that the driver keeps, and from which the next start goes on."""
        await self._ask("domain_managed_save", {"dom": self.ref, "flags": int(flags)}, options)
        self.ref = DomainRef(self.ref.name, self.ref.uuid, -1)

    async def has_managed_save(self, **options: Unpack[CallOptions]) -> bool:
        """Whether the next start goes on from a managed save."""
        return bool((await self._ask("domain_has_managed_save_image", {"dom": self.ref}, options)).result)

    async def remove_managed_save(self, **options: Unpack[CallOptions]) -> None:
        """Deletes the managed save: the next start boots."""
        await self._ask("domain_managed_save_remove", {"dom": self.ref}, options)

    async def autostart(self, **options: Unpack[CallOptions]) -> bool:
        """Whether the guest is started with the host."""
        return bool((await self._ask("domain_get_autostart", {"dom": self.ref}, options)).autostart)

    async def set_autostart(self, autostart: bool, **options: Unpack[CallOptions]) -> None:
        """Whether to start the guest with the host. Raises DomainStateError for a transient one."""
        await self._ask("domain_set_autostart", {"dom": self.ref, "autostart": int(autostart)}, options)

    async def max_memory_kib(self, **options: Unpack[CallOptions]) -> int:
        """The most memory that the guest can have."""
        return int((await self._ask("domain_get_max_memory", {"dom": self.ref}, options)).memory)

    async def set_memory(
        self, memory_kib: int, flags: DomainMemoryModFlags | int = 0, **options: Unpack[CallOptions]
    ) -> None:
        """Sets how much memory the guest has; with MAXIMUM, how much it can have."""
        args = {"dom": self.ref, "memory": memory_kib, "flags": int(flags)}
        await self._ask("domain_set_memory_flags", args, options)

    async def memory_stats(self, **options: Unpack[CallOptions]) -> dict[DomainMemoryStatTags, int]:
        """Counters of the guest's memory, as far as its balloon tells them; kilobytes, faults and seconds."""
        args = {"dom": self.ref, "maxStats": MEMORY_STATS_MAX}
        told = await self._ask("domain_memory_stats", args, options)
        known = frozenset(DomainMemoryStatTags)
        return {DomainMemoryStatTags(stat.tag): stat.val for stat in told.stats if stat.tag in known}

    async def set_memory_stats_period(
        self, period_s: int, flags: DomainModificationImpact | int = 0, **options: Unpack[CallOptions]
    ) -> None:
        """How often the guest's balloon tells its counters; 0 for never."""
        args = {"dom": self.ref, "period": period_s, "flags": int(flags)}
        await self._ask("domain_set_memory_stats_period", args, options)

    async def vcpus(self, flags: DomainVcpuFlags | int = 0, **options: Unpack[CallOptions]) -> int:
        """How many processors the guest has; with MAXIMUM, how many it can have."""
        return int((await self._ask("domain_get_vcpus_flags", {"dom": self.ref, "flags": int(flags)}, options)).num)

    async def set_vcpus(self, count: int, flags: DomainVcpuFlags | int = 0, **options: Unpack[CallOptions]) -> None:
        """Sets how many processors the guest has; with MAXIMUM, how many it can have."""
        await self._ask("domain_set_vcpus_flags", {"dom": self.ref, "nvcpus": count, "flags": int(flags)}, options)

    async def metadata(
        self,
        type: DomainMetadataType,
        uri: str | None = None,
        flags: DomainModificationImpact | int = 0,
        **options: Unpack[CallOptions],
    ) -> str | None:
        """Title, description, or the element of a namespace; None when the guest has none."""
        args = {"dom": self.ref, "type": int(type), "uri": uri, "flags": int(flags)}
        try:
            return str((await self._ask("domain_get_metadata", args, options)).metadata)
        except NoDomainMetadata:
            return None

    async def set_metadata(
        self,
        type: DomainMetadataType,
        text: str | None,
        *,
        key: str | None = None,
        uri: str | None = None,
        flags: DomainModificationImpact | int = 0,
        **options: Unpack[CallOptions],
    ) -> None:
        """Sets title, description, or a namespace's element under the prefix `key`; None removes it."""
        args = {"dom": self.ref, "type": int(type), "metadata": text, "key": key, "uri": uri, "flags": int(flags)}
        await self._ask("domain_set_metadata", args, options)

    async def attach_device(
        self, xml: str, flags: DomainModificationImpact | int = 0, **options: Unpack[CallOptions]
    ) -> None:
        """Adds a device."""
        await self._ask("domain_attach_device_flags", {"dom": self.ref, "xml": xml, "flags": int(flags)}, options)

    async def detach_device(
        self, xml: str, flags: DomainModificationImpact | int = 0, **options: Unpack[CallOptions]
    ) -> None:
        """Removes a device; of a running guest, asks it to let go, and an event tells when it has."""
        await self._ask("domain_detach_device_flags", {"dom": self.ref, "xml": xml, "flags": int(flags)}, options)

    async def abort_job(self, **options: Unpack[CallOptions]) -> None:
        """Cancels the long operation that runs on the guest. Raises DomainStateError when none does."""
        await self._ask("domain_abort_job", {"dom": self.ref}, options)

    async def screenshot(self, screen: int = 0, **options: Unpack[CallOptions]) -> tuple[str, bytes]:
        """A picture of the guest's screen: its MIME type and its bytes."""
        called = await self._called("domain_screenshot", {"dom": self.ref, "screen": screen}, options)
        return called.result.mime or "application/octet-stream", await read_stream(called.ticket)

    async def console(
        self,
        device: str | None = None,
        flags: DomainConsoleFlags | int = 0,
        **options: Unpack[CallOptions],
    ) -> Console:
        """The guest's console, or the serial device of an alias; the connection goes on when the driver restarts.

        Raises DomainStateError when the guest is off, and ResourceBusy when somebody else has the console and the
        flags do not say FORCE.
        """
        args = {"dom": self.ref, "dev_name": device, "flags": int(flags)}

        async def open_() -> dict[str, Any] | None:
            return (await self._called("domain_open_console", args, options)).ticket

        return await Console.open(open_)

    async def _called(self, procedure: str, args: Mapping[str, object], options: CallOptions) -> Called:
        return await self._conn.called(procedure, args, options)

    async def _ask(self, procedure: str, args: Mapping[str, object], options: CallOptions) -> Any:
        return (await self._conn.called(procedure, args, options)).result


def state_of(called: Called) -> DomainStateInfo:
    """The state in an answer to `domain_get_state`."""
    told = called.result
    return state_from_numbers(told.state, told.reason, unknown=called.is_standby, age_s=called.age_s)
