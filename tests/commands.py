"""Every command of the command line, as its parser has it."""

from __future__ import annotations

import typer

from motivnet_cli.cli import app


def all_commands():
    """Each command by its words, such as `export model`."""
    return dict(_below(typer.main.get_command(app), ()))


def _below(command, words):
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _below(each, (*words, name))
    else:
        yield " ".join(words), command
