"""The ``goscope`` command: ``pip install "goscope[cli]"``, then ``goscope demo``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections import abc

__all__ = ["main"]

_EXTRA = ("aiohttp", "airportsdata", "rich")


def main(argv: abc.Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; the exit code.

    0: all is as it must be; 1: it is not; 2: it cannot be run like this; 130: interrupted.
    """
    arguments = _parser().parse_args(argv)
    missing = [package for package in _EXTRA if importlib.util.find_spec(package) is None]
    if missing:
        return _refuse(
            f"it needs {', '.join(missing)}, which this Python has not installed. "
            f'`pip install "goscope[cli]"` brings what the command needs.'
        )
    from .. import ConfigurationError
    from .demo._run import run  # after the look for what it imports

    try:
        return run(arguments)
    except ConfigurationError as exc:
        return _refuse(str(exc))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads on: there is nothing to say, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _refuse(reason: str) -> int:
    print(f"goscope demo: {reason}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="goscope", description="Locks, cache, circuit breakers, checkpoints and idempotency."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help=_DEMO, description=_DEMO_AT_LENGTH))
    return parser


_DEMO = "import the world's airports with several processes, one of which is killed"
_DEMO_AT_LENGTH = """
    Import the world's airports with several processes on one store, through a service that fails
    for a while; kill one process in the middle; then check what the store and the service's log
    say of it. Exits with 0 if every line of that ledger is as it must be, else with 1.
    Interrupted with Ctrl-C it leaves nothing running and resumes when it is run again.
"""


def _add_demo(demo: argparse.ArgumentParser) -> None:
    add = demo.add_argument
    add("--path", metavar="FOLDER", help="where its files are (default: in the temporary folder)")
    store = demo.add_mutually_exclusive_group()
    store.add_argument("--backend", metavar="NAME", help="default: sqlite")
    store.add_argument("--url", help="the URL of a store, in place of a file in the folder")
    add("--records", type=_at_least(100), metavar="N", help="import fewer (default: all)")
    add("--workers", type=_at_least(2), metavar="N", default=4, help="processes (default: 4)")
    add("--seed", type=int, help="repeat a run: same shard order, outage and victim")
    add("--no-kill", action="store_true", help="let every worker live")
    add("--keep", action="store_true", help="keep the files after success")


def _at_least(least: int) -> abc.Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return number
