"""SystemClock: the machine's clocks, in milliseconds and seconds."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from goscope.backend import SystemClock


def test_wall_time_is_epoch_milliseconds() -> None:
    before = int(time.time() * 1000)
    now = SystemClock().wall_ms()
    assert before - 1 <= now <= time.time() * 1000


def test_steady_time_counts_milliseconds_and_does_not_go_back() -> None:
    clock, before = SystemClock(), time.monotonic()
    start = clock.steady_ms()
    time.sleep(0.02)
    passed = clock.steady_ms() - start
    assert 15 <= passed <= (time.monotonic() - before) * 1000 + 5


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has CLOCK_BOOTTIME")
def test_steady_time_counts_suspend_where_the_system_can() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = SystemClock().steady_ms()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before // 1_000_000 <= now <= after // 1_000_000


def test_processes_of_one_boot_have_its_id_and_one_steady_clock() -> None:
    """They compare each other's steady times."""
    code = "from goscope.backend import SystemClock as C; c = C(); print(c.boot_id, c.steady_ms())"
    before = SystemClock().steady_ms()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    boot_id, steady = done.stdout.split()
    assert boot_id == SystemClock().boot_id != ""
    assert before <= int(steady) <= SystemClock().steady_ms()


@pytest.mark.asyncio
async def test_sleep_takes_seconds() -> None:
    start = time.monotonic()
    await SystemClock().sleep(0.02)
    assert 0.015 < time.monotonic() - start < 15
