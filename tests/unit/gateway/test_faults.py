from __future__ import annotations

from typing import Any

import pytest

from gateway.faults import domain_of_function, error_payload, read_only_refusal, unsupported
from rpc.xdr import error_codec
from schema.errors import (
    Busy,
    DriverDegraded,
    ErrorCode,
    ErrorDomain,
    HostSystemError,
    NoSuchDomain,
    UnsupportedCall,
    VirtError,
)
from schema.model import ReadOnly
from schema.objects import ErrorRecord
from schema.table import all_procedures, need_procedure
from tests.shared import shared_json

PARTS = {
    "libvirt-host": ErrorDomain.DOMAIN,
    "libvirt-qemu": ErrorDomain.NONE,
    "libvirt-lxc": ErrorDomain.NONE,
    "libvirt-admin": ErrorDomain.NONE,
    "libvirt-domain": ErrorDomain.DOMAIN,
    "libvirt-domain-snapshot": ErrorDomain.DOMAIN_SNAPSHOT,
    "libvirt-domain-checkpoint": ErrorDomain.DOMAIN_CHECKPOINT,
    "libvirt-storage": ErrorDomain.STORAGE,
    "libvirt-network": ErrorDomain.NETWORK,
    "libvirt-nodedev": ErrorDomain.NODEDEV,
    "libvirt-nwfilter": ErrorDomain.NWFILTER,
    "libvirt-secret": ErrorDomain.SECRET,
    "libvirt-interface": ErrorDomain.INTERFACE,
}


def told(error: VirtError, procedure: str = "domain_suspend", driver: str = "test") -> Any:
    return error_codec().decode(error_payload(error, need_procedure(procedure), driver))


def test_every_function_belongs_to_the_part_of_the_api_that_libvirt_says() -> None:
    functions = shared_json("libvirt-rpc", "api.json")["functions"]
    wrong = {
        name: (fact["in"], domain_of_function(name).name)
        for name, fact in functions.items()
        if fact.get("procs") and domain_of_function(name) is not PARTS[fact["in"]]
    }
    assert not wrong


def test_error_is_told_with_format_detail_and_the_drivers_domain() -> None:
    record = told(NoSuchDomain("no domain with matching name 'x'"))
    assert record == ErrorRecord(
        42,
        ErrorDomain.TEST,
        "Domain not found: no domain with matching name 'x'",
        2,
        None,
        "Domain not found: %s",
        "no domain with matching name 'x'",
        None,
        -1,
        -1,
        None,
    )


def test_errors_own_domain_is_kept() -> None:
    assert told(NoSuchDomain("x", domain=ErrorDomain.QEMU)).domain == ErrorDomain.QEMU


def test_system_error_carries_errno() -> None:
    record = told(HostSystemError(2, "Failed to open file 'x'"))
    assert (record.code, record.int1, record.str1) == (38, 2, "%s")
    assert record.message == "Failed to open file 'x': No such file or directory"


def test_unsupported_call_names_libvirts_function() -> None:
    record = told(UnsupportedCall("whatever the driver said"), "domain_set_vcpus_flags")
    assert record.code == ErrorCode.NO_SUPPORT
    assert record.message == "this function is not supported by the connection driver: virDomainSetVcpusFlags"
    assert record.domain == ErrorDomain.DOMAIN


@pytest.mark.parametrize("error", [Busy(1.0), DriverDegraded("test", "it crashed")])
def test_our_own_errors_are_told_in_libvirts_terms(error: VirtError) -> None:
    record = told(error)
    assert record.code == error.code
    assert record.str3 is None


def test_a_message_that_no_client_could_read_is_cut_and_cleaned() -> None:
    record = told(NoSuchDomain("a\0b" + "x" * 5_000_000))
    assert "\0" not in record.message
    assert len(record.message) <= 1048576


def test_refusals_are_those_that_were_seen() -> None:
    for vector in shared_json("libvirt-rpc", "vectors.json")["vectors"]:
        payload = vector.get("payload") or {}
        if vector["status"] != "error" or vector["type"] != "reply" or payload["code"] not in (3, 29):
            continue
        program, _, name = vector["proc"].partition(".")
        procedure = need_procedure(name.lower() if program == "remote" else f"{program}_{name.lower()}")
        error = unsupported(procedure) if payload["code"] == 3 else read_only_refusal(procedure)
        record = error_codec().decode(error_payload(error, procedure, "test"))
        assert (record.code, record.domain, record.message, record.str1, record.str2) == (
            payload["code"],
            payload["domain"],
            payload["message"],
            payload["str1"],
            payload["str2"],
        )


def test_every_refusal_can_be_told() -> None:
    for procedure in all_procedures():
        if procedure.program != "native" and procedure.ro is not ReadOnly.ALLOWED:
            assert error_payload(read_only_refusal(procedure), procedure, "qemu")
