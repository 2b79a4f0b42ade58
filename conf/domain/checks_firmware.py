"""Combinations of firmware images, variable stores and features that cannot be."""

from __future__ import annotations

from conf.domain.domain import Domain
from conf.domain.os import LoaderType
from conf.faults import unexplained
from schema.enums.error import ErrorDomain
from schema.errors import XmlDetailError


def check(domain: Domain) -> None:
    """Refuses an `<os>` whose firmware contradicts itself."""
    if domain.os.firmware is not None:
        _check_chosen(domain)
    elif _features(domain):
        raise _refuse("cannot use feature-based firmware autoselection when firmware autoselection is disabled")
    elif domain.os.loader is not None:
        _check_named(domain)
    elif domain.os.nvram is not None:
        raise _refuse("no loader path specified and firmware auto selection disabled")


def _features(domain: Domain) -> dict[str, bool]:
    wanted = domain.os.firmware_features
    return {one.name: one.enabled for one in wanted.features} if wanted is not None else {}


def check_features(domain: Domain) -> None:
    """Refuses features of firmware that exclude one another, and variables of a kind that is not said further."""
    store = domain.os.nvram
    if store is not None and store.type is not None and store.source is None:
        raise unexplained()
    features = _features(domain)
    if features.get("enrolled-keys") and features.get("secure-boot") is False:
        raise _refuse(
            "firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled"
        )


def _refuse(message: str) -> XmlDetailError:
    return XmlDetailError(message, domain=ErrorDomain.DOMAIN)


def _check_chosen(domain: Domain) -> None:
    """Firmware that the driver chooses by its features."""
    system = domain.os
    loader = system.loader
    if loader is not None:
        for name, given in (
            ("readonly", loader.readonly is not None),
            ("type", loader.type is not None),
            ("secure", loader.secure is False),
        ):
            if given:
                raise _refuse(f"loader attribute '{name}' cannot be specified when firmware autoselection is enabled")
        if loader.path is not None:
            raise _refuse("loader path cannot be specified when firmware autoselection is enabled")
    if system.nvram is not None and system.nvram.template is not None:
        raise _refuse("nvram attribute 'template' cannot be specified when firmware autoselection is enabled")
    if system.firmware == "bios" and system.nvram is not None:
        raise _refuse("firmware type 'bios' does not support nvram")
    _check_stateless(domain)


def _check_named(domain: Domain) -> None:
    """Firmware whose image is named."""
    system = domain.os
    loader = system.loader
    if loader is None:
        return
    if loader.path is None:
        raise _refuse("no loader path specified and firmware auto selection disabled")
    if loader.type is not LoaderType.PFLASH and loader.stateless is False:
        raise _refuse("Only pflash loader type permits NVRAM")
    _check_stateless(domain)


def _check_stateless(domain: Domain) -> None:
    loader, nvram = domain.os.loader, domain.os.nvram
    if loader is None or not loader.stateless or nvram is None:
        return
    if nvram.template is not None:
        raise _refuse("NVRAM template is not permitted when loader is stateless")
    raise _refuse("NVRAM is not permitted when loader is stateless")
