"""Which drivers there are, which URIs they answer, and which of them can run on this host.

Nothing here imports a driver: a driver is looked for as a file, a third party's as an entry point.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from settings.config import Config, ConfigError

ENTRY_POINTS: Final = "virtroupe.actors"


class NoDriverForUri(ValueError):
    """No driver answers this URI; the text names the URI and the schemes that are known."""


@dataclass(frozen=True, slots=True)
class Driver:
    """One actor: its name on the wire, the module that is run, the URI schemes it answers.

    It can run where one of `programs` is found; an empty tuple: anywhere.
    """

    name: str
    module: str
    schemes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


_TABLE: Final = (
    Driver("test", "actors.test", ("test",)),
    Driver("qemu", "actors.qemu", ("qemu",), ("qemu-system-*", "qemu-kvm", "kvm")),
    Driver("lxc", "actors.lxc", ("lxc",), ("crun",)),
    Driver("xen", "actors.xen", ("xen",), ("xl",)),
    Driver("esx", "actors.esx", ("esx", "vpx", "gsx")),
    Driver("hyperv", "actors.hyperv", ("hyperv",)),
    Driver("vbox", "actors.vbox", ("vbox",)),
    Driver("bhyve", "actors.bhyve", ("bhyve",), ("bhyve",)),
    Driver("openvz", "actors.openvz", ("openvz",), ("vzctl",)),
    Driver("vmware", "actors.vmware", ("vmwareplayer", "vmwarews", "vmwarefusion"), ("vmrun",)),
    Driver("remote", "actors.remote"),
    Driver("cpu", "actors.secondary.cpu"),
    Driver("interface", "actors.secondary.interface"),
    Driver("network", "actors.secondary.network"),
    Driver("node_device", "actors.secondary.node_device"),
    Driver("nwfilter", "actors.secondary.nwfilter"),
    Driver("secret", "actors.secondary.secret"),
    Driver("security", "actors.secondary.security"),
    Driver("storage", "actors.secondary.storage"),
)

REMOTE: Final = "remote"
_TAKE_HOSTS: Final = frozenset(scheme for d in _TABLE if d.name in ("esx", "hyperv") for scheme in d.schemes)
_SHARING: Final = frozenset({"qemu", "lxc", "xen", "openvz", "bhyve"})
_SECONDARY: Final = {
    "interface": "interface",
    "network": "network",
    "nodedev": "node_device",
    "nwfilter": "nwfilter",
    "secret": "secret",
    "storage": "storage",
}


def default_uris(uid: int) -> tuple[tuple[str, str], ...]:
    """Driver and URI of what is meant when no URI is given, best first, at an agent that runs as this user."""
    return (("qemu", "qemu:///system" if uid == 0 else "qemu:///session"), ("test", "test:///default"))


@functools.cache
def known_drivers() -> tuple[Driver, ...]:
    """Every driver that is installed: ours that exist, then those of third parties."""
    return (*_own_drivers(), *_third_party({driver.name for driver in _TABLE}))


@functools.cache
def _own_drivers() -> tuple[Driver, ...]:
    # Reading the entry points of all installed distributions costs more than a whole call; most questions end here.
    return tuple(driver for driver in _TABLE if _has_program(driver.module))


def available_drivers(config: Config) -> tuple[Driver, ...]:
    """The drivers that can run on this host."""
    folders = (*(Path(folder) for folder in config.qemu.emulator_folders), None)
    return tuple(d for d in known_drivers() if not d.programs or any(_is_found(p, folders) for p in d.programs))


def check_actors(config: Config, file: Path) -> None:
    """Raises ConfigError, which names the file, for `[actors.NAME]` of a driver that there is nowhere."""
    names = {driver.name for driver in (*_TABLE, *known_drivers())}
    for name in config.actors:
        if name not in names:
            raise ConfigError(f"'{file}': unknown key 'actors.{name}'. Known here: {', '.join(sorted(names))}")


def find_driver(name: str) -> Driver | None:
    """The installed driver of that name."""
    for drivers in (_own_drivers, known_drivers):
        for driver in drivers():
            if driver.name == name:
                return driver
    return None


def driver_for_uri(uri: str) -> str:
    """The name of the driver that answers a URI: `remote` where it leads to another daemon.

    Raises NoDriverForUri.
    """
    scheme, _, transport = uri.partition(":")[0].lower().partition("+")
    if leads_elsewhere(uri) and (transport or scheme not in _TAKE_HOSTS) and find_driver(REMOTE) is not None:
        return REMOTE
    for drivers in (_own_drivers, known_drivers):
        for driver in drivers():
            if scheme in driver.schemes:
                return driver.name
    schemes = sorted(scheme for driver in known_drivers() for scheme in driver.schemes)
    raise NoDriverForUri(f"No driver for URI '{uri}'. Known schemes: {', '.join(schemes)}")


def leads_elsewhere(uri: str) -> bool:
    """Whether a URI names a transport or a host."""
    scheme, colon, rest = uri.partition(":")
    return bool(colon) and ("+" in scheme or (rest.startswith("//") and rest[2:3] not in ("", "/", "?")))


def actor_for(served_by: str, uri: str) -> str:
    """The name of the actor that answers the procedures `served_by` (the schema's word) on a connection to `uri`.

    Drivers of local hypervisors share the secondary actors; the others answer for networks, storage and the rest
    themselves, and so does a local one as long as the secondary actor is not installed.
    Raises NoDriverForUri.
    """
    driver = driver_for_uri(uri)
    secondary = _SECONDARY.get(served_by)
    if secondary is None or driver not in _SHARING or find_driver(secondary) is None:
        return driver
    return secondary


def lacks_secondary(served_by: str, uri: str) -> bool:
    """Whether the secondary actor that a connection to `uri` would share for `served_by` is not installed.

    Raises NoDriverForUri.
    """
    secondary = _SECONDARY.get(served_by)
    return secondary is not None and driver_for_uri(uri) in _SHARING and find_driver(secondary) is None


def _third_party(taken: set[str]) -> Iterator[Driver]:
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name not in taken:
            package = entry.module.removesuffix(".driver")
            yield Driver(entry.name, package, (entry.name,))


def _has_program(module: str) -> bool:
    # A spec of a submodule would import its parents, and a driver's process may not import its siblings.
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec else None
    return any(Path(folder, *rest, "__main__.py").is_file() for folder in folders or ())


def _is_found(program: str, folders: tuple[Path | None, ...]) -> bool:
    for folder in folders:
        if folder is None:
            if "*" not in program and shutil.which(program):
                return True
        elif any(folder.glob(program)):
            return True
    return False
