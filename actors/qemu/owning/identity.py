"""As whom a guest runs, and to whom its files are given: from the settings and from the guest's own `<seclabel>`."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from typing import Final

from conf.domain.domain import Domain
from conf.domain.seclabel import Seclabel, SeclabelType
from schema.errors import ConfigUnsupported, InvalidArguments
from settings.qemu import QemuSettings

MODEL: Final = "dac"


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group of the host."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"+{self.uid}:+{self.gid}"


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a guest's process runs; `files` is who gets its files, None: they stay with whom they are."""

    process: Owner
    files: Owner | None
    remembers: bool = True
    """Whose the files were is found out again when the guest ends."""

    @property
    def groups(self) -> list[int]:
        """The groups that the process is in besides its own; none for a user without a name."""
        try:
            name = pwd.getpwuid(self.process.uid).pw_name
        except KeyError:
            return []
        return os.getgrouplist(name, self.process.gid)


def configured_owner(settings: QemuSettings) -> Owner:
    """Whom guests are of whose definition says nothing. Raises ConfigUnsupported for a user that is not known."""
    if not settings.user:
        return Owner(os.geteuid(), os.getegid() if not settings.group else _gid(settings.group))
    uid, gid = _user(settings.user)
    return Owner(uid, gid if not settings.group else _gid(settings.group))


def _user(text: str) -> tuple[int, int]:
    number = _number(text)
    try:
        entry = pwd.getpwuid(number) if number is not None else pwd.getpwnam(text)
    except KeyError as exc:
        if number is not None:
            return number, number
        raise ConfigUnsupported(f"guests are to run as user '{text}', whom this host does not know") from exc
    return entry.pw_uid, entry.pw_gid


def _gid(text: str) -> int:
    number = _number(text)
    if number is not None:
        return number
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError as exc:
        raise ConfigUnsupported(f"guests are to run as group '{text}', which this host does not know") from exc


def _number(text: str) -> int | None:
    digits = text.removeprefix("+")
    return int(digits) if digits.isascii() and digits.isdecimal() else None


def parse_label(text: str) -> Owner:
    """The owner that a label means: `user:group`, by name or by number; `+` makes sure of a number.

    Raises InvalidArguments for anything else.
    """
    user, colon, group = text.partition(":")
    if not colon or not user or not group:
        raise InvalidArguments(f"Failed to parse uid and gid for label '{text}'")
    try:
        uid = _named(user) if user[0] == "+" or not _is_user(user) else pwd.getpwnam(user).pw_uid
        gid = _named(group) if group[0] == "+" or not _is_group(group) else grp.getgrnam(group).gr_gid
    except ValueError as exc:
        raise InvalidArguments(f"Failed to parse uid and gid for label '{text}'") from exc
    return Owner(uid, gid)


def _named(text: str) -> int:
    number = _number(text)
    if number is None or number > 0xFFFFFFFE:
        raise ValueError(text)
    return number


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def label_of(domain: Domain) -> Seclabel | None:
    """What the definition says of owners."""
    return next((one for one in domain.seclabels if one.model == MODEL), None)


def identity_of(domain: Domain, settings: QemuSettings) -> Identity | None:
    """As whom this guest is to run; None where this process cannot choose that.

    Raises ConfigUnsupported for a user that is not known, InvalidArguments for a label that is none.
    """
    if os.geteuid() != 0:
        return None
    label = label_of(domain)
    process = configured_owner(settings)
    relabels = settings.dynamic_ownership
    files = process
    if label is not None:
        if label.type is SeclabelType.NONE:
            return Identity(process, None, settings.remember_owner)
        text = label.label or label.baselabel
        if text is not None:
            process = parse_label(text)
        files = parse_label(label.imagelabel) if label.imagelabel is not None else process
        relabels = relabels and label.relabel is not False
    return Identity(process, files if relabels else None, settings.remember_owner)


def note_identity(domain: Domain, identity: Identity | None) -> None:
    """A running guest's definition says as whom it runs, and to whom its files were given."""
    if identity is None:
        return
    label = label_of(domain)
    if label is None:
        label = Seclabel(type=SeclabelType.DYNAMIC, model=MODEL)
        domain.seclabels.append(label)
    elif label.type is SeclabelType.NONE:
        return
    if label.label is None:
        label.label = str(identity.process)
    label.relabel = identity.files is not None
    label.imagelabel = None if identity.files is None else str(identity.files)
