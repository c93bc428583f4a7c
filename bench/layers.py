"""Where the time of one call goes: the same work with one layer more each time."""

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
from .progress import say
from .result import Measured
from .size import Size
from .sql import GET, SET
from .value import small

Layer: TypeAlias = Callable[[Sequence[int]], Awaitable[None]]
"""Makes the calls of those numbers, one after the other."""

KEYS: Final = 2_000
"""How many entries there are."""

CALLS_A_SECOND: Final = 1_000
ROUNDS: Final = 5
"""Calls for each second of a sample, so few that the log need not be moved meanwhile; and how many
rounds are made instead for each of the others."""

GETTING: Final = "get with sqlite, layer by layer"
SETTING: Final = "set with sqlite-bun, layer by layer"
WORKLOADS: Final = (GETTING, SETTING)
HOUR_MS: Final = 3_600_000
FOREVER: Final = 3_600.0

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


async def layers(folder: Path, size: Size) -> list[Measured]:
    """Measure both, on stores of their own in the folder."""
    say("layers of a get and of a set")
    found: list[Measured] = []
    async with goscope.Scope(persistence=SQLiteAdapter(folder / "layers-get.db")) as gs:
        await gs.cache.set_many({f"user:{number}": small(number) for number in range(KEYS)}, "1h")
        found += await _measure(GETTING, _getting(gs), gs, size)
    async with goscope.Scope(persistence=BunSQLiteAdapter(folder / "layers-set.db")) as gs:
        found += await _measure(SETTING, _setting(gs), gs, size)
    return found


async def _measure(
    workload: str, stack: Mapping[str, Layer], gs: goscope.Scope, size: Size
) -> list[Measured]:
    """Let the layers take turns; the first is what the others are compared with."""
    engine = Engine(gs.persistence)
    order = random.Random(1)
    calls = max(4, round(CALLS_A_SECOND * size.sample_seconds))
    seconds: dict[str, list[float]] = {name: [] for name in stack}
    first = 0
    for _ in range(ROUNDS * size.rounds):
        for name in order.sample(list(stack), len(stack)):
            numbers = range(first, first := first + calls)
            await engine.checkpoint()
            began = perf_counter()
            await stack[name](numbers)
            seconds[name].append((perf_counter() - began) / calls)
    lowest = next(iter(stack))
    return [
        Measured(workload=workload, contender=name, limit=lowest, seconds=each)
        for name, each in seconds.items()
    ]


def _getting(gs: goscope.Scope) -> Mapping[str, Layer]:
    adapter: Any = gs.persistence
    engine = Engine(adapter)
    execute = engine.in_loop_reader.cursor().execute

    def statement(number: int) -> None:
        key = f"cache:user:{number % KEYS}"
        _decode(execute(GET, (key, time.time())).fetchall()[0][0])

    def reading(read: Callable[..., Awaitable[Any]]) -> Layer:
        async def call(number: int) -> None:
            row = await read(GET, (f"cache:user:{number % KEYS}", time.time()))
            assert row is not None
            _decode(row[0])

        return _awaiting(call)

    return {
        "the statement, and decoding": _calling(statement),
        "+ the loop's turn, slow disks noticed": reading(engine.read_one_unchecked),
        "+ no other loop, no fork": reading(engine.read_one),
        "+ the provider: key, hits, corrupt text": _awaiting(
            lambda number: adapter.cache.get(f"user:{number % KEYS}")
        ),
        "+ the scope: open, observers": _awaiting(
            lambda number: gs.cache.get(f"user:{number % KEYS}")
        ),
    }


def _setting(gs: goscope.Scope) -> Mapping[str, Layer]:
    adapter: Any = gs.persistence
    engine = Engine(adapter)
    execute = engine.in_loop_writer.cursor().execute

    return {
        "encoding, and the statement": _calling(lambda number: execute(SET, _row(number))),
        "+ a future, errors that undo": _calling(lambda number: engine.run_alone(_set(number))),
        "+ a turn, the lock, the log": _awaiting(
            lambda number: engine.submit_autocommit(_set(number))
        ),
        "+ the provider: key, ttl, JSON for all, tags": _awaiting(
            lambda number: adapter.cache.set(f"user:{number % KEYS}", small(number), HOUR_MS)
        ),
        "+ the scope: open, units": _awaiting(
            lambda number: gs.cache.set(f"user:{number % KEYS}", small(number), "1h")
        ),
    }


def _calling(call: Callable[[int], object]) -> Layer:
    async def layer(numbers: Sequence[int]) -> None:
        for number in numbers:
            call(number)

    return layer


def _awaiting(call: Callable[[int], Awaitable[object]]) -> Layer:
    async def layer(numbers: Sequence[int]) -> None:
        for number in numbers:
            await call(number)

    return layer


def _row(number: int) -> tuple[str, str, float, int]:
    now = time.time()
    return f"cache:user:{number % KEYS}", _encode(small(number)).decode(), now + FOREVER, int(now)


def _set(number: int) -> Callable[[sqlite3.Connection], Any]:
    row = _row(number)
    return lambda connection: connection.execute(SET, row).fetchall()
