"""Old calls as special cases of the newer ones that subsume them.

A driver handles `domain_create_with_flags`; `domain_create` then needs no line of code in any driver. A call goes
through the newer one's mailbox, by the same key and in the same lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from actors.runtime.calls import Handler
from schema.enums.domain import DomainModificationImpact as Impact
from schema.table import need_procedure

_LIVE: Final = int(Impact.LIVE)


class Derivation(NamedTuple):
    """How a call is made of a newer one: its name, arguments that are added, and what becomes of its result."""

    newer: str
    added: Mapping[str, Any]
    result: Callable[[Any], Any] | None = None


def _nothing(result: Any) -> None:
    return None


_FLAGS: Final[Mapping[str, Any]] = {"flags": 0}

DERIVATIONS: Final[dict[str, Derivation]] = {
    "domain_create": Derivation("domain_create_with_flags", _FLAGS, _nothing),
    "domain_shutdown": Derivation("domain_shutdown_flags", _FLAGS),
    "domain_destroy": Derivation("domain_destroy_flags", _FLAGS),
    "domain_undefine": Derivation("domain_undefine_flags", _FLAGS),
    "domain_define_xml": Derivation("domain_define_xml_flags", _FLAGS),
    "domain_save": Derivation("domain_save_flags", {"dxml": None, "flags": 0}),
    "domain_restore": Derivation("domain_restore_flags", {"dxml": None, "flags": 0}),
    "domain_core_dump": Derivation("domain_core_dump_with_format", {"dumpformat": 0}),
    "domain_set_memory": Derivation("domain_set_memory_flags", {"flags": _LIVE}),
    "domain_set_max_memory": Derivation("domain_set_memory_flags", {"flags": 4}),
    "domain_set_vcpus": Derivation("domain_set_vcpus_flags", {"flags": _LIVE}),
    "domain_get_max_vcpus": Derivation("domain_get_vcpus_flags", {"flags": 4 | _LIVE}),
    "domain_pin_vcpu": Derivation("domain_pin_vcpu_flags", {"flags": _LIVE}),
    "domain_attach_device": Derivation("domain_attach_device_flags", {"flags": _LIVE}),
    "domain_detach_device": Derivation("domain_detach_device_flags", {"flags": _LIVE}),
    "domain_abort_job": Derivation("domain_abort_job_flags", _FLAGS),
    "domain_set_scheduler_parameters": Derivation("domain_set_scheduler_parameters_flags", {"flags": 0}),
    "domain_get_scheduler_parameters": Derivation("domain_get_scheduler_parameters_flags", {"flags": 0}),
    "network_define_xml": Derivation("network_define_xml_flags", _FLAGS),
    "network_create_xml": Derivation("network_create_xml_flags", _FLAGS),
    "nwfilter_define_xml": Derivation("nwfilter_define_xml_flags", _FLAGS),
    "node_device_dettach": Derivation("node_device_detach_flags", {"driverName": None, "flags": 0}),
}


def derive(name: str, derivation: Derivation, newer: Handler) -> Handler:
    """The handler of a call in terms of the newer call's. Raises TypeError when their arguments do not fit."""
    procedure = need_procedure(name)
    own = {field.name for field in procedure.args}
    if missing := [n for n in newer.names if n not in own and n not in derivation.added]:
        raise TypeError(f"'{name}' cannot be derived from '{derivation.newer}': nothing gives '{missing[0]}'")
    names = tuple(name for name in newer.names if name in own)
    places = [names.index(n) if n in own else None for n in newer.names]
    constants = [derivation.added.get(n) for n in newer.names]

    def arguments(values: tuple[Any, ...]) -> list[Any]:
        return [constants[i] if place is None else values[place] for i, place in enumerate(places)]

    def answer_at_once(host: Any, *values: Any) -> Any:
        return newer.function(host, *arguments(values))

    async def answer(host: Any, *values: Any) -> Any:
        return await newer.function(host, *arguments(values))

    function = answer_at_once if newer.is_plain else answer
    return Handler(procedure, function, names, newer.key, newer.lane, newer.key_of, newer.is_plain, derivation.result)
