"""Processors that a caller asks about, and the names of models."""

from __future__ import annotations

import pytest

from conf.cpu.asked import parse_asked_cpu
from conf.cpu.cpu import CpuMatch, CpuMode
from conf.cpu.names import check_architecture, models_of
from schema.errors import ConfigUnsupported, InvalidArguments, UnsupportedCall, VirtError, XmlError


def test_one_with_an_architecture_is_a_hosts() -> None:
    asked = parse_asked_cpu(
        "<cpu><arch>x86_64</arch><model>Haswell</model><signature family='6' model='60' stepping='1'/>"
        "<topology sockets='1' cores='2' threads='1'/><feature name='vmx'/></cpu>"
    )
    assert not asked.is_guest
    assert asked.arch == "x86_64"
    assert [one.name for one in asked.cpu.features] == ["vmx"]


def test_others_are_what_a_guest_wants() -> None:
    asked = parse_asked_cpu("<cpu><model>qemu64</model></cpu>")
    assert asked.is_guest
    assert (asked.cpu.mode, asked.cpu.match) == (CpuMode.CUSTOM, CpuMatch.EXACT)


@pytest.mark.parametrize(
    ("document", "must_be_host", "error", "message"),
    [
        ("<cpu mode='host-model'/>", True, ConfigUnsupported, "Attribute mode is only allowed for guest CPU"),
        ("<cpu><model>qemu64</model></cpu>", True, XmlError, "Missing CPU architecture"),
        ("<cpu><arch>x86_64</arch></cpu>", False, XmlError, "Missing CPU model name"),
        ("<domain/>", False, XmlError, "domain"),
    ],
)
def test_refusals(document: str, must_be_host: bool, error: type[VirtError], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_asked_cpu(document, must_be_host=must_be_host)


def test_names_of_models() -> None:
    assert "Haswell" in models_of("i686")
    assert models_of("s390x") == ()
    with pytest.raises(UnsupportedCall, match="'riscv64' architecture is not supported by CPU driver"):
        models_of("riscv64")
    with pytest.raises(InvalidArguments, match="cannot find architecture nosuch"):
        models_of("nosuch")
    check_architecture("riscv64")
    with pytest.raises(InvalidArguments, match="unknown architecture: nosuch"):
        check_architecture("nosuch")
