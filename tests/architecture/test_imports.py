"""The import contracts hold, and each of them notices when it is broken."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOMS, ROOT, modules, name_of

PUBLIC_OF_BROKER = {"broker", "broker.wire", "broker.peer", "broker.subscriber", "broker.stream", "broker.files"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The verdict of import-linter on a tree."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache", "--config", ".importlinter"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms without anything else, to be spoilt."""
    folder = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", folder)
    return folder


def test_every_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_the_copy_is_kept_too(copied: Path) -> None:
    done = lint(copied)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("broker/wire.py", "import client.event", "Rooms import downward only"),
        ("conf/values.py", "from rpc import packet", "Rooms import downward only"),
        ("schema/model.py", "def late() -> None:\n    import conf.text", "Rooms import downward only"),
        ("util/cpuset.py", "import schema.model", "Rooms import downward only"),
        ("actors/test/driver.py", "import actors.qemu.process", "No driver imports another driver"),
        ("actors/runtime/store.py", "from actors.test import driver", "No driver imports another driver"),
        ("client/link.py", "from broker import journal", "The broker is private"),
        ("gateway/server.py", "import broker.registry", "The broker is private"),
        ("schema/table.py", "import socket", "Schema, documents and codecs open nothing"),
        ("conf/text.py", "import asyncio", "Schema, documents and codecs open nothing"),
        ("rpc/session.py", "import zmq", "Schema, documents and codecs open nothing"),
        ("broker/routing.py", "import lxml.etree", "The broker reads no XML"),
        ("actors/qemu/process.py", "import libvirt", "Nothing but tests uses libvirt's own binding"),
    ],
)
def test_a_broken_contract_is_noticed(copied: Path, module: str, line: str, contract: str) -> None:
    victim = copied / module
    before = victim.read_text(encoding="utf-8")
    victim.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        done = lint(copied)
    finally:
        victim.write_text(before, encoding="utf-8")
    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), done.stdout


def test_a_driver_that_the_contract_does_not_name_is_noticed(copied: Path) -> None:
    newcomer = copied / "actors" / "newcomer"
    newcomer.mkdir()
    (newcomer / "__init__.py").touch()
    try:
        done = lint(copied)
    finally:
        shutil.rmtree(newcomer)
    assert done.returncode != 0
    assert "newcomer" in done.stdout


def test_the_contract_names_every_private_module_of_the_broker() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter", encoding="utf-8")
    named = set(config["importlinter:contract:broker-is-private"]["forbidden_modules"].split())
    private = {name_of(path) for path in modules("broker")} - PUBLIC_OF_BROKER
    assert named == private
