"""A guest's clock and timers."""

from enum import StrEnum

from conf.element import Element, attr, child, children
from conf.faults import internal, unsupported
from conf.values import ULONG, YES_NO, words


class ClockOffset(StrEnum):
    """What the guest's clock follows."""

    UTC = "utc"
    LOCALTIME = "localtime"
    VARIABLE = "variable"
    TIMEZONE = "timezone"
    ABSOLUTE = "absolute"


class Catchup(Element, tag="catchup"):
    """How lost ticks are made up for."""

    threshold: int | None = attr("threshold", ULONG, default=None)
    slew: int | None = attr("slew", ULONG, default=None)
    limit: int | None = attr("limit", ULONG, default=None)


class Timer(Element, tag="timer"):
    """A timer of the guest."""

    name: str = attr("name", words("platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock", "armvtimer"))
    present: bool | None = attr("present", YES_NO, default=None)
    tickpolicy: str | None = attr("tickpolicy", words("delay", "catchup", "merge", "discard"), default=None)
    track: str | None = attr("track", words("boot", "guest", "wall", "realtime"), default=None)
    frequency: int | None = attr("frequency", ULONG, default=None)
    mode: str | None = attr("mode", words("auto", "native", "emulate", "paravirt", "smpsafe"), default=None)
    catchup: Catchup | None = child(Catchup, default=None)


class Clock(Element, tag="clock"):
    """A guest's clock."""

    offset: ClockOffset = attr(
        "offset", ClockOffset, default=ClockOffset.UTC, bad=unsupported("unknown clock offset '{}'"), blank=True
    )
    adjustment: str | None = attr("adjustment", str, default=None, blank=True)
    basis: str | None = attr(
        "basis", words("utc", "localtime"), default=None, bad=unsupported("unknown clock basis '{}'"), blank=True
    )
    timezone: str | None = attr("timezone", str, default=None, blank=True)
    start: int | None = attr(
        "start", ULONG, default=None, bad=internal("missing 'start' attribute for clock with offset='absolute'")
    )
    timers: list[Timer] = children(Timer, default=[])


class LifecycleAction(StrEnum):
    """What happens to a guest that powered off, rebooted or crashed."""

    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    PRESERVE = "preserve"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


class LockFailureAction(StrEnum):
    """What happens to a guest that lost its locks."""

    DEFAULT = "default"
    POWEROFF = "poweroff"
    RESTART = "restart"
    PAUSE = "pause"
    IGNORE = "ignore"
