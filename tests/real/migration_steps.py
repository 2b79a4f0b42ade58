"""A guest that moves between two drivers of one process, and the calls that a client makes for it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from actors.qemu.driver import QemuActor
from broker.peer import IncomingCall
from schema.body import args_struct, pack_args
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import (
    DomainState,
)
from schema.errors import (
    NoSuchDomain,
)
from schema.objects import DomainRef, TypedParam
from schema.table import need_procedure
from tests.contract.house import House, open_house
from tests.process.ending import processes_below
from tests.real.guest import guest_folder, needs_qemu
from tests.real.test_qemu_agent import image_with_agent, until

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
STARTED, SUSPENDED, RESUMED, STOPPED = 2, 3, 4, 5
LIVE = int(Flags.LIVE)


def emulators_below(folder: Path) -> list[int]:
    """The QEMU processes whose files are below a folder."""
    return processes_below(folder, word=b"masterKey0")


class Traveller:
    """A guest; one that does not boot is quick."""

    def __init__(self, *, boots: Path | None = None, more: str = "") -> None:
        self.uuid = uuid4()
        self.name = f"mig-{self.uuid.hex[:8]}"
        self.ref = DomainRef(self.name, self.uuid.bytes, -1)
        self.console = boots
        kernel = serial = ""
        if boots is not None:
            kernel = (
                f"<kernel>{guest_folder()}/vmlinuz</kernel><initrd>{image_with_agent()}</initrd>"
                "<cmdline>console=ttyS0 quiet panic=-1 rdinit=/agent-init count-aloud</cmdline>"
            )
            serial = f"<serial type='pty'><log file='{boots}' append='on'/><target port='0'/></serial>"
        self.xml = (
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>160</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>{kernel}</os><features><acpi/></features>"
            f"<devices>{serial}{more}<memballoon model='none'/></devices></domain>"
        )

    def counted(self) -> list[int]:
        """The numbers that the guest has said, on whatever host."""
        assert self.console is not None
        text = self.console.read_text("latin1") if self.console.exists() else ""
        words = [line.partition("VIRTROUPE-COUNT ")[2].strip() for line in text.splitlines()]
        return [int(word) for word in words if word.isdigit()]


async def ask(house: House, procedure: str, **args: object) -> Any:
    """A call that may take its time."""
    call = post(house, procedure, **args)
    await until(f"an outcome of {procedure}", lambda: call.id in house.broker.outcomes, 100)
    return await house.outcome(call)


def post(house: House, procedure: str, **args: object) -> IncomingCall:
    known = need_procedure(procedure)
    if "flags" in args_struct(known).__struct_fields__:
        args = {"flags": 0} | args
    body = pack_args(known, args)
    return house.post(procedure, body=body, deadline_s=120)


@contextlib.asynccontextmanager
async def two_hosts(root: Path) -> AsyncIterator[tuple[House, House]]:
    needs_qemu()
    for name in ("a", "b"):
        (root / name).mkdir()
    async with (
        open_house(QemuActor(), SCOPE, root / "a") as source,
        open_house(QemuActor(), SCOPE, root / "b") as destination,
    ):
        yield source, destination


@contextlib.asynccontextmanager
async def host(root: Path, name: str, *, epoch: int = 1, dies: bool = False) -> AsyncIterator[House]:
    needs_qemu()
    (root / name).mkdir(exist_ok=True)
    async with open_house(QemuActor(), SCOPE, root / name, epoch=epoch, orderly=not dies) as house:
        yield house


async def start(house: House, guest: Traveller, *, transient: bool = False) -> None:
    if transient:
        await ask(house, "domain_create_xml", xml_desc=guest.xml)
    else:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await ask(house, "domain_create_with_flags", dom=guest.ref)


async def state(house: House, guest: Traveller) -> tuple[int, int]:
    told = await house.call("domain_get_state", dom=guest.ref, flags=0)
    return told.state, told.reason


async def runs(house: House, guest: Traveller) -> bool:
    try:
        return (await state(house, guest))[0] == DomainState.RUNNING
    except NoSuchDomain:
        return False


async def begin(house: House, guest: Traveller, flags: int, *params: TypedParam) -> Any:
    return await ask(house, "domain_migrate_begin3_params", dom=guest.ref, params=list(params), flags=flags)


async def prepare(house: House, guest: Traveller, begun: Any, flags: int, uri: str, *more: TypedParam) -> Any:
    params = [
        TypedParam.of_string("destination_xml", begun.xml),
        TypedParam.of_string("destination_name", guest.name),
        TypedParam.of_string("migrate_uri", uri),
        *more,
    ]
    return await ask(house, "domain_migrate_prepare3_params", params=params, cookie_in=begun.cookie_out, flags=flags)


def post_perform(
    house: House, guest: Traveller, cookie: bytes, flags: int, uri: str, *more: TypedParam
) -> IncomingCall:
    params = [TypedParam.of_string("migrate_uri", uri), *more]
    return post(
        house,
        "domain_migrate_perform3_params",
        dom=guest.ref,
        dconnuri=None,
        params=params,
        cookie_in=cookie,
        flags=flags,
    )


async def perform(house: House, guest: Traveller, cookie: bytes, flags: int, uri: str, *more: TypedParam) -> bytes:
    call = post_perform(house, guest, cookie, flags, uri, *more)
    return bytes((await outcome(house, call)).cookie_out)


async def outcome(house: House, call: IncomingCall) -> Any:
    """The end of a call that may take its time."""
    await until("an outcome", lambda: call.id in house.broker.outcomes, 100)
    return await house.outcome(call)


async def finish(house: House, guest: Traveller, cookie: bytes, flags: int, *, cancelled: bool = False) -> Any:
    return await outcome(house, post_finish(house, guest, cookie, flags, cancelled=cancelled))


def post_finish(house: House, guest: Traveller, cookie: bytes, flags: int, *, cancelled: bool = False) -> IncomingCall:
    params = [TypedParam.of_string("destination_name", guest.name)]
    return post(
        house,
        "domain_migrate_finish3_params",
        params=params,
        cookie_in=cookie,
        flags=flags,
        cancelled=int(cancelled),
    )


async def confirm(house: House, guest: Traveller, flags: int, *, cancelled: bool = False) -> None:
    await ask(
        house,
        "domain_migrate_confirm3_params",
        dom=guest.ref,
        params=[],
        cookie_in=b"",
        flags=flags,
        cancelled=int(cancelled),
    )


async def move(source: House, destination: House, guest: Traveller, flags: int, uri: str, *params: TypedParam) -> None:
    """All steps, as a client makes them."""
    begun = await begin(source, guest, flags, *params)
    prepared = await prepare(destination, guest, begun, flags, uri, *params)
    cookie = await perform(source, guest, prepared.cookie_out, flags, prepared.uri_out or uri, *params)
    await finish(destination, guest, cookie, flags)
    await confirm(source, guest, flags)


class Sink:
    """Somebody who lets QEMU connect and reads nothing: memory never gets through."""

    def __init__(self, root: Path) -> None:
        self.path = root / "sink.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen(1)

    @property
    def uri(self) -> str:
        return f"unix://{self.path}"

    def close(self) -> None:
        self._socket.close()


async def on_its_way(house: House, guest: Traveller) -> None:
    def is_sending() -> bool:
        run = house.host.guests[guest.uuid.bytes].run
        job = house.host.guests[guest.uuid.bytes].job
        return run is not None and run.move is not None and job is not None and "status" in job.status

    await until("the guest is on its way", is_sending, 30)
