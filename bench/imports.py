"""How long imports take, beyond what asyncio has imported already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from .progress import say
from .result import Measured, Missing
from .size import Size

WORKLOAD: Final = "import, after asyncio"
BUDGET_SECONDS: Final = 0.030
"""For ``import goscope``."""

MODULES: Final = (
    "goscope",
    "goscope_sqlite",
    "goscope_bun_compat",
    "aiosqlite",
    "diskcache",
    "cashews",
    "aiocache",
    "filelock",
    "pybreaker",
    "purgatory",
    "aiobreaker",
    "langgraph.checkpoint.sqlite.aio",
)
_PROGRAM: Final = """
import asyncio, sys, time
began = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - began)
"""


def imports(folder: Path, size: Size) -> tuple[list[Measured], list[Missing]]:
    """Import each module in new processes; the first time writes bytecode and does not count."""
    say(WORKLOAD)
    # Compiled once like an installed package, whatever this process was told.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds: dict[str, list[float]] = {}
    missing: list[Missing] = []
    for turn in range(size.import_rounds + 1):
        for module in MODULES:
            if turn and module not in seconds:
                continue
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, module],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
            if done.returncode:
                reason = done.stderr.strip().rpartition("\n")[2]
                missing.append(Missing(contender=module, part=WORKLOAD, reason=reason))
                continue
            found = seconds.setdefault(module, [])
            if turn:
                found.append(float(done.stdout))
    return [
        Measured(workload=WORKLOAD, contender=module, limit="goscope", seconds=found)
        for module, found in seconds.items()
    ], missing
