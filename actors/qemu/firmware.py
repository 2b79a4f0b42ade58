"""Firmware images: chosen by the descriptors that their packages install, and the place of each guest's variables.

A descriptor of a later folder replaces one of the same name in an earlier one; an empty file takes it away. They are
tried in the order of their names.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from conf.domain.domain import Domain
from conf.domain.features import Features, Smm
from conf.domain.os import Loader, LoaderType, NvramStore
from schema.errors import ConfigUnsupported, DomainStateError, HostSystemError, OperationFailed

FOLDERS: Final = ("/usr/share/qemu/firmware", "/etc/qemu/firmware")
_INTERFACES: Final = {"efi": "uefi", "bios": "bios"}
_ARCHES: Final = {"i386": "i686", "arm": "armv7l"}
"""What descriptors call architectures that have another name elsewhere."""


_TEMPLATES: Final = {
    "/usr/share/OVMF/OVMF_CODE.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd": "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF_CODE.fd": "/usr/share/AAVMF/AAVMF_VARS.fd",
    "/usr/share/AAVMF/AAVMF32_CODE.fd": "/usr/share/AAVMF/AAVMF32_VARS.fd",
}
"""Images of which every host's libvirt knows the variables, whether or not there are descriptors."""


class Descriptor(msgspec.Struct, frozen=True):
    """One firmware. `mode` is None where the descriptor says none, which is the same as `split`."""

    interfaces: tuple[str, ...]
    device: str
    code: str
    template: str | None
    targets: tuple[tuple[str, tuple[str, ...]], ...]
    features: frozenset[str]
    mode: str | None = None
    code_format: str | None = None
    template_format: str | None = None

    @property
    def stateless(self) -> bool:
        """It keeps no variables."""
        return self.device != "flash" or self.mode == "stateless"

    def suits(self, arch: str, machine: str) -> bool:
        """It is made for this machine."""
        return any(
            arch == one and any(fnmatch.fnmatch(machine, pattern) for pattern in machines)
            for one, machines in self.targets
        )


def default_folders() -> tuple[Path, ...]:
    """Where descriptors are looked for, the least important first; root has none of his own."""
    folders = tuple(Path(one) for one in FOLDERS)
    if os.geteuid() == 0:
        return folders
    return (*folders, Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "qemu" / "firmware")


def descriptor_files(folders: Sequence[Path]) -> list[Path]:
    """The files in force, the most important first: an empty file takes one of its name in an earlier folder away."""
    files: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            files.update({path.name: path for path in folder.glob("*.json")})
    return [files[name] for name in sorted(files) if files[name].stat().st_size]


def load_descriptors(folders: Sequence[Path]) -> list[Descriptor]:
    """All descriptors in force, the most important first. Those that cannot be read are passed over."""
    found = []
    for path in descriptor_files(folders):
        try:
            found.append(parse_descriptor(msgspec.json.decode(path.read_bytes())))
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
    return found


def parse_descriptor(data: Any) -> Descriptor:
    """The descriptor of a file. Raises KeyError, TypeError and ValueError for what is none."""
    mapping = data["mapping"]
    device = str(mapping["device"])
    common: dict[str, Any] = {
        "interfaces": tuple(data["interface-types"]),
        "device": device,
        "targets": tuple(
            (_ARCHES.get(str(one["architecture"]), str(one["architecture"])), tuple(one["machines"]))
            for one in data["targets"]
        ),
        "features": frozenset(data.get("features", ())),
    }
    if device != "flash":
        return Descriptor(code=str(mapping["filename"]), template=None, **common)
    code, template = mapping["executable"], mapping.get("nvram-template")
    mode = mapping.get("mode")
    if mode not in (None, "split", "combined", "stateless"):
        raise ValueError(f"unknown mode '{mode}'")
    return Descriptor(
        code=str(code["filename"]),
        code_format=str(code["format"]),
        template=None if template is None else str(template["filename"]),
        template_format=None if template is None else str(template["format"]),
        mode=mode,
        **common,
    )


