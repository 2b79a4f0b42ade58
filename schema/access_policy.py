"""The access policy: who may do what to which objects, as the text of a TOML file says it. Asked without any I/O.

Rules are tried in their order, and the first that speaks of caller, permission and object decides; what none decides is
refused unless the file says otherwise. Objects and permissions are libvirt's (`domain:start`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from schema.table import all_procedures

KINDS_OF_WHO: Final = ("user", "group", "x509", "sasl", "via")
KINDS_OF_WHICH: Final = ("name", "uuid", "tag")
KINDS_OF_TAGGED: Final = ("name", "uuid")
EVERYTHING: Final = "*"

Words = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class PolicyError(ValueError):
    """The file cannot be used; the text says why."""


class Person(NamedTuple):
    """A caller as rules see it."""

    user: str
    groups: frozenset[str]
    x509: str
    via: str
    sasl: str = ""


class Thing(NamedTuple):
    """An object that a call is about; empty is what nobody knows."""

    name: str = ""
    uuid: str = ""
    tags: tuple[str, ...] = ()


UNKNOWN: Final = Thing()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[rule]]`."""

    who: Words
    what: Words
    which: tuple[str, ...] = ()
    refuse: bool = False

    def is_about(self, person: Person) -> bool:
        """Whether it speaks of this caller."""
        return any(_is_person(word, person) for word in self.who)

    def covers(self, kind: str, permission: str) -> bool:
        """Whether it speaks of this permission."""
        needed = f"{kind}:{permission}"
        return any(fnmatchcase(needed, pattern) for pattern in self.what)

    def names(self, thing: Thing) -> bool:
        """Whether it speaks of this object."""
        if not self.which:
            return True
        for word in self.which:
            how, _, pattern = word.partition(":")
            if how == "tag":
                if any(fnmatchcase(tag, pattern) for tag in thing.tags):
                    return True
                continue
            value = thing.name if how == "name" else thing.uuid
            if value and fnmatchcase(value, pattern):
                return True
        return False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...] = ()
    tags: dict[str, Words] = {}
    otherwise: str = "refuse"


def _is_person(word: str, person: Person) -> bool:
    if word == EVERYTHING:
        return True
    kind, _, pattern = word.partition(":")
    if kind == "group":
        return any(fnmatchcase(group, pattern) for group in person.groups)
    value: str = getattr(person, kind)
    return bool(value) and fnmatchcase(value, pattern)


@dataclass(frozen=True, slots=True)
class Judge:
    """The policy as far as it is about one caller."""

    rules: tuple[Rule, ...]
    otherwise: bool

    def may(self, kind: str, permission: str, thing: Thing = UNKNOWN) -> bool:
        """Whether the caller has a permission on an object."""
        for rule in self.rules:
            if rule.covers(kind, permission) and rule.names(thing):
                return not rule.refuse
        return self.otherwise

    def could(self, kind: str, permission: str) -> bool:
        """Whether there can be an object on which the caller has the permission."""
        for rule in self.rules:
            if rule.covers(kind, permission):
                if not rule.refuse:
                    return True
                if not rule.which:
                    return False
        return self.otherwise

    def depends_on_thing(self, kind: str, permission: str) -> bool:
        """Whether the answer is not the same for all objects."""
        return any(rule.which for rule in self.rules if rule.covers(kind, permission))

    def depends_on_any_thing(self) -> bool:
        """Whether any rule is about some guests and not about others."""
        return any(rule.which for rule in self.rules)

    def asks_for_tags(self) -> bool:
        """Whether any answer depends on the tags that guests themselves have."""
        return any(word.startswith("tag:") for rule in self.rules for word in rule.which)

    def gained(self, before: Thing, after: Thing) -> str | None:
        """A permission on guests that the caller has on one thing and not on the other, if there is any."""
        for word in sorted(known_permissions()):
            kind, _, name = word.partition(":")
            if kind == "domain" and self.may(kind, name, after) and not self.may(kind, name, before):
                return name
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules."""

    rules: tuple[Rule, ...]
    otherwise: bool

    def judge(self, person: Person) -> Judge:
        """What the policy says of one caller."""
        return Judge(tuple(rule for rule in self.rules if rule.is_about(person)), self.otherwise)


NOBODY: Final = Policy((), otherwise=False)
NATIVE: Final = "native"
"""The way of a client that speaks to the agent without the gateway (`via:native`)."""
UNKNOWN_PERSON: Final = Judge((), otherwise=False)
"""Of somebody who has not proved yet who it is."""
ABOVE: Final = Judge((), otherwise=True)
"""Of somebody who stands above the policy."""


def parse_policy(text: str) -> Policy:
    """The policy of a TOML text. Raises PolicyError."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
        file = msgspec.convert(data, _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise PolicyError(str(exc)) from exc
    if file.otherwise not in ("refuse", "allow"):
        raise PolicyError(f"'otherwise' is '{file.otherwise}', neither 'refuse' nor 'allow'")
    known = known_permissions()
    for tag, words in file.tags.items():
        for word in words:
            if word.partition(":")[0] not in KINDS_OF_TAGGED:
                raise PolicyError(f"tag '{tag}': '{word}' names no object; known are {', '.join(KINDS_OF_TAGGED)}")
    for number, rule in enumerate(file.rule, 1):
        for word in rule.who:
            if word != EVERYTHING and word.partition(":")[0] not in KINDS_OF_WHO:
                raise PolicyError(f"rule {number}: '{word}' is nobody; known are {', '.join(KINDS_OF_WHO)}, and *")
        for word in rule.what:
            if not any(fnmatchcase(permission, word) for permission in known):
                raise PolicyError(f"rule {number}: no permission is like '{word}'")
        for word in rule.which:
            if word.partition(":")[0] not in KINDS_OF_WHICH:
                raise PolicyError(f"rule {number}: '{word}' names no object; known are {', '.join(KINDS_OF_WHICH)}")
    rules = tuple(msgspec.structs.replace(rule, which=_resolved(rule.which, file.tags)) for rule in file.rule)
    return Policy(rules, file.otherwise == "allow")


def _resolved(which: tuple[str, ...], tags: dict[str, Words]) -> tuple[str, ...]:
    """A tag that the file gives stands for the names and uuids that it gives it to, besides guests' own tags."""
    found = list(which)
    for word in which:
        how, _, pattern = word.partition(":")
        if how == "tag":
            found += [given for tag, words in tags.items() if fnmatchcase(tag, pattern) for given in words]
    return tuple(found)


@cache
def known_permissions() -> frozenset[str]:
    """Every permission that a call needs, as `object:permission`."""
    return frozenset(f"{p.object}:{p.name}" for row in all_procedures() for p in (*row.acl, *row.aclfilter))
