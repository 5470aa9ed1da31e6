"""The command ``completion``: completion of commands and options in a shell."""

import argparse
from typing import Literal

import shtab

from transxnet.cli.parser import with_hyphens


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print the script that completes commands, options and file names in a shell.

    Args:
        shell: bash, zsh or tcsh.
    """
    from transxnet.cli.command_table import COMMANDS

    top = argparse.ArgumentParser("transxnet")
    commands = top.add_subparsers()
    for command in COMMANDS.values():
        parser = commands.add_parser(command.name, help=command.summary, add_help=False)
        for action in command.parser()._actions:
            parser._add_action(_for_completion(action))
    print(shtab.complete(top, shell))


def _for_completion(action: argparse.Action) -> argparse.Action:
    """Return a copy of an argument with hyphens in its name, and accepted words or files to complete."""
    shown = with_hyphens(action)
    words = str(shown.metavar or "").strip("[]{}").replace("|", ",").split(",")
    if len(words) > 1:
        shown.choices = words
    elif shown.nargs != 0:
        shown.complete = shtab.FILE  # type: ignore[attr-defined]
    return shown
