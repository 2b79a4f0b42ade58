"""Which part of libvirt's API a public function belongs to, as its errors tell."""

from __future__ import annotations

import re
from typing import Final

from schema.enums.error import ErrorDomain

_PARTS: Final = (
    (re.compile(r"Qemu|Lxc|^virAdm"), ErrorDomain.NONE),
    (re.compile(r"Checkpoint"), ErrorDomain.DOMAIN_CHECKPOINT),
    (re.compile(r"Snapshot"), ErrorDomain.DOMAIN_SNAPSHOT),
    (re.compile(r"^virDomain|^virConnect\w*Domain"), ErrorDomain.DOMAIN),
    (re.compile(r"NWFilter"), ErrorDomain.NWFILTER),
    (re.compile(r"NodeDev|^virNodeNumOfDevices|^virNodeListDevices"), ErrorDomain.NODEDEV),
    (re.compile(r"Secret"), ErrorDomain.SECRET),
    (re.compile(r"Storage"), ErrorDomain.STORAGE),
    (re.compile(r"Network"), ErrorDomain.NETWORK),
    (re.compile(r"Interface"), ErrorDomain.INTERFACE),
    (re.compile(r"^virConnect|^virNode"), ErrorDomain.DOMAIN),
)


def domain_of_function(function: str) -> ErrorDomain:
    """The error domain of the part of the API that a public function belongs to."""
    for pattern, domain in _PARTS:
        if pattern.search(function):
            return domain
    return ErrorDomain.NONE
