"""Firmware images: chosen by the descriptors that their packages install, and the place of each guest's variables.

A descriptor of a later folder replaces one of the same name in an earlier one; an empty file takes it away. They are
tried in the order of their names.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from conf.domain.domain import Domain
from conf.domain.features import Features, Smm
from conf.domain.os import Loader, LoaderType, NvramStore
from schema.errors import ConfigUnsupported, HostSystemError, OperationFailed

FOLDERS: Final = ("/usr/share/qemu/firmware", "/etc/qemu/firmware")
_INTERFACES: Final = {"efi": "uefi", "bios": "bios"}


class Descriptor(msgspec.Struct, frozen=True):
    """One firmware."""

    interfaces: tuple[str, ...]
    device: str
    code: str
    template: str | None
    stateless: bool
    targets: tuple[tuple[str, tuple[str, ...]], ...]
    features: frozenset[str]

    def suits(self, arch: str, machine: str) -> bool:
        """It is made for this machine."""
        return any(
            arch == one and any(fnmatch.fnmatch(machine, pattern) for pattern in machines)
            for one, machines in self.targets
        )


def default_folders() -> tuple[Path, ...]:
    """Where descriptors are looked for, the least important first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "qemu" / "firmware"
    return (*(Path(one) for one in FOLDERS), home)


def load_descriptors(folders: Sequence[Path]) -> list[Descriptor]:
    """All descriptors in force, the most important first. Those that cannot be read are passed over."""
    files: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            files.update({path.name: path for path in folder.glob("*.json")})
    found = []
    for name in sorted(files):
        try:
            text = files[name].read_bytes()
            if text.strip():
                found.append(parse_descriptor(msgspec.json.decode(text)))
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
    return found


def parse_descriptor(data: Any) -> Descriptor:
    """The descriptor of a file. Raises KeyError, TypeError and ValueError for what is none."""
    mapping = data["mapping"]
    device = str(mapping["device"])
    if device == "flash":
        code = str(mapping["executable"]["filename"])
        template = mapping.get("nvram-template")
        return Descriptor(
            interfaces=tuple(data["interface-types"]),
            device=device,
            code=code,
            template=None if template is None else str(template["filename"]),
            stateless=mapping.get("mode") == "stateless",
            targets=_targets(data),
            features=frozenset(data.get("features", ())),
        )
    return Descriptor(
        interfaces=tuple(data["interface-types"]),
        device=device,
        code=str(mapping["filename"]),
        template=None,
        stateless=True,
        targets=_targets(data),
        features=frozenset(data.get("features", ())),
    )


def _targets(data: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((str(one["architecture"]), tuple(one["machines"])) for one in data["targets"])


def choose_firmware(domain: Domain, descriptors: Sequence[Descriptor], nvram_folder: Path) -> None:
    """Settles loader and variables of a guest that wants a kind of firmware.

    Raises OperationFailed when no firmware fits.
    """
    os_ = domain.os
    if os_.firmware is None:
        complete_nvram(domain, nvram_folder)
        return
    for one in descriptors:
        if _fits(domain, one):
            _take(domain, one, nvram_folder)
            return
    raise OperationFailed(f"Unable to find any firmware to satisfy '{os_.firmware}'")


def _fits(domain: Domain, one: Descriptor) -> bool:
    os_, kind = domain.os, domain.os.kind
    if _INTERFACES[os_.firmware or ""] not in one.interfaces:
        return False
    if not one.suits(kind.arch or "", kind.machine or ""):
        return False
    loader = os_.loader
    if loader is not None:
        if loader.type is LoaderType.PFLASH and one.device != "flash":
            return False
        if loader.type is LoaderType.ROM and one.device != "memory":
            return False
        if loader.stateless is not None and loader.stateless != one.stateless:
            return False
        if loader.secure and "secure-boot" not in one.features:
            return False
        if loader.secure is False and "secure-boot" in one.features:
            return False
    if os_.nvram is not None and one.stateless:
        return False
    if loader is not None and loader.secure and "requires-smm" not in one.features:
        return False
    if domain.launch_security is not None and domain.launch_security.type == "sev" and "amd-sev" not in one.features:
        return False
    wanted = os_.firmware_features.features if os_.firmware_features is not None else []
    return all((feature.name in one.features) == feature.enabled for feature in wanted)


def _take(domain: Domain, one: Descriptor, nvram_folder: Path) -> None:
    os_ = domain.os
    loader = os_.loader if os_.loader is not None else Loader()
    loader.path = one.code
    if one.device == "flash":
        loader.type, loader.readonly = LoaderType.PFLASH, True
        if "requires-smm" in one.features:
            loader.secure = True
            features = domain.features if domain.features is not None else Features()
            features.smm = Smm(state=True)
            domain.features = features
        if not one.stateless:
            nvram = os_.nvram if os_.nvram is not None else NvramStore()
            if nvram.source is None:
                nvram.template = nvram.template or one.template
            os_.nvram = nvram
    else:
        loader.type = LoaderType.ROM
    os_.loader = loader
    complete_nvram(domain, nvram_folder)


def complete_nvram(domain: Domain, nvram_folder: Path) -> None:
    """Gives the variables of a guest a place of their own when it names none."""
    loader, nvram = domain.os.loader, domain.os.nvram
    if loader is None or loader.type is not LoaderType.PFLASH or nvram is None:
        return
    if nvram.source is None and not nvram.path:
        nvram.path = str(nvram_folder / f"{domain.name}_VARS.fd")


def prepare_nvram(domain: Domain, *, reset: bool = False) -> None:
    """Copies the template of a guest's variables when it has none yet. Raises HostSystemError, ConfigUnsupported."""
    nvram = domain.os.nvram
    if nvram is None or not nvram.path or (Path(nvram.path).exists() and not reset):
        return
    if not nvram.template:
        raise ConfigUnsupported(f"unable to find any master var store for loader: {_loader_path(domain)}")
    target = Path(nvram.path)
    temporary = target.with_name(target.name + ".new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(Path(nvram.template).read_bytes())
        temporary.replace(target)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to create file '{nvram.path}'") from exc


def _loader_path(domain: Domain) -> str:
    return (domain.os.loader.path if domain.os.loader is not None else None) or ""
