"""What every handler gets as its first argument: the state of this driver's process, and the runtime behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.runtime.intents import Intents
from actors.runtime.objects import Entry, Objects
from actors.runtime.runtime import Runtime
from actors.runtime.store import Store
from schema.objects import DomainRef
from settings.config import Config
from settings.paths import Paths
from util.structured_log import StructuredLog


class Host:
    """The base of a driver's state object."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def objects(self) -> Objects:
        """What this driver has."""
        return self.runtime.objects

    @property
    def store(self) -> Store:
        """The files that must not be lost."""
        return self.runtime.store

    @property
    def intents(self) -> Intents:
        """Changes of several steps."""
        return self.runtime.intents

    @property
    def log(self) -> StructuredLog:
        return self.runtime.log

    @property
    def config(self) -> Config:
        return self.runtime.config

    @property
    def paths(self) -> Paths:
        return self.runtime.paths

    @property
    def state_folder(self) -> Path:
        """What must not be lost."""
        return self.runtime.paths.role_state(self.runtime.name)

    def emit(
        self, kind: str, data: Mapping[str, Any], *, object: Entry | None = None, origin: str | None = None
    ) -> None:
        """Publishes an event that changes nothing about any object.

        Raises InvalidMessage when the data does not fit the schema.
        """
        self.runtime.publisher.record([(kind, data)], object, origin=origin)

    def need_domain(self, dom: DomainRef | bytes) -> Entry:
        """The guest that a reference or uuid names. Raises NoSuchDomain."""
        return self.runtime.objects.need_domain(dom)
