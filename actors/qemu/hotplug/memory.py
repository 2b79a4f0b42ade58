"""Memory modules of a running guest, and how much of a virtio one the guest is to have."""

from __future__ import annotations

from typing import Any

from actors.qemu.command import memory as writing
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.lists import remove
from actors.qemu.hotplug.places import settle
from actors.qemu.hotplug.steps import Steps, carry_out
from conf.domain.address import DimmAddress
from conf.domain.memory_device import MemoryDevice, MemoryModel

_ALIGN_KIB = 2048


async def attach(board: Board, module: MemoryDevice) -> None:
    """Plugs a module in. Raises ConfigUnsupported and RefusedDocument when the guest has no room for it."""
    module.target.size_kib = -(-module.target.size_kib // _ALIGN_KIB) * _ALIGN_KIB
    settle(board.domain, module, board.rules)
    try:
        steps = Steps()
        writing.add_modules(board.launch(module), steps)
        await board.note(module, steps.undo)
        await carry_out(board.talk, steps.ordered)
    except BaseException:
        remove(board.domain, module)
        raise
    board.domain.memory.kib += module.target.size_kib
    if board.domain.current_memory_kib is not None:
        board.domain.current_memory_kib += module.target.size_kib
    await refresh(board)


async def refresh(board: Board) -> None:
    """Takes over what QEMU tells of modules: where they are, and how much of a virtio one the guest has."""
    told = {str(one["data"].get("id")): one["data"] for one in await board.talk.ask("query-memory-devices")}
    for module in board.domain.devices.memories:
        learn(module, told.get(module.alias or ""))


def learn(module: MemoryDevice, told: dict[str, Any] | None) -> None:
    """Takes over what QEMU tells of one module."""
    if told is None:
        return
    if isinstance(module.address, DimmAddress):
        module.address.slot, module.address.base = int(told["slot"]), int(told["addr"])
    if module.model is MemoryModel.VIRTIO_MEM:
        module.target.current_kib = int(told["size"]) // 1024


def forget(board: Board, module: MemoryDevice) -> None:
    """The guest has the module no longer."""
    domain = board.domain
    domain.memory.kib -= module.target.size_kib
    if domain.current_memory_kib is not None:
        domain.current_memory_kib = min(max(domain.current_memory_kib - module.target.size_kib, 0), domain.memory.kib)


async def resize(board: Board, known: MemoryDevice, wanted: MemoryDevice) -> None:
    """How much of a virtio module the guest is asked to have."""
    assert wanted.target.requested_kib is not None
    path = f"/machine/peripheral/{known.alias}"
    value = wanted.target.requested_kib * 1024
    await board.talk.ask("qom-set", {"path": path, "property": "requested-size", "value": value})
    known.target.requested_kib = wanted.target.requested_kib
