"""``goscope demo``: several processes import data, one is killed, and the result is verified."""

from __future__ import annotations

import argparse
from collections import abc

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Several worker processes import the world's airports into one store, through a service that
    fails for a while. One worker is killed in the middle of its work. The demo then verifies the
    store and the log of the service. The exit code is 0 if every check passes, else 1.
    Ctrl-C stops all processes; the next run resumes the import.
"""
EXTRA = "demo"
PACKAGES = ("aiohttp", "airportsdata", "rich")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--path", metavar="FOLDER", help="folder for its files (default: a temporary one)")
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--backend", metavar="NAME", help="backend of the store (default: sqlite)")
    store.add_argument("--url", help="URL of the store, instead of a file in FOLDER")
    add("--records", type=_at_least(100), metavar="N", help="records to import (default: all)")
    add("--workers", type=_at_least(2), metavar="N", default=4, help="processes (default: 4)")
    add("--seed", type=int, help="repeat the shard order, outage and killed worker of a run")
    add("--no-kill", action="store_true", help="kill no worker")
    add("--keep", action="store_true", help="keep the files after success")


def run(arguments: argparse.Namespace) -> int:
    """Run the import and return the exit code."""
    from ._supervisor import run  # imports the packages of the extra

    return run(arguments)


def _at_least(minimum: int) -> abc.Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {value}")
        return value

    return number
