"""A driver that ends at one step of a start, or of the end of a guest, as one that is killed does.

`python -m tests.real.dying_start ROOT CHANGE STEP`: the guest of `guest.xml` is defined and, with CHANGE `start`,
started; with `destroy` it is started before and then ended. At the step of that number the process is gone. It works
in the network in which it is started, and prints how the call ended when it gets that far.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from actors.qemu import claims, start
from actors.qemu.driver import QemuActor
from actors.qemu.guest import Guest
from actors.qemu.linking import macvtap
from actors.qemu.monitor.link import Monitor
from actors.qemu.owning import register, xattrs
from actors.qemu.owning.register import Register
from actors.runtime.intents import Intents
from actors.runtime.store import Store
from schema.errors import VirtError
from settings.qemu import QemuSettings
from tests.contract.house import open_house
from tests.real.dying import CORRELATION, SCOPE, SOURCE, Steps

SETTINGS: Final = QemuSettings(user="+64055", group="+64055")


def watch_plain(steps: Steps, owner: object, name: str) -> None:
    """What this function does is a step too."""
    inner: Callable[..., object] = getattr(owner, name)

    def watched(*args: object, **kwargs: object) -> object:
        steps.step()
        value = inner(*args, **kwargs)
        steps.step()
        return value

    setattr(owner, name, watched)


async def cut_short(root: Path, change: str, end_at: int) -> None:
    """Begins the change, and ends."""
    steps = Steps(end_at)
    for owner, name in (
        (Guest, "ask"),
        (Monitor, "hand_over"),
        (Store, "write"),
        (Intents, "begin"),
        (Intents, "close"),
    ):
        steps.watch(owner, name)
    for place, word in (
        (Register, "_put"),
        (Register, "_drop"),
        (register, "_change"),
        (xattrs, "write_memory"),
        (xattrs, "forget_memory"),
        (claims, "take"),
        (start, "spawn_process"),
        (macvtap, "make_macvtap"),
        (macvtap, "remove_macvtap"),
    ):
        watch_plain(steps, place, word)
    xml = (root / "guest.xml").read_text(encoding="utf-8")
    async with open_house(QemuActor(), SCOPE, root) as house:
        house.runtime.config = dataclasses.replace(house.runtime.config, qemu=SETTINGS)
        defined = await house.call("domain_define_xml_flags", xml=xml, flags=0)
        procedure = "domain_create_with_flags"
        if change == "destroy":
            await house.outcome(house.post(procedure, dom=defined.dom, flags=1, deadline_s=60))
            await asyncio.sleep(0.1)  # what is kept in the background is kept
            procedure = "domain_destroy_flags"
        steps.counts = True
        try:
            call = house.post(
                procedure, correlation=CORRELATION, source=SOURCE, deadline_s=60, dom=defined.dom, flags=0
            )
            await house.outcome(call)
            print("done", flush=True)
        except VirtError as exc:
            print(f"refused: {exc}", flush=True)
        os._exit(0)


if __name__ == "__main__":
    uvloop.run(cut_short(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
