from __future__ import annotations

import pytest

from schema.errors import ErrorDomain, InternalError, InvalidArguments, RpcError
from schema.limits import limit_of
from schema.table import all_procedures, need_procedure
from tests.process.plain_arguments import plain_args


@pytest.mark.parametrize(
    ("call", "fits", "too_much"),
    [
        ("domain_get_emulator_pin_info", {"maplen": 4096}, {"maplen": 0x7FFFFFFF}),
        ("domain_get_vcpus", {"maxinfo": 16, "maplen": 64}, {"maxinfo": 16, "maplen": 0x7FFFFFF}),
        ("domain_get_vcpu_pin_info", {"ncpumaps": 16, "maplen": 64}, {"ncpumaps": 1 << 20, "maplen": 64}),
        ("connect_list_domains", {"maxids": 16384}, {"maxids": 16385}),
        ("connect_list_defined_networks", {"maxnames": 16384}, {"maxnames": 0x7FFFFFFF}),
        ("domain_memory_peek", {"size": 4096}, {"size": 0xFFFFFFFF}),
    ],
)
def test_more_than_a_reply_can_hold_is_refused(call: str, fits: dict[str, int], too_much: dict[str, int]) -> None:
    row = need_procedure(call)
    check = limit_of(row)
    assert check is not None
    check(plain_args(row, **fits))
    with pytest.raises(InternalError, match=r"more than|maximum"):
        check(plain_args(row, **too_much))


def test_plain_arguments_of_every_call_pass() -> None:
    for row in all_procedures():
        check = limit_of(row) if row.program in ("remote", "qemu", "lxc") else None
        if check is not None:
            try:
                check(plain_args(row))
            except InvalidArguments as refused:  # as libvirt's public function does, which it names
                assert refused.str1 == row.function or "lifecycle" in refused.message
                assert (refused.int1, refused.int2) == (0, 0)


@pytest.mark.parametrize(
    ("call", "wrong", "message", "argument"),
    [
        ("domain_lookup_by_id", {"id": -1}, "id in virDomainLookupByID must be zero or greater", "id"),
        ("domain_set_memory_flags", {"memory": 0}, "memory in virDomainSetMemoryFlags must not be zero", "memory"),
        ("domain_rename", {"new_name": None}, "new_name in virDomainRename must not be NULL", "new_name"),
        (
            "domain_save_flags",
            {"flags": 6},
            "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive",
            "ctl",
        ),
        (
            "domain_set_vcpus_flags",
            {"nvcpus": 1, "flags": 4},
            "Flag 'VIR_DOMAIN_AFFECT_CONFIG' is required by flag 'VIR_DOMAIN_VCPU_MAXIMUM'",
            "ctl",
        ),
    ],
)
def test_what_the_public_function_refuses_has_its_words(
    call: str, wrong: dict[str, int | None], message: str, argument: str
) -> None:
    row = need_procedure(call)
    check = limit_of(row)
    assert check is not None
    with pytest.raises(InvalidArguments) as caught:
        check(plain_args(row, **wrong))
    told = caught.value
    assert (told.message, told.domain, told.str1, told.str2) == (message, ErrorDomain.DOMAIN, row.function, argument)


@pytest.mark.parametrize(
    ("call", "wrong", "kind", "message"),
    [
        ("connect_list_domains", {"maxids": -1}, RpcError, "maxids must be non-negative"),
        ("domain_get_numa_parameters", {"nparams": -1}, InternalError, "nparams must be non-negative"),
        ("domain_get_numa_parameters", {"nparams": 2000}, InternalError, "nparams too large"),
    ],
)
def test_a_number_that_cannot_be_is_refused(call: str, wrong: dict[str, int], kind: type, message: str) -> None:
    row = need_procedure(call)
    check = limit_of(row)
    assert check is not None
    with pytest.raises(kind, match=message):
        check(plain_args(row, **wrong))


def test_a_number_that_clients_leave_uninitialised_is_not_judged() -> None:
    assert limit_of(need_procedure("node_get_sev_info")) is None
