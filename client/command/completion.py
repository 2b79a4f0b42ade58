"""Completion for shells: the script that a shell reads, and the names it offers."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
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
    from client.command.main import COMPLETE_VARIABLE

    # not exported as far as type checkers know
    scripts = import_module("typer.completion")
    script = scripts.get_completion_script(prog_name="virtroupe", complete_var=COMPLETE_VARIABLE, shell=shell.value)
    typer.echo(script)
