"""The two clocks that goscope uses, behind one seam.

Wall time dates records and the expiry of cache entries. Leases run on a clock that nobody can set
and that counts suspend.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable
from functools import cache
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Tests pass one that they advance themselves."""

    @property
    def boot_id(self) -> str:
        """Identifies the boot; steady times of different boots cannot be compared."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; may be set forward or back at any time."""
        ...

    def steady_ms(self) -> int:
        """Milliseconds since some moment of this boot. Nobody can set it; it counts suspend."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Return an awaitable that finishes ``seconds`` later."""
        ...


class SystemClock:
    """The machine's clocks."""

    @property
    def boot_id(self) -> str:
        return boot_id()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # CLOCK_BOOTTIME counts suspend, which CLOCK_MONOTONIC on Linux does not.
    if hasattr(time, "CLOCK_BOOTTIME"):

        def steady_ms(self) -> int:
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    else:

        def steady_ms(self) -> int:
            return time.monotonic_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@cache
def boot_id() -> str:
    """Identify this boot of the machine; "unknown" where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        pass
    try:  # macOS
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
