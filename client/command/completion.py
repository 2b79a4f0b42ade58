"""Completion for shells: the script that a shell reads, and the names it offers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()


class Shell(StrEnum):
    """The shells that a script can be written for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="The shell to write the script for.")]) -> None:
    """Print the completion script of a shell: source <(virtroupe completion bash)"""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    from client.command.main import COMPLETE_VARIABLE

    typer.echo(get_completion_script(prog_name="virtroupe", complete_var=COMPLETE_VARIABLE, shell=shell.value))
