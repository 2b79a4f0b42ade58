"""Which part of libvirt's API a public function belongs to, as its errors tell."""

from __future__ import annotations

import re
from typing import Final

from schema.enums.error import ErrorDomain

_PARTS: Final = (
    (r"Qemu|Lxc|^virAdm", ErrorDomain.NONE),
    (r"Checkpoint", ErrorDomain.DOMAIN_CHECKPOINT),
    (r"Snapshot", ErrorDomain.DOMAIN_SNAPSHOT),
    (r"^virDomain|^virConnect\w*Domain", ErrorDomain.DOMAIN),
    (r"NWFilter", ErrorDomain.NWFILTER),
    (r"NodeDev|^virNodeNumOfDevices|^virNodeListDevices", ErrorDomain.NODEDEV),
    (r"Secret", ErrorDomain.SECRET),
    (r"Storage", ErrorDomain.STORAGE),
    (r"Network", ErrorDomain.NETWORK),
    (r"Interface", ErrorDomain.INTERFACE),
    (r"^virConnect|^virNode", ErrorDomain.DOMAIN),
)


def domain_of_function(function: str) -> ErrorDomain:
    """The error domain of the part of the API that a public function belongs to."""
    for pattern, domain in _PARTS:
        if re.search(pattern, function):  # compiled when it is needed: every process imports this
            return domain
    return ErrorDomain.NONE
