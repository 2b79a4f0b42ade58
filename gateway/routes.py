"""What is done with each call, found by program and number: who answers it, and how its bytes are translated."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.parts import PROCEDURES, Parts
from gateway.reads import READERS, Reader
from rpc.packet import PROGRAM_VERSION, Program
from rpc.xdr import XdrCodec, args_codec, result_codec
from schema.body import args_struct, result_struct
from schema.enums.typed_parameter import TypedParameterType
from schema.limits import limit_of
from schema.model import Field, Procedure
from schema.table import need_procedure, procedure_by_number

if TYPE_CHECKING:
    from gateway.connection import Connection

Immediate = Callable[["Connection", Any], Mapping[str, Any]]
"""Answers from what the gateway itself knows: connection and arguments in, result out."""

Awaited = Callable[["Connection", "Route", Any], Awaitable[Mapping[str, Any]]]
"""The same where something has to be waited for."""

Shape = Callable[[Any, Any], Any]
"""Fits a driver's result to what this caller asked for: arguments and result in, result out."""

_call_name: Final = struct.Struct(">IIi")
_STRING_OKAY: Final = 4
_PROGRAMS: Final = {int(Program.REMOTE): "remote", int(Program.QEMU): "qemu", int(Program.LXC): "lxc"}
_NUMBERS: Final = {name: number for number, name in _PROGRAMS.items()}
_UUID_OBJECTS: Final = frozenset({"domain", "network", "network_port", "storage_pool", "nwfilter", "secret"})
_NAMED_OBJECTS: Final = {
    "interface": "name",
    "node_device": "name",
    "storage_vol": "key",
    "nwfilter_binding": "portdev",
}
_PARTS_OF_DOMAINS: Final = frozenset({"domain_snapshot", "domain_checkpoint"})


class Specials:
    """The hand-written answers, by procedure."""

    def __init__(self) -> None:
        self.immediate: dict[str, Immediate] = {}
        self.awaited: dict[str, Awaited] = {}
        self.shapes: dict[str, Shape] = {}
        self.before_open: set[str] = set()

    def answers(self, *names: str, before_open: bool = False) -> Callable[[Immediate], Immediate]:
        """Marks what answers these calls at once."""

        def mark(function: Immediate) -> Immediate:
            for name in names:
                self.immediate[name] = function
            if before_open:
                self.before_open.update(names)
            return function

        return mark

    def awaits(self, *names: str, before_open: bool = False) -> Callable[[Awaited], Awaited]:
        """Marks what answers these calls after waiting."""

        def mark(function: Awaited) -> Awaited:
            for name in names:
                self.awaited[name] = function
            if before_open:
                self.before_open.update(names)
            return function

        return mark


class Route:
    """One call of the protocol."""

    __slots__ = (
        "args",
        "awaited",
        "before_open",
        "check",
        "empty",
        "immediate",
        "is_direct",
        "key_of",
        "make_args",
        "make_result",
        "parts",
        "procedure",
        "reader",
        "result",
        "shape",
    )

    def __init__(self, procedure: Procedure, specials: Specials) -> None:
        name = procedure.name
        self.procedure = procedure
        self.reader: Reader | None = READERS.get(name)
        self.immediate = specials.immediate.get(name)
        self.awaited = specials.awaited.get(name)
        self.shape = specials.shapes.get(name) or shape_of(procedure)
        self.check = limit_of(procedure)
        self.before_open = name in specials.before_open
        self.args: XdrCodec = args_codec(procedure)
        self.result: XdrCodec = result_codec(procedure)
        self.make_args = args_struct(procedure)
        self.make_result = result_struct(procedure)
        self.key_of = key_reader(procedure)
        self.is_direct = not (self.reader or self.immediate or self.awaited or procedure.stream or procedure.fds)
        self.parts = Parts(procedure) if name in PROCEDURES else None
        self.empty: Any = self.make_result(**empty_list(procedure)) if is_list(procedure) else None


