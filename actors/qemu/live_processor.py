"""The processor that a running guest really has: what its emulator gave it beyond its definition, and could not give.

QEMU is asked for whole registers, not for hundreds of features one by one, in the same write as everything else that a
start asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from actors.qemu.capabilities.host_model import NAMES_IN_QEMU, properties_of_expansion
from actors.qemu.guest import Guest
from actors.qemu.monitor.link import Command, CommandRefused, Monitor
from conf.cpu.cpu import CpuMode, GuestCpu
from conf.cpu.x86_live import bits_of_words, update_live
from conf.cpu.x86_map import X86Map
from conf.document import parse_document
from conf.domain.domain import Domain, VirtType

_FIRST: Final = "/machine/unattached/device[0]"
"""Where the first processor of a machine is, unless it was plugged in."""
_X86: Final = ("x86_64", "i686")


def is_told(live: Domain, table: X86Map | None) -> bool:
    """Whether this guest's emulator is asked what processor it has."""
    cpu = live.cpu
    if table is None or cpu is None or live.os.kind.arch not in _X86:
        return False
    if cpu.mode not in (None, CpuMode.CUSTOM):
        return False  # the host's own: what it has is what there is
    return cpu.model is not None and cpu.model.name in table.models


def processor_questions(live: Domain, table: X86Map, path: str = _FIRST) -> list[Command]:
    """What is asked of a processor; any of it may be refused."""
    names = ["feature-words", "unavailable-features", *_of_kernel(live, table)]
    return [("qom-get", {"path": path, "property": name}) for name in names]


def _of_kernel(live: Domain, table: X86Map) -> list[str]:
    """Features that stand in registers which the words do not have; without KVM there are none."""
    if live.type is not VirtType.KVM:
        return []
    names = [feature.name for feature in table.features.values() if feature.is_msr]
    return [NAMES_IN_QEMU.get(name, name.replace("_", "-")) for name in names]


def first_path(processors: Sequence[dict[str, object]]) -> str:
    """Where the first of the processors is that `query-cpus-fast` tells of."""
    return str(processors[0].get("qom-path", _FIRST)) if processors else _FIRST


async def learn_processor(
    monitor: Monitor, live: Domain, table: X86Map, path: str, answers: Sequence[object]
) -> str | None:
    """Takes the answers into the definition; the definition's own processor, if that is another one now.

    They are asked for again when the first processor is somewhere else than usual. Raises OperationFailed when the
    definition insists on being met and is not, MonitorGone.
    """
    if path != _FIRST:
        answers = await _ask_again(monitor, processor_questions(live, table, path))
    words, unavailable, *registers = answers
    cpu = live.cpu
    if cpu is None or not isinstance(words, list):
        return None
    enabled = bits_of_words(words, table)
    for feature, is_on in zip((one for one in table.features.values() if one.is_msr), registers, strict=False):
        enabled |= feature.bits if is_on is True else 0
    disabled = 0
    names = [str(one) for one in unavailable] if isinstance(unavailable, list) else []
    for name in properties_of_expansion(dict.fromkeys(names, True)):
        lacking = table.find_feature(name)
        disabled |= lacking.bits if lacking is not None else 0
    before = cpu.copy()
    update_live(cpu, enabled, disabled, table)
    is_same = before.features == cpu.features
    return None if is_same else before.to_xml()


async def _ask_again(monitor: Monitor, questions: Sequence[Command]) -> list[object]:
    answers: list[object] = []
    for question in monitor.submit(questions):
        try:
            answers.append(await question)
        except CommandRefused:
            answers.append(None)
    return answers


def as_asked(guest: Guest) -> Domain:
    """A running guest's definition with the processor that was asked for: what other hosts and later starts get."""
    run = guest.need_run()
    if not run.processor:
        return guest.live
    copy = guest.live.copy()
    copy.cpu = GuestCpu.parse(parse_document(run.processor, name="cpu", root="cpu"))
    return copy


def actual_processor(guest: Guest) -> GuestCpu | None:
    """The processor that a running guest has, where it is not the one that was asked for."""
    return guest.live.cpu if guest.need_run().processor else None
