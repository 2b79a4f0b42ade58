"""Arguments and options that several subcommands have, and the names that completion offers for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from client.command.context import Options

_UNITS_KIB: Final = {
    "": 1.0,
    "B": 1 / 1024,
    "K": 1.0,
    "M": 1024.0,
    "G": 1024.0**2,
    "T": 1024.0**3,
}
_DECIMAL: Final = {"K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_SIZE: Final = re.compile(r"(\d+)\s*(?:(B|bytes)|([KMGT])(iB|B)?)?", re.IGNORECASE)

COMPLETE_S: Final = 0.5
"""How long completion may keep a person waiting."""


def complete_domain(ctx: Any, incomplete: str) -> list[str]:
    """The names of guests that begin so; nothing when the agent does not answer quickly."""
    import asyncio

    from client.connecting import connect
    from client.errors import VirtError

    root = ctx.find_root()
    given = root.obj if isinstance(root.obj, Options) else Options(root.params.get("root"), root.params.get("uri"))

    async def names() -> list[str]:
        async with connect(given.uri, root=given.root, read_only=True, wait_s=COMPLETE_S) as conn:
            return [domain.name for domain in await conn.list_domains()]

    try:
        found = asyncio.run(asyncio.wait_for(names(), COMPLETE_S))
    except (VirtError, TimeoutError):
        return []
    return [name for name in found if name.startswith(incomplete)]


DomainArgument = Annotated[
    str,
    typer.Argument(metavar="GUEST", help="The guest: its name, id or uuid.", autocompletion=complete_domain),
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A file; '-' is the standard input.")]
LiveOption = Annotated[bool, typer.Option("--live", help="The running guest.")]
ConfigOption = Annotated[bool, typer.Option("--config", help="The next start.")]
CurrentOption = Annotated[
    bool, typer.Option("--current", help="What is now: the guest if it runs, else its next start.")
]


def read_text(file: str) -> str:
    """The text of a file, or of the standard input for '-'.

    Raises typer.BadParameter when it cannot be read.
    """
    import sys

    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise typer.BadParameter(f"cannot read '{file}': {getattr(exc, 'strerror', None) or exc}") from exc


def kib_of(text: str) -> int:
    """An amount of memory in KiB: a number of KiB, or with a unit (B, K, KiB, KB, M, MiB, G, ...).

    As in virsh, KB and MB are powers of ten. Raises typer.BadParameter when the text is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"'{text}' is not an amount of memory such as 1048576 or 1GiB")
    amount = int(match[1])
    if match[2]:
        return -(-amount // 1024)
    letter = (match[3] or "").upper()
    if (match[4] or "").upper() == "B":
        return -(-amount * _DECIMAL[letter] // 1024)
    return int(amount * _UNITS_KIB[letter])


def impact(live: bool, config: bool, current: bool) -> int:
    """The flags of `--live`, `--config` and `--current`.

    Raises typer.BadParameter when they contradict each other.
    """
    if current and (live or config):
        raise typer.BadParameter("--current excludes --live and --config")
    return (1 if live else 0) | (2 if config else 0)
