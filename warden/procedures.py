"""The `warden_*` procedures: what they ask of the actors they name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from schema.body import pack_result, unpack_args
from schema.errors import InvalidArguments, UnknownProcedure
from schema.table import need_procedure
from warden.charge import Charge

PROCEDURES: Final = (
    "warden_actor_start",
    "warden_actor_stop",
    "warden_actor_restart",
    "warden_actor_reset",
    "warden_actor_list",
    "warden_actor_ensure",
    "warden_actor_gone",
    "warden_actor_ready",
)


class Procedures:
    """Answers calls from the charges alone; what follows from them is done by whoever holds the charges."""

    def __init__(
        self, charges: Mapping[str, Charge], row: Callable[[Charge], dict[str, Any]], clock: Callable[[], float]
    ) -> None:
        self._charges = charges
        self._row = row
        self._clock = clock

    def answer(self, name: str, body: bytes) -> tuple[bytes, Charge | None]:
        """The packed result, and the actor that has deeds now. Raises VirtError."""
        if name not in PROCEDURES:
            raise UnknownProcedure(name)
        procedure = need_procedure(name)
        arguments = unpack_args(procedure, body)
        if name == "warden_actor_list":
            rows = [self._row(charge) for _, charge in sorted(self._charges.items())]
            return pack_result(procedure, {"actors": rows}), None
        charge = self._charges.get(arguments.name)
        if charge is None:
            known = ", ".join(sorted(self._charges))
            raise InvalidArguments(f"there is no driver '{arguments.name}' on this host. Drivers here: {known}")
        self._carry_out(name, arguments, charge, self._clock())
        return pack_result(procedure, None), charge

    def _carry_out(self, name: str, arguments: Any, charge: Charge, now: float) -> None:
        if name == "warden_actor_ensure":
            if arguments.epoch is not None:
                charge.hung(now, arguments.epoch, arguments.why)
            else:
                charge.ensure(now)
        elif name == "warden_actor_gone":
            charge.gone(now, arguments.pid, arguments.epoch)
        elif name == "warden_actor_ready":
            charge.ready(now, arguments.pid, arguments.epoch)
        elif name == "warden_actor_start":
            charge.start(now)
        elif name == "warden_actor_stop":
            charge.stop(now)
        elif name == "warden_actor_restart":
            charge.restart(now)
        else:
            charge.reset(now)


def wall_time(monotonic: float | None, now: float) -> float | None:
    """A moment of this process's clock as others can read it."""
    return None if monotonic is None else time.time() + monotonic - now
