"""An unmodified virsh asks a real libvirtd and us of processors: the answers are the same."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.real.guest import needs_qemu
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process]

DOCUMENTS: Final = {
    "host": "<cpu><arch>x86_64</arch><model>Haswell</model><feature name='vmx'/></cpu>",
    "older": "<cpu><arch>x86_64</arch><model>EPYC-Milan</model><vendor>AMD</vendor></cpu>",
    "several": "<cpu mode='custom' match='exact'><model>EPYC</model></cpu>"
    "<cpu mode='custom' match='exact'><model>EPYC-Rome</model></cpu>",
    "guest": "<cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model></cpu>",
    "least": "<cpu match='minimum'><model>qemu64</model><feature policy='forbid' name='sse2'/></cpu>",
    "host-model": "<cpu mode='host-model'/>",
    "unknown model": "<cpu mode='custom' match='exact'><model>Nosuch</model></cpu>",
    "unknown feature": "<cpu><model>qemu64</model><feature name='zzz'/></cpu>",
    "no model": "<cpu><arch>x86_64</arch></cpu>",
    "power": "<cpu><arch>ppc64</arch><model>POWER8</model></cpu>",
    "arm": "<cpu><arch>aarch64</arch><model>cortex-a53</model></cpu>",
}
QUESTIONS: Final = (
    "cpu-compare {}",
    "cpu-compare {} --error",
    "hypervisor-cpu-compare {}",
    "hypervisor-cpu-compare {} --virttype qemu --error",
    "hypervisor-cpu-compare {} --validate",
    "cpu-baseline {}",
    "cpu-baseline {} --features",
    "hypervisor-cpu-baseline {}",
    "hypervisor-cpu-baseline {} --virttype qemu --features",
    "hypervisor-cpu-baseline {} --migratable",
)


@pytest.fixture(scope="module")
def houses() -> Iterator[tuple[GatewayHouse, Libvirtd]]:
    need_virsh()
    needs_qemu()
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        with Libvirtd(base) as daemon, gateway_house("", "qemu") as house:
            yield house, daemon
    except CannotRun as exc:
        pytest.skip(str(exc))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def answer(uri: str, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return f"{done.returncode}\n{done.stdout.rstrip()}"


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_questions_of_a_processor(houses: tuple[GatewayHouse, Libvirtd], tmp_path: Path, name: str) -> None:
    document = tmp_path / "cpu.xml"
    document.write_text(DOCUMENTS[name], encoding="utf-8")
    ours, theirs = (one.uri("qemu:///system") for one in houses)
    for question in QUESTIONS:
        words = question.format(document).split()
        assert answer(ours, *words) == answer(theirs, *words), question


@pytest.mark.parametrize("arch", ["x86_64", "i686", "ppc64", "aarch64", "s390x", "riscv64", "nosuch"])
def test_names_of_models(houses: tuple[GatewayHouse, Libvirtd], arch: str) -> None:
    ours, theirs = (one.uri("qemu:///system") for one in houses)
    assert answer(ours, "cpu-models", arch) == answer(theirs, "cpu-models", arch)


def test_the_processor_in_capabilities(houses: tuple[GatewayHouse, Libvirtd]) -> None:
    ours, theirs = (answer(one.uri("qemu:///system"), "capabilities") for one in houses)
    assert _processor(ours) == _processor(theirs)


def _processor(document: str) -> str:
    return document[document.index("<cpu>") : document.index("</cpu>")]
