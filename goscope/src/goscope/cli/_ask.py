"""Asking before something is changed."""

from __future__ import annotations

import argparse
import signal
import sys

from ._exit import Refused, UsageError


def confirm(question: str, arguments: argparse.Namespace) -> None:
    """Return if the answer is yes, or ``--yes`` was given. Blocks the event loop.

    Raises `Refused` for any other answer, and `UsageError` if nobody can be asked.
    """
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked, since the input is not a terminal. Pass --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    # asyncio's handler would not end the wait for an answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)
    if answer.strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")
