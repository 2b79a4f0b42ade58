"""The `virtroupe` command: what stands before the subcommand, and where each subcommand lives.

A subcommand's module is imported when it is used: `virtroupe list` must not wait for what only `top` needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from client.command.context import Options
from client.command.running import INTERRUPTED

MODULES: Final[dict[str, tuple[str, ...]]] = {
    "agent": ("up", "down", "status", "paths", "actor", "config"),
    "guests": ("list", "info", "dominfo", "domstate", "dumpxml", "dommemstat", "domuuid", "domid", "domname"),
    "power": ("start", "shutdown", "reboot", "reset", "destroy", "suspend", "resume"),
    "definition": ("define", "create", "undefine", "autostart", "setmem", "setmaxmem", "setvcpus"),
    "importing": ("import",),
    "saving": ("save", "restore", "managedsave", "managedsave-remove", "screenshot"),
    "console": ("console",),
    "events": ("events",),
    "top": ("top",),
    "host": ("nodeinfo", "capabilities", "version", "uri", "hostname", "net-list", "pool-list"),
    "completion": ("completion",),
}
"""The subcommands of each module of this folder, in the order in which the help shows them."""

PANELS: Final = {
    "agent": "The agent",
    "guests": "Guests",
    "power": "Guests",
    "definition": "Guests",
    "importing": "Guests",
    "saving": "Guests",
    "console": "Guests",
    "events": "What happens",
    "top": "What happens",
    "host": "The host",
    "completion": "Shell",
}
"""Under which title the help shows a module's subcommands."""

EXIT_USAGE: Final = 2
COMPLETE_VARIABLE: Final = "_VIRTROUPE_COMPLETE"
"""Set by a shell that asks for completions."""

_home: Final = {name: module for module, names in MODULES.items() for name in names}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_home)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = _home.get(cmd_name)
        if module is None:
            return None
        group = typer.main.get_group(import_module(f"client.command.{module}").app)
        command: Any = group.commands.get(cmd_name)
        if command is not None:
            command.rich_help_panel = PANELS[module]
        return command


app = typer.Typer(
    cls=LazyGroup,
    name="virtroupe",
    help="Operates the guests of a Virtroupe agent, and the agent itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def virtroupe(
    ctx: typer.Context,
    root: Annotated[
        Path | None,
        typer.Option(envvar="VIRTROUPE_ROOT", metavar="DIR", help="The folder below which the agent keeps everything."),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--connect",
            envvar="VIRTROUPE_URI",
            metavar="URI",
            help="The driver to talk to; else qemu:///system (an ordinary user's agent: qemu:///session) where QEMU is "
            "installed, else test:///default.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("-r", "--readonly", help="Connect without the right to change.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    ctx.obj = Options(root, uri, json, read_only)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command line and ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    if COMPLETE_VARIABLE in os.environ:
        import_module("typer.completion").completion_init()
    command = typer.main.get_command(app)
    try:
        code = command.main(args, prog_name="virtroupe", standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except Exception as exc:  # usage errors have no public class in typer; everything else goes on
        if not hasattr(exc, "format_message"):
            raise
        code = _usage_error(exc)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_error(exc: Any) -> int:
    ctx = getattr(exc, "ctx", None)
    if type(exc).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(exc.format_message() + "\n")
        return EXIT_USAGE
    path = ctx.command_path if ctx is not None else "virtroupe"
    message = " ".join(exc.format_message().split()).rstrip(".")
    sys.stderr.write(f"error: {message}{_suggestion(message)} (see '{path} --help')\n")
    return int(getattr(exc, "exit_code", EXIT_USAGE))


def _suggestion(message: str) -> str:
    _, found, word = message.partition("No such command ")
    near = get_close_matches(word.strip("'"), _home, n=1) if found else []
    return f"; did you mean '{near[0]}'?" if near else ""


if __name__ == "__main__":
    main()
