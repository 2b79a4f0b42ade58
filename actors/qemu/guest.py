"""One guest in memory: its document, its definitions once they are needed, its process and monitor while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from actors.qemu.block.waiting import JobWaiters
from actors.qemu.fd_groups import FdGroups
from actors.qemu.hotplug.departures import Departures
from actors.qemu.moments.records import Moments
from actors.qemu.monitor.link import Command, CommandRefused, Monitor, MonitorGone
from actors.qemu.monitor.protocol import Notice
from actors.qemu.process import GuestProcess
from actors.qemu.records import Facts, Record, Run, text_of
from conf.document import parse_document
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from schema.enums.domain_state import DomainState
from schema.errors import Busy, DomainStateError, HypervisorGone, InternalError
from schema.objects import DomainRef
from schema.summaries import DomainSummary

if TYPE_CHECKING:
    from actors.qemu.agent.link import AgentLink
    from actors.qemu.helpers.crew import Crew
    from actors.qemu.job import Job
    from actors.qemu.migration.leaving import Leaving
    from actors.qemu.statistics_off import Told
    from actors.qemu.tuning.perf import PerfCounters

UNANSWERED_MAX: Final = 512
BUSY_RETRY_S: Final = 1.0


class Guest:
    """A guest as it is now."""

    def __init__(self, record: Record, scope: str) -> None:
        self.record = record
        self.scope = scope
        self.key = UUID(record.uuid).bytes
        self.process: GuestProcess | None = None
        self.monitor: Monitor | None = None
        self.ending: asyncio.Future[None] | None = None
        """The end of a running guest is being written down."""
        self.destroys = False
        """A call ends it and will say so itself."""
        self.expected: set[str] = set()
        """Changes that a call has asked for and will tell itself: `STOP`, `RESUME`, `RESET`."""
        self.balloon_kib: int | None = None
        self.got_shutdown = False
        self.held: list[Notice] | None = None
        """What the monitor told while the guest starts: it is taken up once the start itself has been told."""
        self.waiters = JobWaiters()
        """Who waits for jobs of QEMU's."""
        self.moments = Moments()
        """Its snapshots and checkpoints."""
        self.job: Job | None = None
        """The long work that goes on with it."""
        self.completed_job: Job | None = None
        self.perf: PerfCounters | None = None
        self.agent: AgentLink | None = None
        self.agent_timeout = -2
        self.migration_mib: int | None = None
        """How fast it may be moved, in MiB/s; None: as fast as the network is."""
        self.leaving: Leaving | None = None
        """It is on its way to another host."""
        self.resets = 0
        """How often it has been reset since we know it."""
        self.fd_groups = FdGroups()
        """Open files that clients lend it."""
        self.crew: Crew | None = None
        """The programs that run beside its QEMU."""
        self.departures = Departures()
        """Devices that were asked to go."""
        self.leases: set[str] | None = None
        """What its process holds for what it writes; None: those of its definition, as far as we know."""
        self.gave_leases = False
        """It stands still and has let others have what it wrote: it must not go on without its leases."""
        self.told_off: Told | None = None
        self.old_facts: tuple[Record, Facts] | None = None
        """What the document does not say of itself, because it is of an older agent's."""
        self._live: Domain | None = None
        self._config: Domain | None = None

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def run(self) -> Run | None:
        return self.record.run

    @property
    def is_active(self) -> bool:
        return self.record.run is not None

    @property
    def is_persistent(self) -> bool:
        return self.record.xml is not None

    @property
    def id(self) -> int:
        return -1 if self.record.run is None else self.record.run.id

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.record.name, self.key, self.id)

    @property
    def state(self) -> DomainState:
        return DomainState.SHUTOFF if self.record.run is None else DomainState(self.record.run.state)

    @property
    def folder(self) -> Path:
        """Where the running guest's sockets and keys are."""
        return Path(self.need_run().folder)

    @property
    def facts(self) -> Facts:
        return self.record.facts if self.record.run is None else self.record.run.facts

    def need_run(self) -> Run:
        """What is known of the running guest. Raises DomainStateError when it is off."""
        if self.record.run is None:
            raise DomainStateError("domain is not running")
        return self.record.run

    def summary(self) -> DomainSummary:
        """What lists and states answer."""
        record, run, facts = self.record, self.record.run, self.facts
        summary = DomainSummary(
            id=self.id,
            state=int(self.state),
            reason=record.off_reason if run is None else run.reason,
            persistent=self.is_persistent,
            autostart=record.autostart,
            managed_save=record.managed_save,
            os_type=facts.os_type,
            max_mem=facts.max_mem,
            mem=facts.mem if self.balloon_kib is None or run is None else self.balloon_kib,
            vcpus=facts.vcpus,
            title=facts.title,
            scope=self.scope,
            snapshots=len(self.moments.snapshots),
            checkpoints=len(self.moments.checkpoints),
            since=record.off_since if run is None else run.since,
        )
        if facts.tags:
            summary["tags"] = list(facts.tags)
        return summary

    # --- definitions -------------------------------------------------------------------------------------------------

    @property
    def live(self) -> Domain:
        """The definition that the running guest has; not to be changed. Raises DomainStateError when it is off."""
        if self._live is None:
            # it was complete when it was written, and no emulator is asked about it again
            self._live = parse_live(self.need_run().xml, ParseFlags.STATUS)
        return self._live

    @property
    def config(self) -> Domain:
        """The definition for the next start; not to be changed. Raises DomainStateError for a transient guest."""
        if self._config is None:
            if self.record.xml is None:
                raise DomainStateError("transient domains do not have any persistent config")
            self._config = parse_live(text_of(self.record.xml), ParseFlags.INACTIVE)
        return self._config

    def adopt(self, record: Record, *, live: Domain | None = None, config: Domain | None = None) -> None:
        """The document on disk is this one now."""
        if record.run is None or self.record.run is None or record.run.xml != self.record.run.xml:
            self._live = live
        if record.xml != self.record.xml:
            self._config = config
        self.record = record

    def refreshed(self) -> Record:
        """The document with the running definition as it is now, which follows what the guest does by itself."""
        run = self.record.run
        if run is None or self._live is None:
            return self.record
        xml = write_domain(self._live, XmlFlags.SECURE, id=run.id)
        return (
            self.record
            if xml == run.xml
            else msgspec.structs.replace(self.record, run=msgspec.structs.replace(run, xml=xml))
        )

    def running(self, **values: Any) -> Record:
        """The document with other values of the running guest. Raises DomainStateError when it is off."""
        run = msgspec.structs.replace(self.need_run(), **values)
        return msgspec.structs.replace(self.record, run=run)

    # --- its monitor -------------------------------------------------------------------------------------------------

    async def ask(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """The value of one command.

        Raises InternalError with QEMU's reason when it refuses, HypervisorGone when it ends meanwhile, Busy when it has
        not answered for long.
        """
        (value,) = await self.ask_all([(name, arguments)])
        return value

    async def ask_all(self, commands: list[Command]) -> list[Any]:
        """The values of commands that are sent in one write. Raises as `ask` does, for the first that fails."""
        monitor = self.need_monitor()
        if len(monitor.unanswered) > UNANSWERED_MAX:
            raise Busy(BUSY_RETRY_S, f"the monitor of guest '{self.name}' does not answer")
        values = []
        for future in monitor.submit(commands):
            try:
                values.append(await future)
            except CommandRefused as exc:
                raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
            except MonitorGone as exc:
                raise HypervisorGone(f"the guest '{self.name}' ended: {exc}") from exc
        return values

    def need_monitor(self) -> Monitor:
        """The guest's monitor. Raises DomainStateError when it is off, HypervisorGone when it cannot be reached."""
        self.need_run()
        if self.monitor is None or not self.monitor.is_open:
            raise HypervisorGone(f"the monitor of guest '{self.name}' is not connected")
        return self.monitor


def parse_live(xml: str, flags: ParseFlags) -> Domain:
    """A definition of ours, as it was written: nothing is filled in and nothing checked again."""
    return Domain.parse(parse_document(xml, name="domain_definition", root="domain"), flags)
