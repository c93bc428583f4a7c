"""How long bare sqlite3 takes for a write, alone and between other Python code.

Every awaited call runs some tens of microseconds of Python before and after its SQL, which push
SQLite's code and data out of the processor's caches. No baseline of a tight loop shows that.

    python -m bench.interleaving
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import tempfile
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final

from .subjects.baseline import Baseline

KEYS: Final = 10_000
WRITES: Final = 3_000
ROUNDS: Final = 8
LOOPS: Final = (0, 1, 2, 4)
"""How often the other code runs between two writes."""


def other_code() -> None:
    """Some tens of microseconds of Python that has nothing to do with SQLite."""
    text = json.dumps({"a": [1, 2, 3], "b": "c" * 50})
    found = json.loads(re.sub("a", "b", text))
    for number in range(30):
        found[str(number)] = number
    sorted(found, reverse=True)


async def measure(folder: Path) -> None:
    """Print medians over all rounds, for each number of loops."""
    subject = Baseline(folder, KEYS)
    await subject.open()
    numbers = count()
    for _ in range(KEYS):
        subject.set(next(numbers))
    writes: dict[int, list[float]] = {loops: [] for loops in LOOPS}
    others: dict[int, list[float]] = {loops: [] for loops in LOOPS}
    for loops in LOOPS * ROUNDS:  # in turns, so that the machine's load affects all
        for _ in range(WRITES):
            started = perf_counter()
            for _ in range(loops):
                other_code()
            between = perf_counter()
            subject.set(next(numbers))
            writes[loops].append(perf_counter() - between)
            others[loops].append(between - started)
    await subject.close()
    for loops in LOOPS:
        low, median, high = (1e6 * it for it in statistics.quantiles(writes[loops], n=4))
        other_us = 1e6 * statistics.median(others[loops])
        print(
            f"{median:5.1f} us a write ({low:.1f} to {high:.1f}) after {other_us:5.1f} us of "
            f"other code"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name)))
