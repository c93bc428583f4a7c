"""Memory and disk space of 10,000 cached entries."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path

from . import subjects
from .process import resident_memory, run_isolated
from .progress import log_progress
from .result import Footprint, Missing
from .size import Size
from .subject import Operation


def measure_footprints(folder: Path, size: Size) -> tuple[list[Footprint], list[Missing]]:
    """Fill each cache in a separate process."""
    log_progress("memory and disk of cached entries")
    found: list[Footprint] = []
    missing: list[Missing] = []
    for kind in subjects.CACHES:
        try:
            found.append(run_isolated(_fill, kind.name, folder / "footprint", size.keys))
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            missing.append(Missing(subject=kind.name, benchmark="footprint", reason=reason))
    return found, missing


def file_bytes(folder: Path) -> int:
    """Return the total size of all files below the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _fill(name: str, folder: Path, entries: int) -> Footprint:
    return asyncio.run(_fill_and_measure(name, folder, entries))


async def _fill_and_measure(name: str, folder: Path, entries: int) -> Footprint:
    subject = subjects.BY_NAME[name](folder, entries)
    await subject.open()
    try:
        put = subject.operations()["set"]
        await _put(put, range(1), subject.is_async)  # excludes what the first call imports
        gc.collect()
        before = resident_memory()
        await _put(put, range(entries), subject.is_async)
        gc.collect()
        memory = resident_memory() - before
    finally:
        await subject.close()
    return Footprint(
        subject=name,
        entries=entries,
        memory_bytes=memory,
        file_bytes=file_bytes(subject.folder),
    )


async def _put(put: Operation, numbers: Sequence[int], is_async: bool) -> None:
    for number in numbers:
        if is_async:
            await put(number)
        else:
            put(number)
