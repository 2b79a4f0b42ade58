"""The names of processor models that documents may use, by architecture, as libvirt 9.0 knows them."""

from __future__ import annotations

from typing import Final

from schema.errors import InvalidArguments, UnsupportedCall

_X86: Final = (
    *("486", "pentium", "pentium2", "pentium3", "pentiumpro", "coreduo", "n270", "core2duo", "qemu32", "kvm32"),
    *("cpu64-rhel5", "cpu64-rhel6", "qemu64", "kvm64", "Conroe", "Penryn", "Nehalem", "Nehalem-IBRS", "Westmere"),
    *("Westmere-IBRS", "SandyBridge", "SandyBridge-IBRS", "IvyBridge", "IvyBridge-IBRS", "Haswell-noTSX"),
    *("Haswell-noTSX-IBRS", "Haswell", "Haswell-IBRS", "Broadwell-noTSX", "Broadwell-noTSX-IBRS", "Broadwell"),
    *("Broadwell-IBRS", "Skylake-Client", "Skylake-Client-IBRS", "Skylake-Client-noTSX-IBRS", "Skylake-Server"),
    *("Skylake-Server-IBRS", "Skylake-Server-noTSX-IBRS", "Cascadelake-Server", "Cascadelake-Server-noTSX"),
    *("Icelake-Client", "Icelake-Client-noTSX", "Icelake-Server", "Icelake-Server-noTSX", "Cooperlake", "Snowridge"),
    *("athlon", "phenom", "Opteron_G1", "Opteron_G2", "Opteron_G3", "Opteron_G4", "Opteron_G5", "EPYC", "EPYC-IBPB"),
    *("EPYC-Rome", "EPYC-Milan", "Dhyana"),
)
_PPC64: Final = ("POWER6", "POWER7", "POWER8", "POWER9", "POWER10", "POWERPC_e5500", "POWERPC_e6500")
MODELS: Final[dict[str, tuple[str, ...]]] = {
    "i686": _X86,
    "x86_64": _X86,
    "ppc64": _PPC64,
    "ppc64le": _PPC64,
    "aarch64": (),
    "armv6l": (),
    "armv7b": (),
    "armv7l": (),
    "s390": (),
    "s390x": (),
}
"""Of an architecture without names every model is accepted."""
_OTHERS: Final = frozenset(
    (
        *("alpha", "cris", "itanium", "lm32", "m68k", "microblaze", "microblazeel", "mips", "mips64", "mips64el"),
        *("mipsel", "openrisc", "parisc", "parisc64", "ppc", "ppcle", "ppcemb", "riscv32", "riscv64", "sh4", "sh4eb"),
        *("sparc", "sparc64", "unicore32", "xtensa", "xtensaeb", "loongarch64"),
    )
)


def check_architecture(name: str) -> None:
    """Raises InvalidArguments for a name that no architecture has."""
    if name not in MODELS and name not in _OTHERS:
        raise InvalidArguments(f"unknown architecture: {name}")


def models_of(arch: str) -> tuple[str, ...]:
    """The names of an architecture's models.

    Raises InvalidArguments for an unknown architecture, UnsupportedCall for one without a list.
    """
    if arch in _OTHERS:
        raise UnsupportedCall(f"'{arch}' architecture is not supported by CPU driver")
    if arch not in MODELS:
        raise InvalidArguments(f"cannot find architecture {arch}")
    return MODELS[arch]
