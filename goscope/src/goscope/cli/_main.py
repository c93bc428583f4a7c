"""Parses the command line and runs one of the commands."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from .. import ConfigurationError, __version__
from ._command import Command
from .commands import demo

COMMANDS: Final[Mapping[str, Command]] = {
    "demo": demo,
}

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named in ``argv`` (default: the process's arguments); return the exit code.

    0 is success, 1 a failure of the command, 2 a wrong invocation or a missing package, 130 Ctrl-C.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    name: str | None = arguments.command
    if name is None:
        parser.print_help()
        return EXIT_OK
    command = COMMANDS[name]
    missing = [package for package in command.PACKAGES if not _is_installed(package)]
    if missing:
        return _refuse(
            name,
            f'requires {", ".join(missing)}. Install with: pip install "goscope[{command.EXTRA}]"',
        )
    try:
        return command.run(arguments)
    except ConfigurationError as exc:
        return _refuse(name, str(exc))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. The flush at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goscope", description="Locks, cache, circuit breakers, checkpoints and idempotency."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        command.add_arguments(
            subparsers.add_parser(name, help=command.SUMMARY, description=command.DESCRIPTION)
        )
    return parser


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _refuse(name: str, reason: str) -> int:
    print(f"goscope {name}: {reason}", file=sys.stderr)
    return EXIT_USAGE
