"""Enums and flags of streams and event loops."""

from enum import IntFlag


class EventHandleType(IntFlag):
    """libvirt's `virEventHandleType`."""

    READABLE = 1
    WRITABLE = 2
    ERROR = 4
    HANGUP = 8


class StreamEventType(IntFlag):
    """libvirt's `virStreamEventType`."""

    READABLE = 1
    WRITABLE = 2
    ERROR = 4
    HANGUP = 8


class StreamFlags(IntFlag):
    """libvirt's `virStreamFlags`."""

    NONBLOCK = 1


class StreamRecvFlags(IntFlag):
    """libvirt's `virStreamRecvFlagsValues`."""

    STOP_AT_HOLE = 1
