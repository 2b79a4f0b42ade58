"""The state of this driver's process, and the ways in which a change of a guest becomes real and known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from actors.qemu import records, states
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.capabilities.store import CapabilityStore, host_arch
from actors.qemu.consoles import Consoles
from actors.qemu.guest import Guest
from actors.qemu.helpers.tpm_programs import TpmPrograms
from actors.qemu.index import IndexKeeper
from actors.qemu.lending.lending import Lending
from actors.qemu.linking.scripts import run_downscripts
from actors.qemu.owning.register import Register
from actors.qemu.process import GuestProcess
from actors.qemu.records import KeptText, Record, Run
from actors.qemu.rules import QemuRules
from actors.qemu.rules_checks import HostLimits
from actors.qemu.rules_machine import HostAudio
from actors.qemu.states import Told
from actors.qemu.traces import CHANNELS, clear_run
from actors.runtime.configured_ports import configured_ports
from actors.runtime.moments import KeepsMoments, Kept
from actors.runtime.objects import digest_of
from actors.runtime.ports import Ports
from actors.runtime.runtime import Runtime
from conf.domain.domain import Domain
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import ConfigUnsupported, NoSuchDomain, VirtError
from schema.objects import DomainRef
from settings.qemu import QemuSettings

IDS_AT_ONCE: Final = 16
_KEEP_POLL_S: Final = 0.01
_NEXT_ID: Final = "next-id"


class QemuHost(KeepsMoments):
    """Given to every handler as its first argument."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.scope = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
        self.guests: dict[bytes, Guest] = {}
        self.names: dict[str, Guest] = {}
        self.emulators = CapabilityStore(self.paths.role_cache("qemu"), self.config.qemu.emulator_folders)
        self.run_folder = self.paths.role_run("qemu")
        self.next_id = 1
        self.reserved_id = 1
        self.ports: set[int] = set()
        """Ports of displays that running guests have or are about to have."""
        self.untold: list[tuple[Guest, list[Told]]] = []
        """What became of guests before this process could tell anything."""
        qemu = self.config.qemu
        self.needed: Ports = configured_ports(qemu.secrets, qemu.pools, qemu.networks, runtime.in_thread)
        """Of whom to ask for secrets, volumes and networks."""
        self.owners = Register(self.state_folder / "owners", lambda what, error: self.log.warning(what, error=error))
        """Whose the files of running guests were."""
        self.lending = Lending(
            self.run_folder,
            runtime.in_thread,
            lambda what, error: self.log.warning("a device could not be given back", device=what, error=error),
        )
        """Which devices of the host guests have."""
        self.tpm_programs = TpmPrograms()
        """What TPMs guests can have."""
        self.connection_closed = asyncio.Event()
        self.watches_connections = False
        """Somebody looks whether the connections are there that guests end with."""
        self.consoles = Consoles()
        self.index = IndexKeeper(self.paths.role_cache("qemu") / "guests.index")
        """What makes the next start quick."""
        self.arrivals: dict[bytes, str] = {}
        """Definitions of guests that are off and on their way here."""
        self._rules: dict[str, QemuRules] = {}
        self._audio = _host_audio(self.config.qemu)
        self._keeping: set[bytes] = set()
        self._again: set[bytes] = set()
        self._writing: Counter[bytes] = Counter()

    # --- guests ------------------------------------------------------------------------------------------------------

    def guest(self, dom: DomainRef) -> Guest:
        """The guest that a reference means. Raises NoSuchDomain."""
        guest = self.guests.get(dom.uuid)
        if guest is None:
            raise NoSuchDomain(f"no domain with matching uuid '{UUID(bytes=dom.uuid)}' ({dom.name})")
        return guest

    def snapshots_of(self, dom: DomainRef) -> Kept:
        """The guest's snapshots. Raises NoSuchDomain."""
        guest = self.guest(dom)
        return Kept(guest.ref, guest.moments.snapshots, guest.moments.current_snapshot)

    def checkpoints_of(self, dom: DomainRef) -> Kept:
        """The guest's checkpoints. Raises NoSuchDomain."""
        guest = self.guest(dom)
        return Kept(guest.ref, guest.moments.checkpoints, guest.moments.current_checkpoint)

    def add(self, guest: Guest) -> None:
        """The guest exists."""
        self.guests[guest.key] = guest
        self.names[guest.name] = guest

    def forget(self, guest: Guest) -> None:
        """The guest exists no longer."""
        self.guests.pop(guest.key, None)
        guest.fd_groups.close()
        if self.names.get(guest.name) is guest:
            del self.names[guest.name]

    def managed_save_path(self, guest: Guest) -> Path:
        """Where the memory of a guest that was put to sleep lies."""
        return self.state_folder / "save" / f"{guest.record.uuid}.save"

    # --- emulators ---------------------------------------------------------------------------------------------------

    async def emulator_for(self, arch: str | None, emulator: str | None) -> Capabilities:
        """What the emulator of a guest can do: the named one, else the host's for the architecture.

        Raises ConfigUnsupported when there is none.
        """
        if emulator is None:
            path = self.emulators.find_emulator(arch or host_arch())
            if path is None:
                raise ConfigUnsupported(f"could not find capabilities for arch={arch or host_arch()}")
            emulator = str(path)
        await self.tpm_programs.refresh()
        return await self.emulators.capabilities(emulator)

    def rules(self, caps: Capabilities) -> QemuRules:
        """The defaults and refusals of an emulator."""
        rules = self._rules.get(caps.emulator)
        limits = HostLimits(
            arch=host_arch(), tpm_versions=self.tpm_programs.versions, spice_tls=self.config.qemu.spice_tls
        )
        if rules is None or rules.capabilities is not caps or rules.limits != limits:
            rules = self._rules[caps.emulator] = QemuRules(
                caps,
                state_folder=str(self.run_folder),
                channel_folder=str(self.run_folder / CHANNELS),
                nvram_folder=str(self.state_folder / "nvram"),
                limits=limits,
                host_audio=self._audio,
            )
        return rules

    async def new_id(self) -> int:
        """A number that no running guest has had. Raises HostSystemError when it cannot be kept."""
        number = self.next_id
        self.next_id += 1
        if number >= self.reserved_id:
            # numbers are set aside by the handful, so that few starts wait for the disk
            self.reserved_id = number + IDS_AT_ONCE
            await self.store.write(_NEXT_ID, str(self.reserved_id).encode(), completes=False)
        return number

    async def keep_ids(self) -> None:
        """At an orderly end: the next number is the next one."""
        if self.reserved_id != self.next_id:
            await self.store.write(_NEXT_ID, str(self.next_id).encode(), completes=False)

    def load_ids(self) -> None:
        """The numbers go on where the last process was, at most a handful later."""
        data = self.store.read(_NEXT_ID)
        self.next_id = self.reserved_id = max(1, int(data)) if data and data.isdigit() else 1

    # --- changes -----------------------------------------------------------------------------------------------------

    async def write(
        self,
        guest: Guest,
        record: Record,
        *,
        result: Any = None,
        completes: bool = True,
        live: Domain | None = None,
        config: Domain | None = None,
    ) -> None:
        """Puts a document on disk and takes it on; nobody is told yet.

        Raises HostSystemError when the disk refuses; nothing changed then.
        """
        old = guest.record.xml
        if isinstance(old, KeptText) and record.xml is not old:
            # whoever still holds the old record must not find the new definition in it
            with contextlib.suppress(VirtError):
                old.read()
        self._writing[guest.key] += 1
        try:
            path = records.path_of(record.uuid)
            await self.store.write(path, records.encode(record), result=result, completes=completes)
            guest.adopt(record, live=live, config=config)
        finally:
            self._writing -= Counter((guest.key,))  # those that are at none are dropped

    def publish(self, guest: Guest, told: Sequence[Told] = (), *, origin: str | None = None) -> None:
        """Lists and subscribers learn what the guest is now."""
        xml = guest.record.xml
        # a definition that is still on disk alone is the one that was told
        kept = isinstance(xml, KeptText)
        digest = b"" if kept else digest_of((xml or "").encode())
        self.objects.put(
            "domain",
            guest.key,
            guest.name,
            guest.summary(),
            events=list(told) or None,
            digest=digest,
            xml_changed=not kept,
            origin=origin,
        )

    def change_state(
        self, guest: Guest, state: DomainState, reason: int, told: Sequence[Told] = (), *, origin: str | None = None
    ) -> None:
        """A running guest is in another state: known at once, and on disk soon after.

        QEMU itself is the truth of a running guest's state; the file only serves a successor of this process.
        """
        run = guest.run
        if run is None:
            return
        since = time.time() if run.state != state else run.since
        guest.adopt(guest.running(state=int(state), reason=int(reason), since=since))
        self.publish(guest, told, origin=origin)
        self.keep_soon(guest)

    def keep_soon(self, guest: Guest) -> None:
        """Writes the guest's document in the background; one that the disk refuses is written at the next change."""
        if guest.key in self._keeping:
            self._again.add(guest.key)
            return
        self._keeping.add(guest.key)
        self.runtime.spawn(self._keep(guest), f"keep {guest.name}")

    async def _keep(self, guest: Guest) -> None:
        try:
            while True:
                while self._writing[guest.key]:
                    await asyncio.sleep(_KEEP_POLL_S)  # what is being written is newer than what is known yet
                self._again.discard(guest.key)
                if guest.run is None or self.guests.get(guest.key) is not guest:
                    return
                record = guest.refreshed()
                guest.adopt(record, live=guest.live)
                try:
                    await self.store.write(records.path_of(record.uuid), records.encode(record), completes=False)
                except VirtError as exc:
                    self.log.warning("a guest's state could not be written", guest=guest.name, error=exc.message)
                if guest.key not in self._again:
                    return
        finally:
            self._keeping.discard(guest.key)

    # --- the end of a guest ------------------------------------------------------------------------------------------

    def watch(self, guest: Guest, process: GuestProcess) -> None:
        """The process is this guest; its end will be noticed."""
        guest.process = process
        process.on_end(lambda: self._process_ended(guest, process))

    def look_after(self, guest: Guest) -> None:
        """The end of a guest that ended while nobody would hear of it is told now."""
        process = guest.process
        if process is not None and not process.is_alive:
            self._process_ended(guest, process)

    def _process_ended(self, guest: Guest, process: GuestProcess) -> None:
        if guest.process is not process or guest.destroys or guest.held is not None:
            return
        self.runtime.spawn(self._end_by_itself(guest, process), f"end of {guest.name}")

    async def _end_by_itself(self, guest: Guest, process: GuestProcess) -> None:
        # what the monitor said last is read before the end is
        await asyncio.sleep(0)
        if guest.process is process and guest.run is not None:
            await self.end(guest, reason_of_end(guest), origin="guest")

    async def end(
        self,
        guest: Guest,
        reason: DomainShutoffReason,
        *,
        origin: str | None = None,
        told: Sequence[Told] = (),
        completes: bool = True,
    ) -> None:
        """A guest whose process has ended is off, or gone when it was transient.

        Never fails: a disk that refuses is told in the log, and the file is put right at the next change or start.
        """
        if guest.ending is not None:
            await asyncio.shield(guest.ending)
            return
        run = guest.run
        if run is None:
            return
        guest.ending = asyncio.get_running_loop().create_future()
        try:
            events = [*told, states.stopped(guest, reason)]
            record = msgspec.structs.replace(guest.record, run=None, off_reason=int(reason), off_since=time.time())
            path = records.path_of(record.uuid)
            try:
                if guest.is_persistent:
                    await self.store.write(path, records.encode(record), completes=completes)
                else:
                    await self.store.remove(path, completes=completes)
            except VirtError as exc:
                self.log.warning("the end of a guest could not be written", guest=guest.name, error=exc.message)
            if run.backup is not None:
                from actors.qemu.block.backup import end_with_guest

                end_with_guest(self, guest)
            from actors.qemu.claims import let_go

            await let_go(self, record.uuid, run.id)
            with contextlib.suppress(VirtError):
                await run_downscripts(guest.live.devices.interfaces)
            from actors.qemu.helpers.parting import part

            await part(self, guest, run)
            from actors.qemu.transient import drop_overlays

            with contextlib.suppress(VirtError):
                drop_overlays(guest.live.devices.disks)
            self._let_go(guest, run)
            guest.adopt(record)
            if guest.is_persistent:
                self.publish(guest, events, origin=origin)
            else:
                from actors.qemu.moments.keeping import forget_moments

                await forget_moments(self, guest)
                self.forget(guest)
                self.objects.drop("domain", guest.key, events=events, scope=self.scope, origin=origin)
        finally:
            guest.ending.set_result(None)
            guest.ending = None

    def _let_go(self, guest: Guest, run: Run) -> None:
        if guest.monitor is not None:
            guest.monitor.close()
            guest.monitor = None
        guest.process = guest.leases = None
        guest.gave_leases = False
        guest.destroys = guest.got_shutdown = False
        guest.balloon_kib = None
        guest.expected.clear()
        if guest.agent is not None:
            guest.agent.close()
            guest.agent = None
        if guest.perf is not None:
            guest.perf.close()
            guest.perf = None
        self.release_ports(guest)
        clear_run(Path(run.folder), guest.name, partition=run.partition, group=run.group)

    def release_ports(self, guest: Guest) -> None:
        """Other guests may have this guest's ports of displays."""
        try:
            graphics = guest.live.devices.graphics
        except VirtError:
            return
        for one in graphics:
            self.ports.difference_update({one.port or 0, one.tls_port or 0, one.websocket or 0})


def _host_audio(settings: QemuSettings) -> HostAudio:
    """Where the host plays what guests without a backend of their own say."""
    return HostAudio(
        backend=os.environ.get("QEMU_AUDIO_DRV"),
        sdl_driver=os.environ.get("SDL_AUDIODRIVER"),
        without_display=settings.nographics_allow_host_audio,
        with_vnc=settings.vnc_allow_host_audio,
    )


def reason_of_end(guest: Guest) -> DomainShutoffReason:
    """Why a guest ended that nobody ended: it powered off before, or it crashed."""
    if guest.run is not None and guest.run.move is not None and guest.run.move.phase == "waiting":
        return DomainShutoffReason.FAILED
    if guest.got_shutdown or guest.state is DomainState.SHUTDOWN:
        return DomainShutoffReason.SHUTDOWN
    return DomainShutoffReason.CRASHED
