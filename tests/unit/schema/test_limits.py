from __future__ import annotations

import pytest

from schema.errors import InternalError
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
    with pytest.raises(InternalError, match="more than"):
        check(plain_args(row, **too_much))


def test_plain_arguments_of_every_call_pass() -> None:
    for row in all_procedures():
        check = limit_of(row) if row.program in ("remote", "qemu", "lxc") else None
        if check is not None:
            check(plain_args(row))


def test_a_number_that_clients_leave_uninitialised_is_not_judged() -> None:
    assert limit_of(need_procedure("node_get_sev_info")) is None
