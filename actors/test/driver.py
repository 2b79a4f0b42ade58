"""The test driver: guests, networks and the rest that exist in its documents only, and behave as libvirt's own do."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.runtime import moments
from actors.runtime.actor import Actor
from actors.runtime.calls import Calls
from actors.runtime.differences import Events
from actors.runtime.objects import Entry
from actors.runtime.runtime import Runtime
from actors.test import (
    checkpoints,
    connect,
    cpu_models,
    definitions,
    device_limits,
    devices,
    files,
    inside,
    interfaces,
    iothreads,
    lifecycle,
    lookups,
    memory,
    metadata,
    networks,
    node,
    pools,
    saving,
    scopes,
    screenshot,
    snapshots,
    statistics,
    tuning,
    vcpus,
    volumes,
)
from actors.test.digests import changes
from actors.test.host import TestHost
from schema.enums.error import ErrorDomain


class TestActor(Actor[TestHost]):
    """Serves `test:///default` and `test:///FILE.xml`."""

    __test__ = False

    name = "test"
    schemes = ("test",)
    serves = ("domain", "network", "interface", "storage_pool", "node_device")
    calls: ClassVar[tuple[Calls[Any], ...]] = (
        connect.calls,
        node.calls,
        definitions.calls,
        lifecycle.calls,
        files.calls,
        lookups.calls,
        saving.calls,
        memory.calls,
        vcpus.calls,
        tuning.calls,
        device_limits.calls,
        iothreads.calls,
        metadata.calls,
        inside.calls,
        statistics.calls,
        screenshot.calls,
        networks.calls,
        pools.calls,
        volumes.calls,
        interfaces.calls,
        devices.calls,
        moments.calls,
        snapshots.calls,
        checkpoints.calls,
        cpu_models.calls,
    )
    error_domain = ErrorDomain.TEST

    def differences(self, host: TestHost, old: Entry | None, new: Entry | None) -> Events:
        """What to tell of a document that was written by a process that then died."""
        return changes(old, new)

    async def start(self, runtime: Runtime) -> TestHost:
        """Everything that is on disk is as it was: guests of this driver run as long as their documents say so."""
        host = TestHost(runtime)
        await scopes.start_scopes(host)
        return host
