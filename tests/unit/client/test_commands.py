"""The command line against a scripted driver: what it says, in words and as JSON, and its exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from client import connecting
from client.command import console as console_command
from client.command.main import MODULES, main
from client.console import Console
from client.errors import (
    Busy,
    DeadlinePassed,
    DomainStateError,
    DriverDegraded,
    NoSuchDomain,
    OperationDenied,
    VirtError,
)
from schema.enums.domain import DomainCreateFlags
from schema.objects import NetworkRef
from tests.fakes.link import Answered, FakeLink
from tests.unit.client.guests import OFF, RUNNING, SCOPE, SNAPSHOT, UUID_1
from tests.unit.client.test_console import FakeDriver, FakeStream

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> FakeLink:
    made = FakeLink(connect_open=None, domain_lookup_by_name=RUNNING)

    async def open_link(*_: object, **__: object) -> FakeLink:
        return made

    monkeypatch.setattr(connecting, "open_link", open_link)
    monkeypatch.delenv("VIRTROUPE_URI", raising=False)
    monkeypatch.delenv("VIRTROUPE_ROOT", raising=False)
    return made


@pytest.fixture
def run(link: FakeLink, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--root", "/nowhere", "-c", SCOPE, *args])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run_command


def test_list_shows_what_runs_and_with_all_the_rest(run: Run, link: FakeLink) -> None:
    link.scripts["actor_snapshot"] = SNAPSHOT
    code, out, _ = run("list")
    assert (code, out) == (0, " Id   Name   State\n----------------------\n 3    web1   running\n")
    _, out, _ = run("list", "--all")
    assert out.splitlines()[-1] == " -    web2   shut off"
    assert run("list", "--inactive", "--name")[1] == "web2\n"
    assert run("list", "--state-shutoff", "--name")[1] == "web2\n"
    assert run("list", "--all", "--uuid")[1].splitlines()[0] == str(UUID_1)
    assert run("list", "--title")[1].splitlines()[-1] == " 3    web1   running   the first"


@pytest.mark.parametrize("place", ["before", "after"])
def test_json_may_stand_before_and_after_the_subcommand(run: Run, link: FakeLink, place: str) -> None:
    link.scripts["actor_snapshot"] = SNAPSHOT
    _, out, _ = run("--json", "list") if place == "before" else run("list", "--json")
    (guest,) = json.loads(out)
    assert (guest["id"], guest["name"], guest["state"], guest["reason"]) == (3, "web1", "running", "booted")
    assert guest["uuid"] == str(UUID_1)
    assert guest["memory_kib"] == 1048576


def test_list_of_a_driver_that_is_down_says_unknown(run: Run, link: FakeLink) -> None:
    link.scripts |= {
        "actor_snapshot": DriverDegraded("test", "it ended 11 times"),
        "connect_list_all_domains": [RUNNING],
        "domain_get_state": Answered({"state": 0, "reason": 0}, source="gateway", ticket={"age_s": 4.2}),
    }
    code, out, err = run("list")
    assert (code, out.splitlines()[-1]) == (0, " 3    web1   unknown for 4 s")
    assert "virtroupe status" in err


@pytest.mark.parametrize(
    ("command", "procedure", "words"),
    [
        ("shutdown", "domain_shutdown_flags", "'web1' was asked to shut down"),
        ("reboot", "domain_reboot", "'web1' was asked to boot anew"),
        ("reset", "domain_reset", "'web1' was reset"),
        ("destroy", "domain_destroy_flags", "'web1' is off"),
        ("suspend", "domain_suspend", "'web1' is paused"),
        ("resume", "domain_resume", "'web1' is running"),
        ("undefine", "domain_undefine_flags", "'web1' is no longer defined"),
        ("managedsave", "domain_managed_save", "'web1' is saved, and goes on with its next start"),
        ("managedsave-remove", "domain_managed_save_remove", "'web1' boots with its next start"),
        ("autostart", "domain_set_autostart", "'web1' is started with the host"),
    ],
)
def test_a_change_says_what_is_so_now(run: Run, link: FakeLink, command: str, procedure: str, words: str) -> None:
    link.scripts[procedure] = None
    assert run(command, "web1") == (0, words + "\n", "")
    assert link.procedures[-1] == procedure
    code, out, _ = run(command, "web1", "--json")
    assert (code, json.loads(out)["name"]) == (0, "web1")


def test_start_passes_its_flags(run: Run, link: FakeLink) -> None:
    link.scripts["domain_create_with_flags"] = RUNNING
    assert run("start", "web1", "--paused", "--force-boot")[1] == "'web1' is paused\n"
    flags = DomainCreateFlags.START_PAUSED | DomainCreateFlags.START_FORCE_BOOT
    assert link.calls[-1].args.flags == flags


def test_define_reads_a_file_or_the_standard_input(
    run: Run, link: FakeLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    link.scripts["domain_define_xml_flags"] = RUNNING
    (tmp_path / "guest.xml").write_text("<domain>1</domain>")
    assert run("define", str(tmp_path / "guest.xml"))[:2] == (0, "'web1' is defined\n")
    assert link.calls[-1].args.xml == "<domain>1</domain>"
    monkeypatch.setattr(sys, "stdin", io.StringIO("<domain>2</domain>"))
    run("define", "-")
    assert link.calls[-1].args.xml == "<domain>2</domain>"
    code, _, err = run("define", str(tmp_path / "none.xml"))
    assert code == 2
    assert "cannot read" in err and "No such file" in err


@pytest.mark.parametrize(
    ("size", "kib"),
    [("1048576", 1048576), ("512MiB", 524288), ("2G", 2097152), ("1MB", 977), ("4096B", 4), ("3k", 3)],
)
def test_memory_is_set_in_the_units_of_virsh(run: Run, link: FakeLink, size: str, kib: int) -> None:
    link.scripts["domain_set_memory_flags"] = None
    assert run("setmem", "web1", size, "--live")[0] == 0
    assert (link.calls[-1].args.memory, link.calls[-1].args.flags) == (kib, 1)


@pytest.mark.parametrize("args", [("12Q",), ("-5",), ("1G", "--current", "--live")])
def test_wrong_usage_is_told_before_anything_is_called(run: Run, link: FakeLink, args: tuple[str, ...]) -> None:
    code, _, err = run("setmem", "web1", *args)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "(see 'virtroupe setmem --help')" in err
    assert link.calls == []


def test_vcpus_and_their_maximum(run: Run, link: FakeLink) -> None:
    link.scripts["domain_set_vcpus_flags"] = None
    assert run("setvcpus", "web1", "4", "--maximum", "--config")[1] == "'web1' is set to 4 CPUs\n"
    assert (link.calls[-1].args.nvcpus, link.calls[-1].args.flags) == (4, 6)


def test_files_of_the_host_are_named_absolutely(
    run: Run, link: FakeLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.scripts |= {"domain_save_flags": None, "domain_restore_flags": None}
    monkeypatch.chdir(tmp_path)
    assert run("save", "web1", "web1.save")[1] == f"'web1' is saved in '{tmp_path}/web1.save'\n"
    assert link.calls[-1].args.to == f"{tmp_path}/web1.save"
    assert run("restore", "web1.save")[0] == 0
    assert getattr(link.calls[-1].args, "from") == f"{tmp_path}/web1.save"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (NoSuchDomain("no domain with matching name 'web9'"), 4, "virtroupe list --all"),
        (Busy(1.5), 5, "try again in 1.5 s"),
        (DeadlinePassed("the change 'domain_managed_save' holds it"), 5, "holds it"),
        (DriverDegraded("test", "it ended 11 times"), 6, "virtroupe actor reset test"),
        (DomainStateError("domain is not running"), 1, "domstate GUEST --reason"),
        (OperationDenied("read only access prevents domain_suspend"), 1, "--readonly"),
        (VirtError("something\nelse"), 1, "something else"),
    ],
)
def test_an_error_is_one_line_with_what_to_do_next(
    run: Run, link: FakeLink, error: VirtError, code: int, words: str
) -> None:
    link.scripts["domain_suspend"] = error
    ended, out, err = run("suspend", "web1")
    assert (ended, out) == (code, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert words in err
    ended, out, err = run("suspend", "web1", "--json")
    told = json.loads(err)["error"]
    assert (ended, out, told["kind"], told["exit"]) == (code, "", error.kind, code)


def test_no_agent_has_an_exit_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(tmp_path), "-c", SCOPE, "list"])
    err = capsys.readouterr().err
    assert ended.value.code == 3
    assert str(tmp_path / "run/clients/door.sock") in err and "virtroupe up" in err


def test_info_and_domstate(run: Run, link: FakeLink) -> None:
    link.scripts |= {
        "domain_get_info": {"state": 1, "maxMem": 2048, "memory": 1024, "nrVirtCpu": 2, "cpuTime": 1500000000},
        "domain_get_os_type": "hvm",
        "domain_is_persistent": 1,
        "domain_get_autostart": 0,
        "domain_has_managed_save_image": 0,
        "domain_get_state": {"state": 3, "reason": 1},
    }
    _, out, _ = run("info", "web1")
    lines = dict(line.split(":", 1) for line in out.splitlines())
    assert {key: value.strip() for key, value in lines.items()} == {
        "Id": "3",
        "Name": "web1",
        "UUID": str(UUID_1),
        "OS Type": "hvm",
        "State": "paused",
        "CPU(s)": "2",
        "CPU time": "1.5s",
        "Max memory": "2048 KiB",
        "Used memory": "1024 KiB",
        "Persistent": "yes",
        "Autostart": "disable",
        "Managed save": "no",
    }
    assert run("dominfo", "web1")[1] == out
    assert run("domstate", "web1")[1] == "paused\n"
    assert run("domstate", "web1", "--reason")[1] == "paused (user)\n"
    assert json.loads(run("domstate", "web1", "--json")[1])["reason"] == "user"


def test_dumpxml_prints_the_document_and_nothing_else(run: Run, link: FakeLink) -> None:
    link.scripts["domain_get_xml_desc"] = "<domain>\n</domain>\n"
    assert run("dumpxml", "web1", "--inactive", "--security-info") == (0, "<domain>\n</domain>\n", "")
    assert link.calls[-1].args.flags == 3


def test_networks_are_listed_as_virsh_lists_them(run: Run, link: FakeLink) -> None:
    link.scripts |= {
        "connect_list_all_networks": [NetworkRef("default", b"n" * 16)],
        "network_is_active": 1,
        "network_get_autostart": 0,
        "network_is_persistent": 1,
    }
    assert run("net-list")[1].splitlines() == [
        " Name      State    Autostart   Persistent",
        "--------------------------------------------",
        " default   active   no          yes",
    ]
    assert link.calls[1].args.flags == 2


def test_events_are_lines_or_objects(run: Run, link: FakeLink) -> None:
    about = ["domain", UUID_1.bytes, "web1"]
    for kind, data in (
        ("epoch", {"previous": [0, 0]}),
        ("domain_event_lifecycle", {"event": 2, "detail": 0}),
        ("changed", {}),
        ("domain_event_watchdog", {"dom": ["web1", UUID_1.bytes, 3], "action": 2}),
    ):
        link.journal.append("test", kind, about=about, scope=SCOPE, data=data)
    _, out, _ = run("events", "--after", "begin", "--no-follow")
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == ["web1  started booted", "web1  watchdog action=2"]
    _, out, _ = run("events", "--after", "1:0", "--count", "1", "--json")
    told = json.loads(out)
    assert (told["name"], told["event"], told["detail"]) == ("web1", "started", "booted")
    assert told["cursor"] == str(link.journal.kept[1].cursor)
    _, out, _ = run("events", "--after", told["cursor"], "--no-follow", "--all", "--json")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["changed", "domain_event_watchdog"]
    _, out, _ = run("events", "--after", "begin", "--no-follow", "--kind", "lifecycle", "--domain", "web1")
    assert len(out.splitlines()) == 1


def test_events_that_are_lost_are_told_as_such(run: Run, link: FakeLink) -> None:
    link.scripts["actor_snapshot"] = SNAPSHOT
    for _ in range(3):
        link.journal.append("test", scope=SCOPE)
    link.journal.forget(2)
    _, out, _ = run("events", "--after", "1:0", "--count", "1", "--json")
    told = json.loads(out)
    assert (told["kind"], told["lost"][0]) == ("resync", "1:0")
    assert [item["name"] for item in told["objects"] if item["type"] == "domain"] == ["web2", "web1"]


def test_events_end_after_a_while(run: Run, link: FakeLink) -> None:
    assert run("events", "--timeout", "0.05") == (0, "", "")


def test_a_wrong_kind_of_event_is_an_error_that_names_those_there_are(run: Run) -> None:
    code, _, err = run("events", "--kind", "lifecycel")
    assert code == 1
    assert "'lifecycel'" in err and " lifecycle," in err


def test_a_wrong_cursor_is_an_error_that_shows_the_form(run: Run) -> None:
    code, _, err = run("events", "--after", "yesterday")
    assert code == 1
    assert "GENERATION:OFFSET" in err


def test_top_once_shows_guests_and_actors(run: Run, link: FakeLink) -> None:
    actors = {"test": {"state": "ready", "pid": 7, "epoch": 3, "calls": 12, "rss_kib": 30720, "restarts": 2}}
    link.scripts |= {
        "actor_snapshot": SNAPSHOT,
        "broker_status": {"status": {"actors": actors, "clients": 2}},
        "domain_get_info": {"state": 1, "maxMem": 2048, "memory": 1048576, "nrVirtCpu": 2, "cpuTime": 5},
    }
    _, out, _ = run("top", "--once", "--interval", "0.2")
    assert " 3    web1   running   0.0     2      1 GiB" in out
    assert " test    ready   7" in out and "30 MiB" in out
    told = json.loads(run("top", "--once", "--json")[1])
    assert (told["guests"][0]["name"], told["actors"]["test"]["restarts"]) == ("web1", 2)


def test_top_shows_what_it_can_when_the_driver_does_not_answer(run: Run, link: FakeLink) -> None:
    link.scripts |= {
        "actor_snapshot": DeadlinePassed("driver 'test' is restarting"),
        "broker_status": {"status": {"actors": {"test": {"state": "restarting"}}}},
    }
    code, out, _ = run("top", "--once", "--interval", "0.2")
    assert code == 0
    assert "driver 'test' is restarting" in out and "restarting" in out.splitlines()[-1]


def test_a_console_shows_what_the_guest_prints(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import sys

    stream = FakeStream(b"login: ", b"")
    driver = FakeDriver(stream)

    async def open_(*_: object) -> Console:
        return await driver.console()

    monkeypatch.setattr("client.domain.Domain.console", open_)
    (tmp_path / "typed").write_bytes(b"root\r\x1dnot this")
    with (tmp_path / "typed").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        with pytest.raises(SystemExit) as ended:
            main(["-c", SCOPE, "console", "web1"])
    assert ended.value.code == 0
    assert stream.written == [b"root\r"]
    assert stream.closed
    assert capfd.readouterr().out in ("", "login: ")  # the file is read at once, so that either end may come first
    assert console_command.ESCAPE == b"\x1d"


def test_every_command_explains_itself(run: Run) -> None:
    for module, names in MODULES.items():
        if module == "agent":
            continue  # has tests of its own
        for name in names:
            code, out, err = run(name, "--help")
            assert (code, err) == (0, ""), name
            assert "--json" in out or name == "completion", name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_VIRTROUPE_COMPLETE" in out


def test_completion_offers_the_names_of_guests(link: FakeLink) -> None:
    from types import SimpleNamespace

    from client.command.arguments import complete_domain
    from client.command.context import Options

    link.scripts["connect_list_all_domains"] = [RUNNING, OFF]
    root = SimpleNamespace(obj=Options(uri=SCOPE), params={})
    ctx = SimpleNamespace(find_root=lambda: root)
    assert complete_domain(ctx, "web") == ["web1", "web2"]
    assert complete_domain(ctx, "x") == []


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    code, _, err = run("levitate")
    assert code == 2
    assert err.startswith("error: ") and "levitate" in err
    assert "did you mean 'start'?" in run("strat", "web1")[2]


@pytest.mark.parametrize(("words", "offered"), [("virtroupe sus", "suspend"), ("virtroupe events --ki", "--kind")])
def test_a_shell_that_asks_gets_completions(
    words: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    monkeypatch.setenv("_VIRTROUPE_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out.split() == [offered]


def test_an_output_that_takes_nothing_is_an_error_and_one_that_went_away_is_none(
    link: FakeLink, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from client.command import output
    from client.command.context import Options
    from client.command.running import Session, run

    link.scripts["connect_get_hostname"] = "h"

    class Full:
        def __init__(self, number: int) -> None:
            self.number = number

        def write(self, text: str) -> None:
            raise OSError(self.number, os.strerror(self.number))

        def fileno(self) -> int:
            return os.open(os.devnull, os.O_WRONLY)

    async def work(session: Session) -> None:
        session.show((await (await session.connect()).hostname()) + "\n", {})

    given = Options(uri=SCOPE)
    for number, code in ((errno.ENOSPC, 1), (errno.EPIPE, 0)):
        with monkeypatch.context() as patch:
            patch.setattr(output.sys, "stdout", Full(number))
            assert run(work, given) == code
    assert capfd.readouterr().err == "error: cannot write the answer: No space left on device\n"


def test_import_tells_of_each_guest_what_became_of_it(run: Run, link: FakeLink) -> None:
    told = [
        {
            "kind": "domain",
            "name": "web1",
            "uuid": str(UUID_1),
            "verdict": "import",
            "done": False,
            "reason": "",
            "notes": ["it will not start yet: no network"],
            "autostart": True,
            "managed_save": False,
            "snapshots": 2,
            "checkpoints": 1,
        },
        {
            "kind": "network",
            "name": "default",
            "verdict": "left",
            "done": False,
            "reason": "a network is not taken over",
        },
    ]
    link.scripts["qemu_import_domains"] = {"guests": told}
    code, out, _ = run("import", "--dry-run", "web1")
    assert code == 0
    assert out.splitlines()[2:] == [
        " web1   would be imported   autostart; 2 snapshots; 1 checkpoint; it will not start yet: no network",
        "Not taken over: network default",
    ]
    args = link.calls[-1].args
    assert (args.root, args.names, args.flags) == (None, ["web1"], 1)
    told[0] = {**told[0], "verdict": "refused", "reason": "its name is taken", "notes": []}
    code, out, _ = run("import", "--from", "/old", "--running", "--json")
    assert code == 1 and json.loads(out)[0]["reason"] == "its name is taken"
    args = link.calls[-1].args
    assert (args.root, args.names, args.flags) == ("/old", [], 2)
