"""What a run of a guest leaves on its host when its processes have ended, whoever ended them: all of it goes at once.

Each thing is found by the run's folder, so that a driver finds what another one, or a start that failed, has made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from actors.qemu.linking.macvtap import drop_links
from actors.qemu.pid_files import forget_pid, sweep_pids
from actors.qemu.tuning.groups import group_name
from actors.qemu.tuning.hierarchy import host_hierarchy

CHANNELS: Final = "channel"
"""Below the driver's run folder: sockets of guests' channels, in a folder for each run."""


def clear_run(folder: Path, name: str, *, partition: str = "", group: str = "") -> None:
    """Removes what a run had below the driver's run folder, its links and its control groups. Never raises."""
    house = folder.parent
    forget_pid(house, name)
    _, number, short = folder.name.split("-", 2)
    if os.geteuid() == 0 and number.isdecimal():
        # a scope itself is systemd's to remove
        host_hierarchy().remove(group or group_name(partition, house, int(number), short))
    drop_links(folder)
    shutil.rmtree(house / CHANNELS / folder.name, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep_runs(house: Path, folders: Collection[str], names: Collection[str]) -> None:
    """Removes what no running guest has, by their folders' names and their own. Never raises."""
    for place in (house / CHANNELS).glob("domain-*"):
        if place.name not in folders:
            shutil.rmtree(place, ignore_errors=True)
    sweep_pids(house, names)
