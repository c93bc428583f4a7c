"""Showing how far a copy is: a bar in a terminal, lines elsewhere, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from ..maintenance import OnProgress

PLAIN_STEP_PERCENT: Final = 10
"""Progress between two lines of the plain output."""


@contextmanager
def progress(what: str) -> Generator[OnProgress]:
    """Show what the function in the block is called with."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _lines(what: str) -> OnProgress:
    next_percent = 0

    def show(done: int, total: int) -> None:
        nonlocal next_percent
        percent = 100 * done // max(total, 1)
        if percent >= next_percent:
            next_percent = percent - percent % PLAIN_STEP_PERCENT + PLAIN_STEP_PERCENT
            print(f"{percent:3}%  {done:,} of {total:,} {what}", file=sys.stderr, flush=True)

    return show
