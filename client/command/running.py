"""Runs a subcommand: connects when the subcommand first needs it, and turns how it ends into an exit code.

`speaks` makes a command of a coroutine function whose first parameter is the session: the rest of its parameters are
the command's arguments and options, to which `--json` is added, so that it may stand before and after the subcommand.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, get_type_hints

import typer

from client.command.context import Options, options

if TYPE_CHECKING:
    from client.connection import Connection
    from client.domain import Domain

P = ParamSpec("P")
INTERRUPTED: Final = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.", rich_help_panel="Output")]


class Session:
    """What a subcommand works with: the options, and the connection once it is needed."""

    def __init__(self, given: Options) -> None:
        self.options = given
        self.json = given.json
        self._conn: Connection | None = None

    async def connect(self) -> Connection:
        """The connection; the first time it is made. Raises what `virtroupe.connect` raises."""
        if self._conn is None:
            from client.connecting import connect

            given = self.options
            self._conn = await connect(given.uri, root=given.root, read_only=given.read_only, program="virtroupe")
        return self._conn

    async def domain(self, which: str) -> Domain:
        """The guest that the user means by an id, a uuid or a name. Raises NoSuchDomain."""
        return await (await self.connect()).domain(which)

    def done(self, words: str, **told: object) -> None:
        """Says that something was done: in words, or as an object."""
        from client.command.output import printable, to_json, write

        write(to_json(told) + "\n" if self.json else printable(words) + "\n")

    def show(self, text: str, value: object) -> None:
        """Writes an answer: the text, or the value as JSON."""
        from client.command.output import to_json, write

        write(to_json(value) + "\n" if self.json else text)

    async def aclose(self) -> None:
        """Ends the connection, if there is one."""
        if self._conn is not None:
            await self._conn.aclose()


def speaks(function: Callable[Concatenate[Session, P], Awaitable[int | None]]) -> Callable[..., None]:
    """The command that runs a coroutine function with a session."""
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    session, *rest = signature.parameters.values()
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(annotation=hints[parameter.name]) for parameter in rest),
        inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
    ]

    def command(ctx: typer.Context, *args: Any, json: bool = False, **kwargs: Any) -> None:
        given = options(ctx)
        given.json = given.json or json
        raise typer.Exit(run(lambda session: function(session, *args, **kwargs), given))

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del session
    return command


def run(work: Callable[[Session], Awaitable[int | None]], given: Options) -> int:
    """Runs work with a session and tells the exit code; errors are written to standard error."""
    from client.command.output import CannotWrite
    from client.errors import VirtError

    try:
        return asyncio.run(_with_session(work, given))
    except VirtError as error:
        from client.command.faults import report

        return report(error, as_json=given.json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return 0
    except CannotWrite as exc:
        _drop_output()
        sys.stderr.write(f"error: {exc}\n")
        return 1


def _drop_output() -> None:
    # what Python still holds of it must not fail at exit
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _with_session(work: Callable[[Session], Awaitable[int | None]], given: Options) -> int:
    session = Session(given)
    try:
        return await work(session) or 0
    finally:
        await session.aclose()
