"""The calls of several processes seem to happen one after another."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import Any

import pytest

from goscope.providers import Checkpoint, LockHandle

from ..stress.event_log import Record, read_logs
from .amounts import SEED, amount
from .conftest import Count
from .history_worker import MomentaryObjects, Objects, call, work
from .linearizability import MODELS, Call, counter, is_linearizable, lock, once, register

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the logs need CLOCK_BOOTTIME")

PROCESSES = 3
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([work.__module__])

BUSY_LOG_BYTES = 8192
"""The log of a process that has made dozens of calls."""


def histories(
    records: list[Record], killed: Container[str] = ()
) -> dict[tuple[str, str], list[Call]]:
    """The calls on each object, by its kind and its key; some processes may have been killed."""
    begun: dict[tuple[str, int], Record] = {}
    held: set[tuple[str, str, Any]] = set()
    last: dict[str, int] = {}
    found: defaultdict[tuple[str, str], list[Call]] = defaultdict(list)
    for record in records:
        last[record.process] = record.t
        if record.phase == "begin":
            begun[record.process, record.id] = record
            continue
        begin = begun.pop((record.process, record.id))
        kind, _, name = record.kind.partition(".")
        found[kind, record.key].append(Call(begin.t, record.t, name, begin.value, record.value))
        if name == "acquire" and record.value is not None:
            held.add((record.process, record.key, record.value))
        elif name == "release":
            held.remove((record.process, record.key, begin.value))
    for begin in begun.values():
        assert begin.process in killed, "a call did not end"
        kind, _, name = begin.kind.partition(".")
        grant = f"grant of {begin.process}.{begin.id}" if name == "acquire" else None
        found[kind, begin.key].append(Call(begin.t, None, name, begin.value, grant))
        if grant is not None:
            held.add((begin.process, begin.key, grant))
    for process, key, grant in held:
        assert process in killed, "a lock was not released"
        # Others may get the lock after the death, which is later than what was logged.
        found["lock", key].append(Call(last[process], None, "release", grant, None))
    return found


def not_linearizable(folder: Path, killed: Container[str] = ()) -> tuple[set[str], int]:
    """The kinds of objects of whose calls some cannot be explained, and the number of calls."""
    found = histories(read_logs(folder), killed)
    bad = {kind for (kind, _), calls in found.items() if not is_linearizable(calls, *MODELS[kind])}
    return bad, sum(map(len, found.values()))


def test_calls_of_several_processes_are_linearizable(tmp_path: Path, count: Count) -> None:
    arguments = [(str(tmp_path), f"p{it}", SEED, amount(60, 15_000)) for it in range(PROCESSES)]
    processes = [CONTEXT.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(1500)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            process.kill()
            process.join()
    bad, calls = not_linearizable(tmp_path)
    assert not bad, f"GOSCOPE_FAULT_SEED={SEED}"
    count("calls that are linearizable", calls)


def kill_one_after_another(
    folder: Path, objects: type[Objects], processes: int, kills: int
) -> set[str]:
    """Run processes, each of which is killed and followed by another one; the names of all."""
    rng = random.Random(SEED)
    numbers = itertools.count()
    running: dict[str, Any] = {}
    killed: set[str] = set()

    def start() -> None:
        name = f"p{next(numbers)}"
        running[name] = CONTEXT.Process(target=work, args=(str(folder), name, SEED, 10**9, objects))
        running[name].start()

    def kill(name: str) -> None:
        log = folder / f"{name}.log"
        deadline = time.monotonic() + 60
        while not log.exists() or log.stat().st_size < BUSY_LOG_BYTES:
            assert time.monotonic() < deadline, "a process does not call"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        process = running.pop(name)
        process.kill()
        process.join()
        killed.add(name)

    try:
        for _ in range(processes):
            start()
        for _ in range(kills):
            kill(rng.choice(sorted(running)))
            start()
        for name in list(running):
            kill(name)
    finally:
        for process in running.values():
            process.kill()
            process.join()
    return killed


def test_calls_of_processes_that_are_killed_are_linearizable(tmp_path: Path, count: Count) -> None:
    killed = kill_one_after_another(tmp_path, MomentaryObjects, PROCESSES, amount(4, 600))
    bad, calls = not_linearizable(tmp_path, killed)
    assert not bad, f"GOSCOPE_FAULT_SEED={SEED}"
    count("calls of killed processes that are linearizable", calls)
    count("kills in these histories", len(killed))


class WriteBehind(Objects):
    """Writes counters after the answer, which nobody else could see if no process died."""

    def key(self) -> str:
        return "the same"

    async def increment(self, key: str) -> int:
        counts: dict[str, int] = self.gs.__dict__.setdefault("counts", {})
        if key not in counts:
            stored: int = await self.gs.cache.get(key, 0)
            counts.setdefault(key, stored)
        count = counts[key] = counts[key] + 1
        if count % 5 == 0:
            await self.gs.cache.set(key, count)
        return count


def test_a_planted_bug_that_only_kills_show_is_found(tmp_path: Path) -> None:
    async def run() -> None:
        await call(tmp_path, "alone", "1", 40, WriteBehind)

    asyncio.run(run())
    assert not_linearizable(tmp_path)[0] == set()
    folder = tmp_path / "killed"
    folder.mkdir()
    killed = kill_one_after_another(folder, WriteBehind, 1, 6)
    assert not_linearizable(folder, killed)[0] == {"counter"}


class StaleGet(Objects):
    """Reads from a copy of the empty store: with a later one a history may show nothing."""

    async def get(self, key: str) -> Any:
        return None


async def let_others_call() -> None:
    """Long enough for the other clients to call in between."""
    for _ in range(100):
        await asyncio.sleep(0)


class ReadThenIncrement(Objects):
    async def increment(self, key: str) -> int:
        count: int = await self.gs.cache.get(key, 0) + 1
        await let_others_call()
        await self.gs.cache.set(key, count)
        return count


class LookThenAcquire(Objects):
    async def acquire(self, key: str) -> LockHandle | None:
        locks = self.gs.persistence.lock
        assert locks is not None
        if await locks.holder(key) is not None:
            return None
        await let_others_call()
        await locks.force_release(key)
        return await super().acquire(key)


class SaveAnySequence(Objects):
    async def save(self, checkpoint: Checkpoint) -> bool:
        provider = self.gs.persistence.checkpoint
        assert provider is not None
        if not await super().save(checkpoint):
            await provider.delete_all(checkpoint.task_id)
            return await super().save(checkpoint)
        return True


class GetRunSet(Objects):
    async def run_once(self, key: str, execute: Callable[[], Awaitable[str]]) -> tuple[str, bool]:
        record = await self.gs.idempotency.get(key)
        if record is not None:
            return record.value, True
        value = await execute()
        await let_others_call()
        provider = self.gs.persistence.idempotency
        assert provider is not None
        await provider.set(key, value, "1h")
        return value, False


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (StaleGet, "register"),
        (ReadThenIncrement, "counter"),
        (LookThenAcquire, "lock"),
        (SaveAnySequence, "checkpoints"),
        (GetRunSet, "once"),
    ],
)
def test_a_planted_bug_is_found(tmp_path: Path, bug: type[Objects], kind: str) -> None:
    async def run() -> None:
        await asyncio.gather(*(call(tmp_path, f"p{it}", "1", 200, bug) for it in range(2)))

    asyncio.run(run())
    assert not_linearizable(tmp_path)[0] == {kind}


def test_the_order_of_calls_that_overlap_is_free() -> None:
    calls = [Call(1, 9, "set", "a", None), Call(2, 8, "set", "b", None)]
    assert is_linearizable([*calls, Call(10, 11, "get", None, "a")], register, None)
    assert is_linearizable([*calls, Call(10, 11, "get", None, "b")], register, None)
    assert is_linearizable([*calls, Call(3, 4, "get", None, None)], register, None)


def test_a_call_cannot_see_what_begins_after_it() -> None:
    calls = [Call(1, 2, "get", None, "a"), Call(3, 4, "set", "a", None)]
    assert not is_linearizable(calls, register, None)


def test_a_call_without_an_end_may_have_happened() -> None:
    pending = Call(1, None, "increment", None, None)
    assert is_linearizable([pending, Call(2, 3, "increment", None, 1)], counter, 0)
    assert is_linearizable([pending, Call(2, 3, "increment", None, 2)], counter, 0)
    assert not is_linearizable([pending, Call(2, 3, "increment", None, 3)], counter, 0)


def test_the_lock_of_a_killed_process_is_free_after_its_death() -> None:
    dies = [Call(1, 2, "acquire", None, 1), Call(5, None, "release", 1, None)]
    assert is_linearizable([*dies, Call(6, 7, "acquire", None, 2)], lock, (None, 0))
    assert not is_linearizable([*dies, Call(3, 4, "acquire", None, 2)], lock, (None, 0))


def test_a_grant_that_nobody_saw_excludes_others() -> None:
    unseen = [Call(1, None, "acquire", None, "grant"), Call(5, None, "release", "grant", None)]
    assert is_linearizable([*unseen, Call(2, 3, "acquire", None, None)], lock, (None, 0))
    assert not is_linearizable(
        [*unseen, Call(2, 3, "acquire", None, 1), Call(3, 4, "acquire", None, 2)], lock, (None, 0)
    )


def test_an_idempotent_call_that_was_killed_may_have_stored_its_result() -> None:
    pending = Call(1, None, "run", "a", None)
    assert is_linearizable([pending, Call(2, 3, "run", "b", ("a", True))], once, None)
    assert is_linearizable([pending, Call(2, 3, "run", "b", ("b", False))], once, None)
    assert not is_linearizable([pending, Call(2, 3, "run", "b", ("c", True))], once, None)


def test_two_holders_at_once_are_found() -> None:
    calls = [Call(1, 2, "acquire", None, 1), Call(3, 4, "acquire", None, 2)]
    assert not is_linearizable([*calls, Call(5, 6, "release", 1, None)], lock, (None, 0))
