"""The table of the skeleton: what it serves, how it starts and stops.

A new driver begins as a copy of this folder (docs/new-driver.md). It answers nothing but what the runtime answers for
every driver.
"""

from __future__ import annotations

from actors.runtime.actor import Actor
from actors.runtime.runtime import Runtime
from actors.skeleton.host import SkeletonHost


class SkeletonActor(Actor[SkeletonHost]):
    """A driver without a hypervisor."""

    name = "skeleton"
    serves = ()

    async def start(self, runtime: Runtime) -> SkeletonHost:
        """Nothing outlived the last process, because there is nothing."""
        return SkeletonHost(runtime)
