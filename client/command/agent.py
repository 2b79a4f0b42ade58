"""The agent itself: starting and ending it, how it stands, where everything lies, and its actors one by one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from client.command.context import Options, options

if TYPE_CHECKING:
    from broker.peer import Peer
    from settings.config import Config
    from settings.paths import Paths

app = typer.Typer()
actor = typer.Typer(no_args_is_help=True, help="One driver at a time: list, start, stop, restart, reset, log.")
app.add_typer(actor, name="actor")

CONNECT_S: Final = 5.0
ORDER_S: Final = 30.0
READY_S: Final = 60.0
EXIT_FAILED: Final = 1

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The driver, as 'virtroupe actor list' calls it.")]


@app.command()
def up(ctx: typer.Context) -> None:
    """Start the agent, wait until it answers, and say what to type next."""
    from client.command.rising import NotReady, Steps, tell_failure, wait_until_ready
    from client.tree import CannotStart, check_startable, start_tree, supervisor_pid

    given = options(ctx)
    paths = given.paths
    steps = Steps(quiet=given.json)
    try:
        check_startable(paths)
        if pid := supervisor_pid(paths):
            steps.say(f"The agent runs already (supervisord is process {pid}).")
        else:
            with steps.step("supervisord runs"):
                start_tree(paths, given.root)
        asyncio.run(wait_until_ready(paths, steps))
    except CannotStart as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(EXIT_FAILED) from exc
    except NotReady as exc:
        tell_failure(paths, exc)
        raise typer.Exit(EXIT_FAILED) from exc
    _show_standing(given)
    if not given.json:
        steps.say(next_words(given, paths))


@app.command()
def down(ctx: typer.Context) -> None:
    """End the agent; guests keep running."""
    from client.tree import CannotStart, stop_tree

    given = options(ctx)
    try:
        ended = stop_tree(given.paths)
    except CannotStart as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(EXIT_FAILED) from exc
    _done(given, "The agent is down; guests keep running." if ended else "No agent runs here.", ended=ended)


@app.command()
def status(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show every process of the agent: state, restarts, memory and limits."""
    given = options(ctx)
    given.json = given.json or json
    raise typer.Exit(_show_standing(given))


