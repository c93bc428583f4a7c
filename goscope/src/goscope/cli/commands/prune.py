"""``goscope prune``: remove everything that has expired."""

from __future__ import annotations

import argparse

from ... import Scope
from ...maintenance import SupportsSweep
from .._arguments import add_store
from .._changes import report
from .._exit import EXIT_OK
from .._store import run_on_store as run

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Remove what has expired, as each open scope does in the background. Nobody could read it any
    more, so the command does not ask. It writes in small steps, and others write in between.
"""
EXTRA = "cli"
PACKAGES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_store(parser, _prune)


async def _prune(gs: Scope, _: argparse.Namespace) -> int:
    before = await gs.inspect.totals()
    adapter = gs.persistence
    if isinstance(adapter, SupportsSweep):
        await adapter.sweep()
    elif adapter.cache is not None:
        await adapter.cache.prune()
    after = await gs.inspect.totals()
    report(gs, "prune", "*")
    for kind in ("entries", "results", "leases"):
        removed = getattr(before, kind).count - getattr(after, kind).count
        # Others write at the same time.
        print(f"{kind:8}  {max(removed, 0):,} removed, {getattr(after, kind).count:,} left")
    return EXIT_OK
