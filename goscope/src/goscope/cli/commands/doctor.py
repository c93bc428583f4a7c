"""``goscope doctor``: check a store, and say what to do about each problem."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ..._settings import resolve
from ...errors import BackendError, ConfigurationError
from ...maintenance import Finding
from .._arguments import add_json, add_url
from .._exit import EXIT_FAILED, EXIT_OK, UsageError
from .._output import print_listing
from .._store import open_store

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Check a store and what it stands on, such as the version of SQLite, the disk, the permissions,
    the schema, and processes that read for long. Each line says what was found and what to do. It
    changes nothing. The exit code is 0 if there is nothing to do, 1 after a warning or an error.
"""
EXTRA = "cli"
PACKAGES = ()

CLOCK_TOLERANCE_MS: Final = 5_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_url(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings, and return the exit code."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    findings = await _diagnose(arguments.url)

    async def listed() -> AsyncIterator[Finding]:
        for finding in findings:
            yield finding

    await print_listing(
        listed(),
        {
            "LEVEL": lambda it: it.level,
            "CHECK": lambda it: it.check,
            "FOUND": lambda it: it.found,
            "ADVICE": lambda it: it.advice or None,
        },
        as_json=arguments.json,
    )
    is_sick = any(finding.level in ("warning", "error") for finding in findings)
    return EXIT_FAILED if is_sick else EXIT_OK


async def _diagnose(url: str | None) -> Sequence[Finding]:
    settings = resolve(url, None, {})
    findings: list[Finding] = []
    if settings.backend.diagnose is not None:
        findings += await settings.backend.diagnose(settings.options)
        if any(finding.level == "error" for finding in findings):
            return findings
    return [*findings, *await _open(url)]


async def _open(url: str | None) -> Sequence[Finding]:
    """The checks that need an open store, of any backend."""
    started = time.perf_counter()
    try:
        async with open_store(url) as gs:
            took_ms = (time.perf_counter() - started) * 1_000
            opened = Finding(check="open", level="ok", found=f"opened in {took_ms:.0f} ms")
            ahead_ms = gs.persistence.clock.wall_ms() - time.time() * 1_000
    except (BackendError, ConfigurationError, UsageError) as exc:
        return [Finding(check="open", level="error", found=str(exc))]
    if abs(ahead_ms) <= CLOCK_TOLERANCE_MS:
        return [opened]
    return [
        opened,
        Finding(
            check="clock of the server",
            level="warning",
            found=f"it differs from that of this machine by {ahead_ms / 1_000:.0f} s",
            advice="Synchronize both with NTP. goscope uses that of the server for leases",
        ),
    ]
