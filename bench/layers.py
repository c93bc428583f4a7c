"""Time per layer: the same call, measured again with each layer that goscope adds."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

import msgspec

import goscope
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .internals import Engine
from .progress import log_progress
from .result import Measurement
from .size import Size
from .sql import GET, SET
from .values import small

Layer: TypeAlias = Callable[[Sequence[int]], Awaitable[None]]
"""Makes one call per number, sequentially."""

KEYS: Final = 2_000
"""Entries of each store."""

CALLS_PER_SECOND: Final = 1_000
"""Calls per second of sample time, few enough that no sample needs a WAL checkpoint."""

ROUNDS_FACTOR: Final = 5
"""More rounds than other workloads have make up for the short samples."""

GET_LAYERS: Final = "get with sqlite, layer by layer"
SET_LAYERS: Final = "set with sqlite-bun, layer by layer"
WORKLOADS: Final = (GET_LAYERS, SET_LAYERS)
HOUR_MS: Final = 3_600_000
HOUR_S: Final = 3_600.0

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


async def measure_layers(folder: Path, size: Size) -> list[Measurement]:
    """Measure the layers of a get and of a set, each on a new store in the folder."""
    log_progress("layers of get and set")
    found: list[Measurement] = []
    async with goscope.Scope(persistence=SQLiteAdapter(folder / "layers-get.db")) as gs:
        await gs.cache.set_many({f"user:{number}": small(number) for number in range(KEYS)}, "1h")
        found += await _measure(GET_LAYERS, _get_layers(gs), gs, size)
    async with goscope.Scope(persistence=BunSQLiteAdapter(folder / "layers-set.db")) as gs:
        found += await _measure(SET_LAYERS, _set_layers(gs), gs, size)
    return found


async def _measure(
    workload: str, stack: Mapping[str, Layer], gs: goscope.Scope, size: Size
) -> list[Measurement]:
    """Measure the layers in random order in each round; the first layer is the baseline."""
    engine = Engine(gs.persistence)
    order = random.Random(1)
    calls = max(4, round(CALLS_PER_SECOND * size.sample_seconds))
    seconds: dict[str, list[float]] = {name: [] for name in stack}
    first = 0
    for _ in range(ROUNDS_FACTOR * size.rounds):
        for name in order.sample(list(stack), len(stack)):
            numbers = range(first, first := first + calls)
            await engine.checkpoint()
            started = perf_counter()
            await stack[name](numbers)
            seconds[name].append((perf_counter() - started) / calls)
    baseline = next(iter(stack))
    return [
        Measurement(workload=workload, subject=name, baseline=baseline, seconds=each)
        for name, each in seconds.items()
    ]


def _get_layers(gs: goscope.Scope) -> Mapping[str, Layer]:
    adapter: Any = gs.persistence
    engine = Engine(adapter)
    execute = engine.connection.cursor().execute

    def statement(number: int) -> None:
        key = f"cache:user:{number % KEYS}"
        _decode(execute(GET, (key, time.time())).fetchall()[0][0])

    def reading(read: Callable[..., Awaitable[Any]]) -> Layer:
        async def call(number: int) -> None:
            row = await read(GET, (f"cache:user:{number % KEYS}", time.time()))
            assert row is not None
            _decode(row[0])

        return _async_layer(call)

    return {
        "statement and decoding": _sync_layer(statement),
        "+ loop budget, slow-disk detection": reading(engine.read_one_unchecked),
        "+ check for another loop or a fork": reading(engine.read_one),
        "+ provider: key, hit count, corrupt text": _async_layer(
            lambda number: adapter.cache.get(f"user:{number % KEYS}")
        ),
        "+ scope: open check, observers": _async_layer(
            lambda number: gs.cache.get(f"user:{number % KEYS}")
        ),
    }


def _set_layers(gs: goscope.Scope) -> Mapping[str, Layer]:
    adapter: Any = gs.persistence
    engine = Engine(adapter)
    execute = engine.connection.cursor().execute
    return {
        "encoding and statement": _sync_layer(lambda number: execute(SET, _row(number))),
        "+ future, loop budget, busy retry, checks of the file": _async_layer(
            lambda number: engine.submit_autocommit(_set(number))
        ),
        "+ provider: key, ttl, tags": _async_layer(
            lambda number: adapter.cache.set(f"user:{number % KEYS}", small(number), HOUR_MS)
        ),
        "+ scope: open check, duration": _async_layer(
            lambda number: gs.cache.set(f"user:{number % KEYS}", small(number), "1h")
        ),
    }


def _sync_layer(call: Callable[[int], object]) -> Layer:
    async def layer(numbers: Sequence[int]) -> None:
        for number in numbers:
            call(number)

    return layer


def _async_layer(call: Callable[[int], Awaitable[object]]) -> Layer:
    async def layer(numbers: Sequence[int]) -> None:
        for number in numbers:
            await call(number)

    return layer


def _row(number: int) -> tuple[str, str, float, int]:
    now = time.time()
    return f"cache:user:{number % KEYS}", _encode(small(number)).decode(), now + HOUR_S, int(now)


def _set(number: int) -> Callable[[sqlite3.Connection], Any]:
    row = _row(number)
    return lambda connection: connection.execute(SET, row).fetchall()