def write_descriptor(one: Descriptor) -> dict[str, Any]:
    """The descriptor as its file has it, without what is only for people's eyes."""
    mapping: dict[str, Any] = {"device": one.device}
    if one.device != "flash":
        mapping["filename"] = one.code
    else:
        if one.mode is not None:
            mapping["mode"] = one.mode
        mapping["executable"] = {"filename": one.code, "format": one.code_format}
        if one.template is not None:
            mapping["nvram-template"] = {"filename": one.template, "format": one.template_format}
    names = {own: theirs for theirs, own in _ARCHES.items()}
    targets = [{"architecture": names.get(arch, arch), "machines": list(found)} for arch, found in one.targets]
    return {
        "interface-types": list(one.interfaces),
        "mapping": mapping,
        "targets": targets,
        "features": sorted(one.features),
    }


@dataclass(frozen=True, slots=True)
class Supported:
    """What firmware there is for a machine: kinds, images with the templates of their variables, secure boot."""

    interfaces: tuple[str, ...]
    images: tuple[tuple[str, str | None], ...]
    secure: bool


def supported_firmware(descriptors: Sequence[Descriptor], arch: str, machine: str) -> Supported:
    """What the descriptors offer to a machine, each image once."""
    fitting = [one for one in descriptors if one.suits(arch, machine)]
    words = {theirs: own for own, theirs in _INTERFACES.items()}
    kinds = {words[kind] for one in fitting for kind in one.interfaces if kind in words}
    images = dict.fromkeys((one.code, one.template) for one in fitting)
    secure = any({"secure-boot", "requires-smm"} <= one.features for one in fitting)
    return Supported(tuple(kind for kind in ("bios", "efi") if kind in kinds), tuple(images), secure)


def choose_firmware(domain: Domain, descriptors: Sequence[Descriptor], nvram_folder: Path) -> None:
    """Settles loader and variables of a guest that wants a kind of firmware.

    Raises OperationFailed when no firmware fits, DomainStateError when the one that does cannot be used.
    """
    os_ = domain.os
    if os_.firmware is None or (os_.loader is not None and os_.loader.path is not None):
        # nothing is to be chosen, or it was when the guest was first started
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
            if features.smm is not None and features.smm.state is False:
                raise DomainStateError("domain has SMM turned off but chosen firmware requires it")
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
    # what was wanted is what it is now
    os_.firmware = None
    complete_nvram(domain, nvram_folder)


def complete_nvram(domain: Domain, nvram_folder: Path) -> None:
    """Gives the variables of a guest a place of their own when it names none."""
    loader, nvram = domain.os.loader, domain.os.nvram
    if loader is None or loader.type is not LoaderType.PFLASH or nvram is None:
        return
    if nvram.source is None and not nvram.path:
        nvram.path = str(nvram_folder / f"{domain.name}_VARS.fd")


def template_of(code: str, descriptors: Sequence[Descriptor]) -> str | None:
    """The variables that belong to a firmware image, without keys of somebody's where there are such."""
    fitting = [one for one in descriptors if one.code == code and one.template]
    fitting.sort(key=lambda one: "enrolled-keys" in one.features)
    return fitting[0].template if fitting else _TEMPLATES.get(code)


def prepare_nvram(domain: Domain, *, reset: bool = False, folders: Sequence[Path] = ()) -> None:
    """Copies the template of a guest's variables when it has none yet; one that is not named is that of its firmware.

    Raises HostSystemError, ConfigUnsupported.
    """
    nvram = domain.os.nvram
    if nvram is None or not nvram.path or (Path(nvram.path).exists() and not reset):
        return
    template = nvram.template or template_of(_loader_path(domain), load_descriptors(folders))
    if not template:
        raise ConfigUnsupported(f"unable to find any master var store for loader: {_loader_path(domain)}")
    target = Path(nvram.path)
    temporary = target.with_name(target.name + ".new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(Path(template).read_bytes())
        temporary.replace(target)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to create file '{nvram.path}'") from exc


def _loader_path(domain: Domain) -> str:
    return (domain.os.loader.path if domain.os.loader is not None else None) or ""