class Routes:
    """All calls, each prepared when it is first made."""

    def __init__(self, specials: Specials) -> None:
        self._specials = specials
        self._known: dict[int, Route] = {}
        self._by_header: dict[bytes, Route] = {}

    def find_by_header(self, words: bytes) -> Route | None:
        """The route of the call that three words of a header name, once it was made before."""
        return self._by_header.get(words)

    def need(self, program: int, number: int) -> Route:
        """The route of a call. Raises UnknownProcedure."""
        key = program << 32 | (number & 0xFFFFFFFF)
        route = self._known.get(key)
        if route is None:
            route = self._known[key] = Route(procedure_by_number(_PROGRAMS[program], number), self._specials)
            self._by_header[_call_name.pack(program, PROGRAM_VERSION, number)] = route
        return route

    def route_of(self, procedure: Procedure) -> Route:
        """The route of a call of the API."""
        return self.need(_NUMBERS[procedure.program], procedure.number)


def readers_by_header(serves: Container[str]) -> dict[bytes, Reader]:
    """The read model's readers by the three words of a call's header that name it: program, version, procedure.

    What a driver does not serve is not answered in its place: that it has none is another answer than that it cannot.
    """
    return {
        _call_name.pack(Program.REMOTE, PROGRAM_VERSION, need_procedure(name).number): reader
        for name, reader in READERS.items()
        if name in serves
    }


def key_reader(procedure: Procedure) -> Callable[[Any], bytes | str | None]:
    """How the object that a call is about is found in its arguments."""
    for item in procedure.args:
        if not item.optional and item.max is None:
            reader = _key_of_field(item)
            if reader is not None:
                return reader
    return lambda args: None


def _key_of_field(item: Field) -> Callable[[Any], bytes | str | None] | None:
    name, type_ = item.name, item.type
    if type_ in _UUID_OBJECTS:
        return lambda args: getattr(args, name).uuid
    if type_ in _PARTS_OF_DOMAINS:
        return lambda args: getattr(args, name).dom.uuid
    if type_ in _NAMED_OBJECTS:
        attribute = _NAMED_OBJECTS[type_]
        return lambda args: str(getattr(getattr(args, name), attribute))
    if type_ == "uuid" or (type_ == "string" and name == "name"):
        return lambda args: getattr(args, name)
    return None


def is_list(procedure: Procedure) -> bool:
    """Whether the call lists or counts objects of a connection."""
    return procedure.name.startswith(("connect_list_", "connect_num_of_")) and not procedure.args[2:]


def empty_list(procedure: Procedure) -> dict[str, Any]:
    """The result of such a call where there is no object."""
    return {item.name: [] if item.is_list else 0 for item in procedure.ret}


def shape_of(procedure: Procedure) -> Shape | None:
    """How a list's result is fitted, for the two ways in which libvirt's clients ask for a mere number."""
    if not procedure.ret:
        return None
    args = {item.name for item in procedure.args}
    first = procedure.ret[0]
    rest = {item.name for item in procedure.ret[1:]}
    if "need_results" in args and first.is_list and "ret" in rest:
        return _without_unneeded(first.name)
    if "nparams" in args and first.is_list and "nparams" in rest and "ncpus" not in args:
        return _counted(first.name)
    return None


def _without_unneeded(name: str) -> Shape:
    """`need_results` 0 asks for the number alone."""

    def shape(args: Any, result: Any) -> Any:
        items = getattr(result, name)
        if args.need_results or not items:
            return result
        return type(result)(**{name: [], "ret": len(items)})

    return shape


def _counted(name: str) -> Shape:
    """`nparams` 0 asks how many there are; more are never sent than the caller has room for, and then not counted.

    Texts go to those alone who say that they take them.
    """

    def shape(args: Any, result: Any) -> Any:
        items = getattr(result, name)
        if args.nparams == 0:
            return type(result)(**{name: [], "nparams": max(len(items), result.nparams)})
        if len(items) > args.nparams:
            items = items[: args.nparams]
        if not getattr(args, "flags", _STRING_OKAY) & _STRING_OKAY:
            items = [item for item in items if getattr(item, "type", 0) != TypedParameterType.STRING]
        return type(result)(**{name: items, "nparams": 0})

    return shape
