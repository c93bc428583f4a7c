"""The ticker measures how long callbacks block the event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from bench.ticker import Ticker

BLOCKED_S = 0.02


@pytest.mark.asyncio
async def test_a_blocked_loop_delays_a_tick() -> None:
    async with Ticker() as ticker:
        await asyncio.sleep(0.005)
        deadline = perf_counter() + BLOCKED_S
        while perf_counter() < deadline:
            pass
        await asyncio.sleep(0.005)
    # The tick was due within the first millisecond of the blocked time.
    assert max(ticker.lags_ms) >= (BLOCKED_S - 0.002) * 1000
    assert ticker.percentile_ms(0.0) < ticker.percentile_ms(1.0)


@pytest.mark.asyncio
async def test_the_ticker_stops_at_the_end_of_its_block() -> None:
    async with Ticker() as ticker:
        await asyncio.sleep(0.005)
    ticks = len(ticker.lags_ms)
    await asyncio.sleep(0.005)
    assert len(ticker.lags_ms) == ticks
    assert ticks > 0
