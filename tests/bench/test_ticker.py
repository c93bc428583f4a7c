"""The ticker sees who keeps the loop."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from bench.ticker import Ticker

KEPT = 0.02


@pytest.mark.asyncio
async def test_a_kept_loop_makes_it_late() -> None:
    async with Ticker() as ticker:
        await asyncio.sleep(0.005)
        until = perf_counter() + KEPT
        while perf_counter() < until:
            pass
        await asyncio.sleep(0.005)
    # The tick was due within the first of those milliseconds.
    assert max(ticker.late) >= (KEPT - 0.002) * 1000
    assert ticker.share(0.0) < ticker.share(1.0)


@pytest.mark.asyncio
async def test_it_ends_with_its_block() -> None:
    async with Ticker() as ticker:
        await asyncio.sleep(0.005)
    ticks = len(ticker.late)
    await asyncio.sleep(0.005)
    assert len(ticker.late) == ticks
    assert ticks > 0
