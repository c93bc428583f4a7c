"""Parses the command line and runs one of the commands."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Collection, Sequence

from ..errors import ConfigurationError, GoscopeError
from ._arguments import Parser, without_passwords
from ._commands import COMMANDS, load
from ._exit import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, CommandError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named in ``argv`` (default: the process's arguments); return the exit code.

    `goscope.cli._exit` has the exit codes.
    """
    argv = sys.argv[1:] if argv is None else argv
    # Before its command there is no option with a value.
    named = next((argument for argument in argv if not argument.startswith("-")), None)
    parser = command_parser({named} if named in COMMANDS else ())
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return EXIT_OK
    command = load(arguments.command)
    prog: str = getattr(arguments, "prog", f"goscope {arguments.command}")
    missing = [package for package in command.PACKAGES if not _is_installed(package)]
    if missing:
        _report(
            prog,
            f'requires {", ".join(missing)}. Install with: pip install "goscope[{command.EXTRA}]"',
        )
        return EXIT_USAGE
    try:
        return command.run(arguments)
    except CommandError as exc:
        _report(prog, str(exc))
        return exc.exit_code
    except ConfigurationError as exc:
        _report(prog, str(exc))
        return EXIT_USAGE
    except (GoscopeError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):
            # The reader has closed the pipe. The flush at exit must not raise again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            _report(prog, str(exc))
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def command_parser(names: Collection[str | None]) -> Parser:
    """The parser, with the arguments of the commands of these names alone.

    The modules of the others are not imported.
    """
    from .. import __version__

    parser = Parser(
        prog="goscope", description="Locks, cache, circuit breakers, checkpoints and idempotency."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, summary in COMMANDS.items():
        subparser: argparse.ArgumentParser = subparsers.add_parser(name, help=summary)
        if name in names:
            command = load(name)
            subparser.description = command.DESCRIPTION
            command.add_arguments(subparser)
    return parser


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _report(prog: str, reason: str) -> None:
    """Print one line on standard error."""
    print(f"{prog}: {without_passwords(' '.join(reason.split()))}", file=sys.stderr)
