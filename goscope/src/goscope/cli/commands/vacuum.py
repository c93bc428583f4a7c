"""``goscope vacuum``: return unused space to the file system."""

from __future__ import annotations

import argparse

from ... import Scope
from ...errors import CapabilityMissing
from ...maintenance import SupportsStorage, SupportsVacuum
from .._arguments import add_store, add_yes
from .._ask import confirm
from .._changes import report
from .._exit import EXIT_OK
from .._store import run_on_store as run
from .._units import size

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Make the file as small as what it holds. SQLite copies that, so it needs as much space again.
    Reads go on, but writes of other processes wait until it is done, about a second for 200 MB, and
    fail when they have waited for their busy_timeout.
"""
EXTRA = "cli"
PACKAGES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_store(parser, _vacuum)
    add_yes(parser)


async def _vacuum(gs: Scope, arguments: argparse.Namespace) -> int:
    adapter = gs.persistence
    if not isinstance(adapter, SupportsVacuum) or not isinstance(adapter, SupportsStorage):
        raise CapabilityMissing(type(adapter).__name__, "vacuum", "its server does that itself")
    before = await adapter.storage()
    confirm(
        f"Vacuum {before.path}, of whose {size(before.size_bytes)} "
        f"{size(before.free_bytes or 0)} are unused, while writes wait?",
        arguments,
    )
    await adapter.vacuum()
    after = await adapter.storage()
    report(gs, "vacuum", "*")
    print(f"The file has {size(after.size_bytes)}, after {size(before.size_bytes)} before.")
    return EXIT_OK
