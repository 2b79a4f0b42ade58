"""The supervisord configuration of an agent."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from settings.drivers import Driver
from settings.paths import resolve_paths
from settings.tree import PLATFORM, UnfitPath, log_files, render_tree, slot_log, template_path

DRIVERS = (Driver("test", "actors.test"), Driver("qemu", "actors.qemu"))
PYTHON = "/venv/bin/python"


def rendered(
    root: str = "/tmp/vt", drivers: tuple[Driver, ...] = DRIVERS, as_root: bool = True
) -> configparser.RawConfigParser:
    text = render_tree(template_path().read_text(), resolve_paths(Path(root)), drivers, PYTHON, as_root=as_root)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read_string(text)
    return parser


def test_nothing_is_killed_as_a_group_anywhere() -> None:
    tree = rendered()
    sections = [name for name in tree.sections() if name.startswith(("program:", "eventlistener:"))]
    assert len(sections) == len(PLATFORM) + len(DRIVERS)
    for name in sections:
        assert tree[name]["stopasgroup"] == tree[name]["killasgroup"] == "false"
        assert tree[name]["startsecs"] == "0"


def test_the_platform_starts_and_restarts_by_itself() -> None:
    tree = rendered()
    for name in ("program:broker", "program:gateway", "eventlistener:warden"):
        assert tree[name]["autostart"] == tree[name]["autorestart"] == "true"
        assert tree[name]["command"] == f"{PYTHON} -I -m {name.partition(':')[2]}"


def test_an_actor_has_two_slots_and_is_started_by_nobody_but_the_warden() -> None:
    actor = rendered()["program:qemu"]
    assert actor["numprocs"] == "2"
    assert actor["process_name"] == "%(process_num)d"
    assert actor["autostart"] == actor["autorestart"] == "false"
    assert actor["command"] == f"{PYTHON} -I -m actors.qemu"
    assert actor["stdout_logfile"] == "/tmp/vt/log/qemu.%(process_num)d.log"


def test_the_wardens_standard_output_is_no_log() -> None:
    warden = rendered()["eventlistener:warden"]
    assert "redirect_stderr" not in warden
    assert warden["stdout_logfile"] == "NONE"
    assert warden["stderr_logfile"] == "/tmp/vt/log/warden.log"


def test_every_log_is_rotated() -> None:
    tree = rendered()
    for name in tree.sections():
        for key in tree[name]:
            if key.endswith("logfile") and tree[name][key] != "NONE":
                assert f"{key}_maxbytes" in tree[name], (name, key)


def test_sockets_and_pid_are_where_the_paths_say() -> None:
    paths = resolve_paths(Path("/tmp/vt"))
    tree = rendered()
    assert tree["unix_http_server"]["file"] == str(paths.supervisor_socket)
    assert tree["supervisord"]["pidfile"] == str(paths.supervisor_pid)
    assert tree["supervisord"]["logfile"] == str(paths.supervisor_log)
    assert "port" not in "".join(tree["unix_http_server"])


def test_only_root_is_named_as_user() -> None:
    assert rendered(as_root=True)["supervisord"]["user"] == "root"
    assert "user" not in rendered(as_root=False)["supervisord"]


@pytest.mark.parametrize("name", ["a;b", 'a"b', "a'b", "a%b", "a\nb"])
def test_a_path_that_the_format_cannot_say_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UnfitPath, match=re.escape(repr(name[1]))):
        rendered(root=f"/tmp/{name}")


def test_a_path_with_a_space_is_fine() -> None:
    assert rendered(root="/tmp/a b")["supervisord"]["pidfile"] == "/tmp/a b/run/supervisord.pid"


def test_an_actors_name_cannot_smuggle_anything_in() -> None:
    with pytest.raises(ValueError, match="no name for an actor"):
        rendered(drivers=(Driver("x]\nuser=root", "m"),))


def test_logs_of_a_role_are_found_with_those_that_were_rotated(tmp_path: Path) -> None:
    paths = resolve_paths(tmp_path)
    assert log_files(paths, "test") == []
    paths.log.mkdir()
    names = ("broker.log", "broker.log.1", "test.0.log", "test.1.log", "test.1.log.2", "test.2.log", "tester.log")
    for name in names:
        (paths.log / name).touch()
    assert [path.name for path in log_files(paths, "test")] == ["test.0.log", "test.1.log", "test.1.log.2"]
    assert [path.name for path in log_files(paths, "broker")] == ["broker.log", "broker.log.1"]
    assert slot_log(paths, "test", 1).name == "test.1.log"
    assert slot_log(paths, "broker", None) == paths.role_log("broker")