@app.command()
def paths(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show where every socket, folder and log is."""
    from client.command.output import facts, to_json, write

    given = options(ctx)
    told = all_paths(given.paths)
    if given.json or json:
        write(to_json(told) + "\n")
    else:
        write("".join(f"{title}\n{_indented(facts(entries.items()))}" for title, entries in told.items()))


@app.command()
def config(ctx: typer.Context, json: JsonOption = False) -> None:
    """Print the configuration in force, with what each key means."""
    from dataclasses import asdict

    from client.command.output import to_json, write
    from settings.config import ConfigError, load_config
    from settings.describe import describe_config
    from settings.drivers import check_actors

    given = options(ctx)
    file = given.paths.config_file
    try:
        settings = load_config(file)
        check_actors(settings, file)
    except ConfigError as exc:
        sys.stderr.write(f"error: {exc}\n")
        raise typer.Exit(EXIT_FAILED) from exc
    if given.json or json:
        write(to_json(asdict(settings)) + "\n")
    else:
        write(
            f"# {file}{'' if file.exists() else ' (not there: these are the defaults)'}\n\n{describe_config(settings)}"
        )


@actor.command("list")
def actor_list(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show the drivers of this host."""
    from client.command.standing import standing

    given = options(ctx)
    given.json = given.json or json

    async def shown(peer: Peer) -> None:
        from client.command.output import table, to_json, write
        from client.command.standing import ACTOR_HEADINGS, actor_cells

        told = await standing(given.paths, peer)
        rows = list(told["limits"].values())
        if given.json:
            write(to_json(rows) + "\n")
        else:
            write(table(ACTOR_HEADINGS, (actor_cells(row, told["actors"].get(row["name"], {})) for row in rows)))

    raise typer.Exit(_talk(given, shown))


@actor.command("start")
def actor_start(ctx: typer.Context, name: NameArgument) -> None:
    """Start a driver, also one that was stopped by hand or is degraded."""
    _order(ctx, name, "warden_actor_start", "Driver '{name}' runs", until_ready=True)


@actor.command("stop")
def actor_stop(ctx: typer.Context, name: NameArgument) -> None:
    """Stop a driver until it is started by hand; its guests keep running."""
    _order(
        ctx, name, "warden_actor_stop", "Driver '{name}' is stopped; its guests keep running", until_state="disabled"
    )


@actor.command("restart")
def actor_restart(ctx: typer.Context, name: NameArgument) -> None:
    """Replace the process of a driver; calls wait, guests keep running."""
    _order(ctx, name, "warden_actor_restart", "Driver '{name}' was restarted", until_ready=True)


@actor.command("reset")
def actor_reset(ctx: typer.Context, name: NameArgument) -> None:
    """Forgive a driver its crashes: a degraded one is tried again."""
    _order(ctx, name, "warden_actor_reset", "Driver '{name}' begins with a full crash budget")


@actor.command("log")
def actor_log(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A driver, or broker, gateway, warden, supervisord.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And what comes, until ^C.")] = False,
) -> None:
    """Show what a process wrote to its log."""
    from client.command import logs
    from client.command.output import write
    from settings.tree import log_files

    given = options(ctx)
    if not log_files(given.paths, name):
        sys.stderr.write(f"error: there is no log of '{name}' in '{given.paths.log}'\n")
        raise typer.Exit(EXIT_FAILED)
    for line in logs.last_lines(given.paths, name, lines):
        write(line + "\n")
    if follow:
        try:
            for line in logs.follow(given.paths, name):
                write(line + "\n")
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


# -- how it is done


def _order(
    ctx: typer.Context, name: str, procedure: str, words: str, *, until_ready: bool = False, until_state: str = ""
) -> None:
    given = options(ctx)

    async def ordered(peer: Peer) -> None:
        from client.command.rising import ask

        before = await _epoch(peer, name)
        await ask(peer, "warden", procedure, ORDER_S, name=name)
        if until_ready:
            restarted = procedure == "warden_actor_restart"
            await _until(peer, name, lambda e: e["state"] == "ready" and (not restarted or e["epoch"] > before))
        elif until_state:
            await _until(peer, name, lambda e: e["state"] == until_state and e["pid"] is None)
        _done(given, words.format(name=name), name=name, order=procedure.rpartition("_")[2])

    raise typer.Exit(_talk(given, ordered))


async def _epoch(peer: Peer, name: str) -> int:
    from client.command.rising import ask

    entry = (await ask(peer, "broker", "broker_status", CONNECT_S)).status["actors"].get(name)
    return int(entry["epoch"]) if entry else 0


async def _until(peer: Peer, name: str, reached: Callable[[dict[str, Any]], bool]) -> None:
    """Waits for a state. Raises DriverDegraded when it gets degraded instead, DeadlinePassed when it takes too long."""
    from client.command.rising import ask
    from schema.errors import DeadlinePassed, DriverDegraded

    end = asyncio.get_running_loop().time() + READY_S
    while True:
        entry = (await ask(peer, "broker", "broker_status", CONNECT_S)).status["actors"][name]
        if reached(entry):
            return
        if entry["state"] == "degraded":
            raise DriverDegraded(name, entry["why"])
        if asyncio.get_running_loop().time() > end:
            raise DeadlinePassed(f"driver '{name}' is {entry['state']} after {READY_S:g} s")
        await asyncio.sleep(0.02)


def _talk(given: Options, work: Callable[[Peer], Awaitable[None]]) -> int:
    """Does something with a connection to the broker; the exit code."""
    from client.command.faults import report
    from client.errors import VirtError
    from client.link import open_link

    async def talked() -> None:
        peer: Any = await open_link(given.paths, read_only=given.read_only, program="virtroupe", wait_s=CONNECT_S)
        try:
            await work(peer)
        finally:
            await peer.aclose()

    try:
        asyncio.run(talked())
    except VirtError as error:
        return report(error, as_json=given.json)
    except KeyboardInterrupt:
        return 130
    return 0


def _show_standing(given: Options) -> int:
    async def shown(peer: Peer) -> None:
        from client.command.output import to_json, write
        from client.command.standing import standing, standing_text

        told = await standing(given.paths, peer)
        write(to_json(told) + "\n" if given.json else standing_text(told))

    return _talk(given, shown)


def _done(given: Options, words: str, **told: object) -> None:
    from client.command.output import to_json, write

    write(to_json(told) + "\n" if given.json else words + "\n")


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def all_paths(where: Paths) -> dict[str, dict[str, str]]:
    """Every socket, folder, file and log in force, by name."""
    from settings.tree import PLATFORM

    names = ("config", "state", "cache", "run", "log", "journal", "tokens")
    return {
        "sockets": {name: str(path) for name, path in where.sockets().items()},
        "folders": {name: str(getattr(where, name)) for name in names},
        "files": {
            "config_file": str(where.config_file),
            "supervisor_config": str(where.supervisor_config),
            "supervisor_pid": str(where.supervisor_pid),
        },
        "logs": {
            "supervisord": str(where.supervisor_log),
            **{role: str(where.role_log(role)) for role in PLATFORM},
            "actors": str(where.log / "NAME.SLOT.log"),
        },
    }


def own_command() -> str:
    """How this command is called from where the user is."""
    if sys.prefix == sys.base_prefix:
        return "virtroupe"
    program = Path(sys.prefix, "bin", "virtroupe")
    here = Path.cwd()
    is_below = here != Path("/") and program.is_relative_to(here)
    return str(program.relative_to(here) if is_below else program)


def _is_in_place(config: Config, where: Paths) -> bool:
    """Whether libvirt's own paths lead to this agent."""
    from settings.paths import libvirt_folder

    link = libvirt_folder() / where.libvirt_socket.name
    return config.gateway.drop_in and link.is_symlink() and link.resolve() == where.libvirt_socket.resolve()


def next_words(given: Options, where: Paths) -> str:
    """What to type next."""
    from settings.config import load_config
    from settings.drivers import available_drivers, default_uris

    command = own_command()
    if given.root is not None:
        command += f" --root {given.root}"
    socket = where.libvirt_socket
    config = load_config(where.config_file)
    names = [driver.name for driver in available_drivers(config)]
    qemu = "qemu" in names
    system = dict(default_uris(os.geteuid()))["qemu"].partition(":")[2]
    lines = [
        "",
        "Next:",
        f"  {command} list --all" + ("" if qemu else "      # QEMU is not installed: the test driver"),
    ]
    if qemu and _is_in_place(config, where):
        lines.append("  virsh list --all      # in libvirt's place: clients need not be told where")
    elif qemu:
        lines.append(f'  virsh -c "qemu+unix:{system}?socket={socket}" list --all')
    lines += [
        f'  virsh -c "test+unix:///default?socket={socket}" list --all',
        f"  {command} events      # live",
        f"  {command} status",
        f"  {command} down        # ends the agent, not the guests",
    ]
    return "\n".join(lines)
