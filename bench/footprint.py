"""What 10,000 cached entries take: memory and disk."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path

from . import contenders
from .contender import Operation
from .process import isolated, memory_in_use
from .progress import say
from .result import Footprint, Missing
from .size import Size


def footprints(folder: Path, size: Size) -> tuple[list[Footprint], list[Missing]]:
    """Fill each cache in a process of its own."""
    say("memory and disk of cached entries")
    found: list[Footprint] = []
    missing: list[Missing] = []
    for kind in contenders.CACHES:
        try:
            found.append(isolated(_fill, kind.name, folder / "footprint", size.keys))
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            missing.append(Missing(contender=kind.name, part="footprint", reason=reason))
    return found, missing


def bytes_below(folder: Path) -> int:
    """Return the size of all files below the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _fill(name: str, folder: Path, entries: int) -> Footprint:
    return asyncio.run(_fill_and_measure(name, folder, entries))


async def _fill_and_measure(name: str, folder: Path, entries: int) -> Footprint:
    contender = contenders.BY_NAME[name](folder, entries)
    await contender.open()
    try:
        put = contender.operations()["set"]
        await _put(put, range(1), contender.awaits)  # what the first call imports is not counted
        gc.collect()
        before = memory_in_use()
        await _put(put, range(entries), contender.awaits)
        gc.collect()
        memory = memory_in_use() - before
    finally:
        await contender.close()
    files = bytes_below(contender.folder)
    return Footprint(contender=name, entries=entries, memory=memory, files=files)


async def _put(put: Operation, numbers: Sequence[int], awaits: bool) -> None:
    for number in numbers:
        if awaits:
            await put(number)
        else:
            put(number)
