"""Which function answers which call: the table that a driver's modules fill, checked against the schema at import."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from actors.runtime.mailbox import Lane, MailboxKey
from schema.model import Field, Procedure
from schema.table import find_procedure

H = TypeVar("H")
F = TypeVar("F", bound=Callable[..., Any])

KeyOf = Callable[[Any], MailboxKey]

_UUID_TYPES: Final = {
    "domain": "domain",
    "network": "network",
    "nwfilter": "nwfilter",
    "storage_pool": "storage_pool",
    "secret": "secret",
}
_NAMED_TYPES: Final = {"interface": "interface", "node_device": "node_device"}
_OF_DOMAIN: Final = frozenset({"domain_snapshot", "domain_checkpoint"})


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that answers a procedure, and how its calls queue."""

    procedure: Procedure
    function: Callable[..., Any]
    names: tuple[str, ...]
    key: str | None
    lane: Lane
    key_of: KeyOf | None
    is_plain: bool
    finish: Callable[[Any], Any] | None = None
    """What becomes of the function's result, where the function is another procedure's."""

    def arguments(self, args: msgspec.Struct) -> list[Any]:
        """The values to call the function with, behind the host."""
        return [getattr(args, name) for name in self.names]


class Calls(Generic[H]):
    """The handlers of one module.

    `H` is the driver's host object, the first argument of each handler.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __contains__(self, procedure: str) -> bool:
        return procedure in self._handlers

    def handles(self, *, key: str | None = None, lane: str | Lane = Lane.CHANGE) -> Callable[[F], F]:
        """Registers a function under its own name.

        Raises TypeError when the schema has no procedure of that name, when its parameters are not the procedure's
        arguments, or when this module has it already.
        """

        def register(function: F) -> F:
            handler = make_handler(function, key, Lane(lane))
            if handler.procedure.name in self._handlers:
                raise TypeError(f"'{handler.procedure.name}' is handled twice in one table")
            self._handlers[handler.procedure.name] = handler
            return function

        return register

    def add(self, handler: Handler) -> None:
        """Registers a handler that was made elsewhere. Raises TypeError when there is one already."""
        if handler.procedure.name in self._handlers:
            raise TypeError(f"'{handler.procedure.name}' is handled twice in one table")
        self._handlers[handler.procedure.name] = handler


def make_handler(function: Callable[..., Any], key: str | None, lane: Lane, name: str | None = None) -> Handler:
    """The handler that a function is. Raises TypeError when it does not fit the schema."""
    name = name or function.__name__
    procedure = find_procedure(name)
    if procedure is None:
        raise TypeError(f"'{name}' is not a procedure of the schema, so no handler can have that name")
    names = _checked_names(function, procedure)
    _check_result(function, procedure)
    is_plain = not inspect.iscoroutinefunction(function)
    if is_plain and key is not None:
        raise TypeError(f"'{name}' has a key, so it has to be a coroutine")
    key_of = None if key is None else key_of_argument(procedure, key)
    return Handler(procedure, function, names, key, lane, key_of, is_plain)


def combine(tables: tuple[Calls[Any], ...]) -> dict[str, Handler]:
    """All handlers of an actor. Raises TypeError when two tables have the same procedure."""
    handlers: dict[str, Handler] = {}
    for table in tables:
        for handler in table:
            name = handler.procedure.name
            if name in handlers:
                raise TypeError(
                    f"'{name}' is handled in {handlers[name].function.__module__} and in {handler.function.__module__}"
                )
            handlers[name] = handler
    return handlers


def _checked_names(function: Callable[..., Any], procedure: Procedure) -> tuple[str, ...]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    wanted = {argument_name(field.name): field.name for field in procedure.args}
    given = [parameter.name for parameter in parameters]
    if any(parameter.kind is not parameter.POSITIONAL_OR_KEYWORD for parameter in parameters):
        raise TypeError(f"'{procedure.name}' takes plain parameters only")
    if unknown := [name for name in given if name not in wanted]:
        raise TypeError(f"'{procedure.name}' has no argument '{unknown[0]}', it has {', '.join(wanted) or 'none'}")
    if missing := [name for name in wanted if name not in given]:
        raise TypeError(f"the handler of '{procedure.name}' does not take its argument '{missing[0]}'")
    return tuple(wanted[name] for name in given)


def _check_result(function: Callable[..., Any], procedure: Procedure) -> None:
    said = inspect.signature(function).return_annotation
    word = said if isinstance(said, str) else getattr(said, "__name__", str(said))
    if said is inspect.Signature.empty or "Streamed" in word or "Any" in word:
        return
    returns_nothing = said is None or word in ("None", "NoneType")
    if returns_nothing and any(not field.optional for field in procedure.ret):
        raise TypeError(
            f"the handler of '{procedure.name}' returns nothing, it has to return its '{procedure.ret[0].name}'"
        )
    if not returns_nothing and not procedure.ret:
        raise TypeError(f"the handler of '{procedure.name}' returns {word}, but the procedure returns nothing")


def argument_name(field: str) -> str:
    """The name of a parameter: a keyword of Python gets an underscore."""
    return f"{field}_" if keyword.iskeyword(field) else field


def key_of_argument(procedure: Procedure, key: str) -> KeyOf:
    """How the mailbox of a call follows from one of its arguments. Raises TypeError for one that cannot be a key."""
    for field in procedure.args:
        if argument_name(field.name) == key:
            if field.optional or field.is_list:
                raise TypeError(f"'{procedure.name}': argument '{key}' can be absent or many, so it is no key")
            return _key_of_field(field)
    raise TypeError(f"'{procedure.name}' has no argument '{key}' to be its key")


def _key_of_field(field: Field) -> KeyOf:
    name = field.name
    if field.type in _UUID_TYPES:
        kind = _UUID_TYPES[field.type]
        return lambda args: (kind, getattr(args, name).uuid)
    if field.type in _NAMED_TYPES:
        kind = _NAMED_TYPES[field.type]
        return lambda args: (kind, getattr(args, name).name)
    if field.type in _OF_DOMAIN:
        return lambda args: ("domain", getattr(args, name).dom.uuid)
    if field.type == "network_port":
        return lambda args: ("network", getattr(args, name).net.uuid)
    if field.type == "storage_vol":
        return lambda args: ("storage_pool_name", getattr(args, name).pool)
    if field.type == "nwfilter_binding":
        return lambda args: ("nwfilter_binding", getattr(args, name).portdev)
    if field.type == "uuid":
        return lambda args: ("domain", getattr(args, name))
    if field.type in ("string", "str"):
        return lambda args: ("name", getattr(args, name))
    if field.type == "bytes":
        return lambda args: ("name", getattr(args, name))
    raise TypeError(f"an argument of type '{field.type}' is no key")
