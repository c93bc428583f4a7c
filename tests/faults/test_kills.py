"""Processes are killed at any moment, and plain sqlite3 looks for what they were told."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sqlite3
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from goscope_sqlite import SQLiteAdapter

from .amounts import SEED, amount
from .conftest import Count
from .kill_checker import Note, Rows, notes_of, violations_of_all, violations_of_one
from .kill_worker import STORE, Worker, work

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the witness needs flock")

PROCESSES = 3
START_S = 60


class Workers:
    """Some processes on one store. Leaving the ``with`` block kills them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([work.__module__])
        self._running: dict[str, ForkServerProcess] = {}
        self._started = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.kill(name)

    def names(self) -> list[str]:
        return list(self._running)

    def start(self) -> str:
        """Start one process, and wait until it writes its log."""
        self._started += 1
        name = f"p{self._started}"
        process = self._context.Process(target=work, args=(str(self._folder), name, SEED))
        process.start()
        self._running[name] = process
        deadline = time.monotonic() + START_S
        while not self.log(name).exists():
            assert time.monotonic() < deadline, f"{name} did not start"
            time.sleep(0.001)
        return name

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.join()

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path, count: Count) -> None:
    rng = random.Random(SEED)
    rounds = amount(12, 2000)
    rows, notes = Rows(tmp_path), list[Note]()
    during: dict[str, int] = {"opens": 0, "closes": 0}

    def check(name: str) -> None:
        own = notes_of(workers.log(name))
        assert list(violations_of_one(rows, name, own)) == [], f"GOSCOPE_FAULT_SEED={SEED}"
        notes.extend(own)
        if own and own[-1].what in during:
            during[own[-1].what] += 1

    with Workers(tmp_path) as workers:
        for _ in range(PROCESSES):
            workers.start()
        for _ in range(rounds):
            time.sleep(rng.uniform(0.002, 0.08))
            name = rng.choice(workers.names())
            workers.kill(name)
            workers.start()
            check(name)
        remaining = workers.names()
    for name in remaining:
        check(name)
    assert list(violations_of_all(rows, notes)) == [], f"GOSCOPE_FAULT_SEED={SEED}"
    asyncio.run(_a_new_process_is_not_kept_waiting(tmp_path / STORE))
    count("SIGKILLs", rounds + len(remaining))
    count("SIGKILLs during an open", during["opens"])
    count("SIGKILLs during a close", during["closes"])
    count("acknowledged calls", sum(note.what.startswith("done-") for note in notes))


async def _a_new_process_is_not_kept_waiting(path: Path) -> None:
    """The holders are dead, so their leases can be taken at once."""
    async with SQLiteAdapter(path, locks="shared") as adapter:
        handle = await adapter.lock.acquire("lock", "1h")
        assert handle is not None, "the lock of a killed process is not free"
        await handle.release()


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("DELETE FROM go_goscope_cache WHERE key = 'cache:p.1'", "p.1 was acknowledged and is"),
        ("DELETE FROM go_goscope_cache_tags WHERE tag = 'a'", "p.1 is partial"),
        ("DELETE FROM go_goscope_cache WHERE key = 'cache:p.2:1'", "2 of the 3 entries of p.2"),
        ("DELETE FROM go_goscope_checkpoints", "the checkpoint p.3 was acknowledged"),
        ("DELETE FROM go_goscope_idempotency", "p.4: the result and the end of its lease"),
        ("UPDATE go_goscope_cache SET value = 0 WHERE key = 'cache:count'", "increment: 1 ack"),
        ("UPDATE go_goscope_circuit SET failure_count = 9", "fail: 1 acknowledged, 9 stored"),
    ],
)
def test_the_checker_finds_what_is_lost(tmp_path: Path, sql: str, finding: str) -> None:
    async def write() -> None:
        async with SQLiteAdapter(tmp_path / STORE) as it:
            worker = Worker(tmp_path, "p", SEED)
            await worker.set(it, "p.1", 1)
            await worker.set_many(it, "p.2", 2)
            await worker.save(it, "p.3", 3)
            await worker.complete(it, "p.4", 4)
            await worker.increment(it, "", 5)
            await worker.fail(it, "", 6)

    asyncio.run(write())
    rows, notes = Rows(tmp_path), notes_of(tmp_path / "p.log")
    assert [*violations_of_one(rows, "p", notes), *violations_of_all(rows, notes)] == []
    connection = sqlite3.connect(tmp_path / STORE, isolation_level=None)
    connection.execute(sql)
    connection.close()
    found = [*violations_of_one(rows, "p", notes), *violations_of_all(rows, notes)]
    assert any(each.startswith(finding) for each in found), found
