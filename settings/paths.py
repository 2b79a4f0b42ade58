"""Where everything lies: every socket, folder, lock and log of one agent.

System paths as root, XDG paths otherwise, everything below one folder when a root is given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_MAX = 107  # sun_path of AF_UNIX holds 108 bytes with its NUL


class SocketPathTooLong(ValueError):
    """A socket could not be bound there; the text names the path and its length."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of one agent; everything else is derived from them."""

    config: Path
    state: Path
    cache: Path
    run: Path
    log: Path

    @property
    def config_file(self) -> Path:
        return self.config / "virtroupe.toml"

    @property
    def actors_door(self) -> Path:
        return self.run / "actors" / "door.sock"

    @property
    def actors_route(self) -> Path:
        return self.run / "actors" / "route.sock"

    @property
    def clients_door(self) -> Path:
        return self.run / "clients" / "door.sock"

    @property
    def clients_door_read_only(self) -> Path:
        return self.run / "clients" / "door-ro.sock"

    @property
    def clients_route(self) -> Path:
        return self.run / "clients" / "route.sock"

    @property
    def clients_route_read_only(self) -> Path:
        return self.run / "clients" / "route-ro.sock"

    @property
    def events(self) -> Path:
        return self.run / "clients" / "events.sock"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics.sock"

    @property
    def libvirt_socket(self) -> Path:
        """The gateway's read-write socket, spoken to by virsh and its kin."""
        return self.run / "libvirt" / "libvirt-sock"

    @property
    def libvirt_socket_read_only(self) -> Path:
        return self.run / "libvirt" / "libvirt-sock-ro"

    @property
    def libvirt_admin_socket(self) -> Path:
        """The gateway's socket for virt-admin."""
        return self.run / "libvirt" / "libvirt-admin-sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def supervisor_config(self) -> Path:
        """The supervisord configuration in force, rendered at each `up`."""
        return self.run / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        """Written by supervisord before it starts anything."""
        return self.run / "supervisord.pid"

    @property
    def supervisor_log(self) -> Path:
        return self.log / "supervisord.log"

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def broker_state(self) -> Path:
        return self.state / "broker"

    @property
    def spare_epochs(self) -> Path:
        """Where the broker keeps actors' epochs while its state folder cannot be written."""
        return self.run / "epochs.json"

    @property
    def tokens(self) -> Path:
        return self.state / "tokens"

    def token(self, role: str) -> Path:
        """The secret by which an actor proves its name; readable by its own user only."""
        return self.tokens / role

    def lock(self, role: str) -> Path:
        """Held by the one process that serves in a role."""
        return self.run / "locks" / role

    def role_state(self, role: str) -> Path:
        """What an actor must not lose."""
        return self.state / role

    def role_cache(self, role: str) -> Path:
        """What an actor can find out again."""
        return self.cache / role

    def role_run(self, role: str) -> Path:
        """Sockets and runtime state of an actor; gone after a reboot."""
        return self.run / role

    def tickets(self, role: str) -> Path:
        return self.run / role / "tickets"

    def role_log(self, role: str) -> Path:
        """Of broker, gateway and warden; an actor has one for each slot (`settings.tree.slot_log`)."""
        return self.log / f"{role}.log"

    def sockets(self) -> dict[str, Path]:
        """Every fixed socket by name."""
        names = (
            "actors_door",
            "actors_route",
            "clients_door",
            "clients_door_read_only",
            "clients_route",
            "clients_route_read_only",
            "events",
            "metrics",
            "libvirt_socket",
            "libvirt_socket_read_only",
            "libvirt_admin_socket",
            "supervisor_socket",
        )
        return {name: getattr(self, name) for name in names}

    def check_socket_lengths(self) -> None:
        """Raises SocketPathTooLong for the first socket that the kernel could not bind."""
        for path in self.sockets().values():
            check_socket_length(path)


def check_socket_length(path: Path) -> None:
    """Raises SocketPathTooLong when the path does not fit in a socket address."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_MAX:
        raise SocketPathTooLong(
            f"The socket path '{path}' has {length} bytes; the kernel allows {SOCKET_PATH_MAX}. Choose a shorter root."
        )


def resolve_paths(root: Path | None = None) -> Paths:
    """The paths in force: below `root` when given, else the system's (as root) or the user's XDG folders."""
    if root is not None:
        base = Path(os.path.abspath(root))  # noqa: PTH100 - a root may be a symlink and stays one: it may be the shorter path
        return Paths(base / "etc", base / "state", base / "cache", base / "run", base / "log")
    if os.geteuid() == 0:
        return system_paths()
    home = Path.home()
    state = _xdg("XDG_STATE_HOME", home / ".local/state") / "virtroupe"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    run = Path(runtime) / "virtroupe" if runtime else Path(f"/tmp/virtroupe-{os.geteuid()}")
    return Paths(
        _xdg("XDG_CONFIG_HOME", home / ".config") / "virtroupe",
        state,
        _xdg("XDG_CACHE_HOME", home / ".cache") / "virtroupe",
        run,
        state / "log",
    )


def system_paths() -> Paths:
    """The paths of the agent that root runs without a root folder."""
    return Paths(
        Path("/etc/virtroupe"),
        Path("/var/lib/virtroupe"),
        Path("/var/cache/virtroupe"),
        Path("/run/virtroupe"),
        Path("/var/log/virtroupe"),
    )


def libvirt_folder() -> Path:
    """Where libvirt's clients look for its daemon when they are not told."""
    if os.geteuid() == 0:
        return Path("/run/libvirt")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime) if runtime else _xdg("XDG_CACHE_HOME", Path.home() / ".cache")) / "libvirt"


def _xdg(variable: str, default: Path) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else default
