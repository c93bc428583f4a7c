"""Import time of modules in a process that has already imported asyncio."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from .progress import log_progress
from .result import Measurement, Missing
from .size import Size

WORKLOAD: Final = "import, after asyncio"
BUDGET_S: Final = 0.030
"""Budget of ``import goscope``."""

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
started = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - started)
"""


def measure_imports(folder: Path, size: Size) -> tuple[list[Measurement], list[Missing]]:
    """Import each module in new processes; the first import only writes bytecode."""
    log_progress(WORKLOAD)
    # Installed packages have bytecode, so write it here whatever the environment says.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds: dict[str, list[float]] = {}
    missing: list[Missing] = []
    for round_number in range(size.import_rounds + 1):
        for module in MODULES:
            if round_number and module not in seconds:
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
                missing.append(Missing(subject=module, benchmark=WORKLOAD, reason=reason))
                continue
            samples = seconds.setdefault(module, [])
            if round_number:
                samples.append(float(done.stdout))
    return [
        Measurement(workload=WORKLOAD, subject=module, baseline="goscope", seconds=samples)
        for module, samples in seconds.items()
    ], missing
