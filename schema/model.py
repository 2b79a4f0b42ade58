"""What the table is made of: fields, procedures, events, structs and the rules about who may call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

LIB_VERSION: Final = 9_000_000
"""The version of libvirt whose API this is: major * 1,000,000 + minor * 1,000 + release."""

_BYTES_TYPES: Final = frozenset({"opaque", "char"})


class CallClass(StrEnum):
    """What a call does, which decides its default deadline and whether it may be run again."""

    READ = "read"
    CHANGE = "change"
    TASK = "task"


DEFAULT_DEADLINES_S: Final[dict[CallClass, float | None]] = {
    CallClass.READ: 5.0,
    CallClass.CHANGE: 60.0,
    CallClass.TASK: None,
}


class ReadOnly(StrEnum):
    """Whether a read-only connection may make a call."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    CONDITIONAL = "conditional"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct: its name, type and bounds.

    `type` is one of XDR's (`int uint hyper uhyper double char uchar short ushort string opaque`), `uuid`, the name of a
    struct or union, or, in native procedures only, a Python type (`str bytes bool float map any list<...>`).
    With `max` the field is a list of at most that many, with `fixed` of exactly that many; of `opaque` and `char`
    such a list is a byte string (`char` takes four bytes each in XDR).
    """

    name: str
    type: str
    optional: bool = False
    fixed: int | None = None
    max: int | None = None

    @property
    def is_bytes(self) -> bool:
        """Whether the value is a byte string."""
        return self.type == "uuid" or (self.type in _BYTES_TYPES and (self.max is not None or self.fixed is not None))

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.max is not None and self.type not in _BYTES_TYPES


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission that a call needs on an object, always or only with certain arguments."""

    object: str
    name: str
    flags: int = 0
    negated: bool = False
    param: str | None = None
    value: int = 0

    def applies(self, flags: int, arguments: Mapping[str, Any]) -> bool:
        """Whether a call with these flags and arguments needs the permission."""
        if self.param is not None:
            return arguments.get(self.param) == self.value
        if self.flags == 0:
            return True
        return (flags & self.flags) == 0 if self.negated else (flags & self.flags) == self.flags

    @property
    def is_conditional(self) -> bool:
        """Whether it depends on the arguments."""
        return self.param is not None or self.flags != 0


@dataclass(frozen=True, slots=True, eq=False)
class Procedure:
    """One call of the API.

    The table makes each once, so that identity is equality and one costs nothing as a key.
    """

    name: str
    program: str
    number: int
    object: str
    args: tuple[Field, ...]
    ret: tuple[Field, ...]
    call_class: CallClass
    deadline_s: float | None
    ro: ReadOnly
    ro_param: str
    ro_value: int
    acl: tuple[Permission, ...]
    aclfilter: tuple[Permission, ...]
    high_priority: bool
    stream: str | None
    sparse_flag: int
    fds: str | None
    no_auth: bool
    served_by: str
    functions: tuple[str, ...]

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing, so that it may run again."""
        return self.call_class is CallClass.READ

    @property
    def function(self) -> str:
        """The public function that "not supported" names."""
        return self.functions[0] if self.functions else self.name

    def refused_read_only(self, flags: int = 0, **arguments: int) -> bool:
        """Whether a read-only connection may not make this call with these flags (and, for one, its `source`)."""
        if self.ro is ReadOnly.ALLOWED:
            return False
        if self.ro is ReadOnly.REFUSED:
            return True
        if self.ro_param == "flags":
            return flags & self.ro_value != 0
        return arguments.get(self.ro_param, self.ro_value) == self.ro_value

    def needed_permissions(self, flags: int = 0, **arguments: Any) -> tuple[tuple[str, str], ...]:
        """The (object, permission) pairs that a caller needs for these flags and arguments."""
        return tuple((p.object, p.name) for p in self.acl if p.applies(flags, arguments))


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Something that happened, as subscribers are told.

    `number` is the message of libvirt's protocol that begins with a `callbackID` (unless `has_callback` is false);
    `legacy_number` is the older message without one, and without the fields named in `callback_only`.
    """

    name: str
    program: str
    number: int
    legacy_number: int | None
    family: str
    event_id: int | None
    has_callback: bool
    callback_only: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def message_fields(self) -> tuple[Field, ...]:
        """The fields of libvirt's message, `callbackID` included."""
        return (Field("callbackID", "int"), *self.fields) if self.has_callback else self.fields

    @property
    def legacy_fields(self) -> tuple[Field, ...]:
        """The fields of the older message."""
        return tuple(field for field in self.fields if field.name not in self.callback_only)


@dataclass(frozen=True, slots=True)
class Struct:
    """A record that several procedures share."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A value whose type is told by a number before it."""

    name: str
    arms: tuple[tuple[int, Field], ...]

    def arm(self, case: int) -> Field | None:
        """The value's field for a number, if the number is one of the union's."""
        for number, field in self.arms:
            if number == case:
                return field
        return None
