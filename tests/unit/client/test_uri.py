"""URIs, and whether an agent is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client import connecting, uri
from client.connecting import connect
from client.errors import AgentUnreachable, InvalidArguments
from client.link import is_agent_starting, open_link
from client.uri import default_uri, scope_of
from settings import drivers
from settings.drivers import Driver
from settings.paths import resolve_paths


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("qemu:///system", "qemu:///system"),
        ("QEMU:///system", "qemu:///system"),
        ("test+unix:///default?socket=/run/X", "test+unix:///default?socket=/run/X"),
        ("qemu+ssh://Host/system", "qemu+ssh://Host/system"),
        ("test:///tmp/hosts.xml", "test:///tmp/hosts.xml"),
    ],
)
def test_a_scope_is_the_uri(text: str, scope: str) -> None:
    assert scope_of(text) == scope


@pytest.mark.parametrize("text", ["", "qemu", "system", "://x"])
def test_what_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(InvalidArguments):
        scope_of(text)


@pytest.mark.parametrize(
    ("names", "user", "expected"),
    [
        (("test", "qemu"), 0, "qemu:///system"),
        (("test", "qemu"), 1000, "qemu:///session"),
        (("test",), 0, "test:///default"),
        (("test",), 1000, "test:///default"),
    ],
)
def test_the_default_is_qemu_where_it_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], user: int, expected: str
) -> None:
    monkeypatch.setattr(drivers, "available_drivers", lambda config: tuple(Driver(name, name) for name in names))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    paths = resolve_paths(tmp_path)
    assert default_uri(paths) == expected
    paths.config.mkdir()
    paths.config_file.write_text("nonsense = true\n")
    assert default_uri(paths) == expected
    assert uri.TEST == "test:///default"


def test_a_user_without_an_agent_reaches_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = resolve_paths(tmp_path / "own"), resolve_paths(tmp_path / "system")
    monkeypatch.setattr(connecting, "resolve_paths", lambda: own)
    monkeypatch.setattr(connecting, "system_paths", lambda: system)
    assert connecting.paths_in_reach() == own
    system.clients_door.parent.mkdir(parents=True)
    system.clients_door.touch()
    assert connecting.paths_in_reach() == system
    own.clients_door.parent.mkdir(parents=True)
    own.clients_door.touch()
    assert connecting.paths_in_reach() == own


async def test_no_agent_is_told_at_once_with_its_socket(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachable) as caught:
        async with connect("test:///default", root=tmp_path):
            pass
    assert str(tmp_path / "run/clients/door.sock") in caught.value.message
    with pytest.raises(AgentUnreachable, match=r"door-ro\.sock"):
        await open_link(resolve_paths(tmp_path), read_only=True, program="", wait_s=10.0)


def test_an_agent_whose_supervisord_lives_is_starting(tmp_path: Path) -> None:
    paths = resolve_paths(tmp_path)
    assert not is_agent_starting(paths)
    paths.run.mkdir()
    paths.supervisor_pid.write_text(f"{os.getpid()}\n")
    assert is_agent_starting(paths)
    paths.supervisor_pid.write_text("nonsense")
    assert not is_agent_starting(paths)
