"""The recorded answers of a real libvirtd's test driver, against those of ours: virsh must not see a difference."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.agent import Agent
from tests.shared import need_shared

pytestmark = [pytest.mark.process, pytest.mark.real]

RUNNER = "virsh-diff/run.py"
SCENARIOS = {
    "t01_host": 0,
    "t02_lifecycle": 0,
    "t03_resources": 0,
    "t05_snapshots": 0,
    "t06_networks": 0,
    "t07_storage": 0,
    "t08_iface_nodedev_events": 0,
}
"""By scenario, how many commands may differ; the number may only fall."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_virsh_sees_what_libvirt_shows(agent: Agent, scenario: str, tmp_path: Path) -> None:
    runner = need_shared(RUNNER)
    report = tmp_path / "report.json"
    subprocess.run(
        [
            *(sys.executable, str(runner), "check", "--socket", str(agent.paths.libvirt_socket)),
            *("--set", "public", "--filter", scenario, "--json", str(report)),
        ],
        capture_output=True,
        timeout=180,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    (scored,) = json.loads(report.read_text())["scenarios"]
    different = [fault["cmd"] for fault in scored["fail"]]
    assert scored["total"] > 0
    assert len(different) <= SCENARIOS[scenario], different


def test_node_description_of_libvirts_examples_is_served(agent: Agent) -> None:
    path = need_shared("corpus/testdriver/examples/xml/test/testnodeinline.xml").resolve()
    shown = agent.virsh(
        f"test://{path}", "list --all; domstate fc5 --reason; vol-list default-pool; net-list --name; nodeinfo"
    ).stdout
    for text in (
        " 1    fv0    running",
        " 2    fc4    running",
        " 3    fc5    paused",
        "paused (unknown)",
        " default-vol   /default-pool/default-vol",
        "private\n",
        "CPU model:           i986",
        "CPU(s):              50",
    ):
        assert text in shown
