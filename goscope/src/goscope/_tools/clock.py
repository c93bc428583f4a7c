"""The two clocks that goscope uses, behind one seam.

Wall time dates records and the expiry of cache entries. Leases run on a clock that nobody can set
and that counts suspend.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, runtime_checkable

UNKNOWN_BOOT: Final = "unknown"
"""The boot id where the system does not tell it: it may be that of any other."""

_INITIAL_TIME_NAMESPACE: Final = "time:[4026531834]"
"""The name of the namespace that Linux starts with, PROC_TIME_INIT_INO in its source."""


class Clock(Protocol):
    """Where time comes from. Tests pass one that they advance themselves."""

    @property
    def boot_id(self) -> str:
        """Identifies the boot, or `UNKNOWN_BOOT`; see `is_another_boot`."""
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


@runtime_checkable
class PreciseClock(Protocol):
    """What a clock may have besides: steady time with fractions, for the durations of events.

    A separate Protocol, since no clock needs it: without it a duration is whole milliseconds.
    """

    def precise_ms(self) -> float:
        """As ``steady_ms``, with fractions of a millisecond."""
        ...


def stopwatch(clock: Clock) -> Callable[[], float]:
    """A function that returns the clock's steady time in milliseconds, as precise as it can be."""
    return clock.precise_ms if isinstance(clock, PreciseClock) else clock.steady_ms


def is_another_boot(boot_id: str, other: str) -> bool:
    """Whether the ids are certainly those of two boots, whose steady times cannot be compared."""
    return boot_id != other and UNKNOWN_BOOT not in (boot_id, other)


def _namespace_offset_ns() -> int:
    """How many nanoseconds the time namespace of this process adds to CLOCK_BOOTTIME."""
    try:
        if os.readlink("/proc/self/ns/time") == _INITIAL_TIME_NAMESPACE:
            return 0
        with open("/proc/self/timens_offsets") as file:
            offsets = [line.split() for line in file]
    except OSError:  # there are no time namespaces
        return 0
    return sum(
        int(seconds) * 1_000_000_000 + int(nanoseconds)
        for clock, seconds, nanoseconds in offsets
        if clock in ("boottime", "7")  # Linux 5.6 writes the number
    )


_OFFSET_NS: Final = _namespace_offset_ns()
"""Subtracted from each time, since processes of other time namespaces compare it with theirs."""


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
            return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - _OFFSET_NS) // 1_000_000

        def precise_ms(self) -> float:
            return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 - _OFFSET_NS / 1_000_000
    else:

        def steady_ms(self) -> int:
            return time.monotonic_ns() // 1_000_000

        def precise_ms(self) -> float:
            return time.monotonic() * 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_boot_id = ""


def boot_id() -> str:
    """Identify this boot of the machine; `UNKNOWN_BOOT` where the system does not tell.

    Asked again each time until it is known: it may be that only a file descriptor was missing.
    """
    global _boot_id
    _boot_id = _boot_id or _read_boot_id()
    return _boot_id or UNKNOWN_BOOT


def _read_boot_id() -> str:
    """The boot id, "" if it cannot be read."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "kern.bootsessionuuid"]
            done = subprocess.run(  # noqa: S603  # a constant command
                command, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except (OSError, subprocess.SubprocessError):
        return ""
