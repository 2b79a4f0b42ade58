"""polkit: whether who connected to a unix socket may manage guests, or look at them.

Asked over D-Bus for each connection, about the process that connected: its pid, when it started (a pid alone may be
another process's by now) and its user. polkit may ask the user for a password meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final, Literal, cast

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.io.asyncio import DBusRouter, open_dbus_connection
from jeepney.wrappers import DBusErrorResponse

from schema.errors import AuthCancelled, AuthFailed, AuthUnavailable
from settings.config import GatewaySettings
from util.structured_log import StructuredLog

MANAGE: Final = "org.libvirt.unix.manage"
MONITOR: Final = "org.libvirt.unix.monitor"
ANSWER_S: Final = 300.0
"""A person types a password meanwhile."""
CONNECT_S: Final = 10.0
_AUTHORITY: Final = DBusAddress(
    "/org/freedesktop/PolicyKit1/Authority",
    bus_name="org.freedesktop.PolicyKit1",
    interface="org.freedesktop.PolicyKit1.Authority",
)
_ALLOW_INTERACTION: Final = 1
_NO_CANCELLATION: Final = ""
_DISMISSED: Final = "polkit.dismissed"
_NOBODY: Final = "org.freedesktop.DBus.Error.ServiceUnknown"


class PolkitProof:
    """What one client may do by polkit's word."""

    kind: Literal["polkit"] = "polkit"

    def __init__(self, settings: GatewaySettings, log: StructuredLog, caller: dict[str, Any]) -> None:
        self._bus = settings.polkit_bus or "SYSTEM"
        self._log = log
        self._caller = caller
        self._started = _started(caller["pid"])
        self._asking: asyncio.Task[Any] | None = None

    @property
    def action(self) -> str:
        """What the client wants to do."""
        return MONITOR if self._caller["read_only"] else MANAGE

    async def ask(self) -> None:
        """Returns when polkit allows it.

        Raises AuthFailed, AuthCancelled when the user does not want to answer, and AuthUnavailable where nobody can be
        asked.
        """
        if self._asking is not None:
            raise AuthFailed("authentication failed")
        self._asking = asyncio.current_task()
        try:
            async with asyncio.timeout(ANSWER_S):
                allowed, challenge, details = await self._check()
        except TimeoutError as exc:
            raise AuthUnavailable("polkit did not answer in time") from exc
        finally:
            self._asking = None
        if allowed:
            return
        self._log.warning(
            "polkit refuses a client", action=self.action, uid=self._caller["uid"], pid=self._caller["pid"]
        )
        if details.get(_DISMISSED):
            raise AuthCancelled("user cancelled authentication process")
        if challenge:
            raise AuthUnavailable(f"no polkit agent available to authenticate action '{self.action}'")
        raise AuthFailed("access denied by policy")

    async def _check(self) -> tuple[bool, bool, dict[str, str]]:
        if self._started is None:
            raise AuthFailed("the process that connected is gone")
        who = {
            "pid": ("u", self._caller["pid"]),
            "start-time": ("t", self._started),
            "uid": ("i", self._caller["uid"]),
        }
        message = new_method_call(
            _AUTHORITY,
            "CheckAuthorization",
            "(sa{sv})sa{ss}us",
            (("unix-process", who), self.action, {}, _ALLOW_INTERACTION, _NO_CANCELLATION),
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await open_dbus_connection(self._bus)
        except (OSError, EOFError, RuntimeError, ValueError, StopIteration, TimeoutError, DBusErrorResponse) as exc:
            self._log.error("D-Bus, over which polkit is asked, cannot be reached", bus=self._bus, error=repr(exc))
            raise AuthUnavailable("D-Bus, over which polkit is asked, cannot be reached") from exc
        try:
            async with DBusRouter(connection) as router:
                reply = await router.send_and_get_reply(message)
        except (OSError, EOFError) as exc:
            raise AuthUnavailable("D-Bus went away while polkit was asked") from exc
        finally:
            with contextlib.suppress(OSError):
                await connection.close()
        if reply.header.message_type is MessageType.error:
            name, text = _error_of(reply)
            self._log.error("polkit cannot be asked", error=f"{name}: {text}")
            if name == _NOBODY:
                raise AuthUnavailable("polkit does not run on this host")
            raise AuthFailed(f"polkit cannot be asked: {text}")
        (answer,) = cast("tuple[tuple[bool, bool, dict[str, str]]]", reply.body)
        return answer

    def close(self) -> None:
        """The client is gone: polkit's answer is not waited for."""
        if self._asking is not None:
            self._asking.cancel()


def _error_of(reply: Any) -> tuple[str, str]:
    error = DBusErrorResponse(reply)
    return error.name, str(error.data[0]) if error.data else ""


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since the boot."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
