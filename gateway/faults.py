"""Errors as libvirt's clients get them: code, domain, format, detail; and the refusals that the gateway makes itself.

"Not supported" and "read only" come from libvirt's public functions and not from a driver, so their domain is that of
the part of the API which the function belongs to (seen on the wire).
"""

from __future__ import annotations

from typing import Final

from rpc.xdr import error_codec
from schema.api_parts import domain_of_function as domain_of_function
from schema.error_root import NO_DOMAIN
from schema.errors import ErrorCode, ErrorDomain, OperationDenied, UnsupportedCall, VirtError
from schema.model import Procedure, ReadOnly
from schema.objects import STRING_MAX, ErrorRecord

DRIVER_DOMAINS: Final = {
    "test": ErrorDomain.TEST,
    "qemu": ErrorDomain.QEMU,
    "lxc": ErrorDomain.LXC,
    "xen": ErrorDomain.LIBXL,
    "esx": ErrorDomain.ESX,
    "hyperv": ErrorDomain.HYPERV,
    "vbox": ErrorDomain.VBOX,
    "bhyve": ErrorDomain.BHYVE,
    "openvz": ErrorDomain.OPENVZ,
    "vmware": ErrorDomain.VMWARE,
    "remote": ErrorDomain.REMOTE,
    "cpu": ErrorDomain.CPU,
    "interface": ErrorDomain.INTERFACE,
    "network": ErrorDomain.NETWORK,
    "node_device": ErrorDomain.NODEDEV,
    "nwfilter": ErrorDomain.NWFILTER,
    "secret": ErrorDomain.SECRET,
    "security": ErrorDomain.SECURITY,
    "storage": ErrorDomain.STORAGE,
}

_LEVEL_ERROR: Final = 2
# `str3` of these carries a driver's name or a call's id, which mean nothing to libvirt's clients.
_OWN_STR3: Final = frozenset({"DriverDegraded", "DriverGone", "DriverStopped", "CallPending"})


def domain_of_driver(name: str) -> ErrorDomain:
    """The error domain of what a driver says."""
    return DRIVER_DOMAINS.get(name, ErrorDomain.NONE)


def unsupported(procedure: Procedure) -> VirtError:
    """What a client is told of a call that its driver does not answer."""
    return UnsupportedCall(procedure.function, domain=domain_of_function(procedure.function))


def read_only_refusal(procedure: Procedure) -> VirtError:
    """What a client on a read-only connection is told."""
    function = procedure.function
    if procedure.ro is ReadOnly.CONDITIONAL and procedure.name.endswith("_get_xml_desc"):
        detail = f"{function} with secure flag"
    else:
        detail = f"read only access prevents {function}"
    return OperationDenied(detail, domain=domain_of_function(function))


def error_payload(error: VirtError, procedure: Procedure | None = None, driver: str = "") -> bytes:
    """The error's bytes; an error without a domain gets that of the driver that answered."""
    domain = int(error.domain)
    if error.code == ErrorCode.NO_SUPPORT and procedure is not None and domain == ErrorDomain.NONE:
        error, domain = unsupported(procedure), int(domain_of_function(procedure.function))
    elif domain == ErrorDomain.NONE and driver:
        domain = int(domain_of_driver(driver))
    elif domain == NO_DOMAIN:
        domain = int(ErrorDomain.NONE)
    return error_codec().encode(
        ErrorRecord(
            int(error.code),
            domain,
            _bounded(error.message),
            _LEVEL_ERROR,
            None,
            _bounded(error.str1),
            _bounded(error.str2),
            None if error.kind in _OWN_STR3 else _bounded(error.str3),
            error.int1,
            error.int2,
            None,
        )
    )


def _bounded(text: str | None) -> str | None:
    if text is None:
        return None
    text = text.replace("\0", "")
    return text if len(text) <= STRING_MAX // 4 else text[: STRING_MAX // 4]
