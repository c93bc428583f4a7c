"""``goscope completion``: the script that completes this command in a shell."""

from __future__ import annotations

import argparse

from .._commands import COMMANDS
from .._exit import EXIT_OK

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Print a completion script. For bash, write it to
    ~/.local/share/bash-completion/completions/goscope; for zsh, to a file _goscope in a folder of
    $fpath.
"""
EXTRA = "cli"
PACKAGES = ("shtab",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from .._main import command_parser

    parser = command_parser(COMMANDS)
    print(shtab.complete(parser, arguments.shell))
    return EXIT_OK
