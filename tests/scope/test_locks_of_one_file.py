"""In-memory locks: one process has one table of them for each file, in whatever event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from goscope import BackendUnavailable, LockProvider, Scope, ScopeNotOpen
from goscope.backend._lock_table import _tables
from goscope.memory import MemoryAdapter
from goscope.providers import SupportsWait
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .support import ticks

FILE_ADAPTERS: list[Any] = [SQLiteAdapter, BunSQLiteAdapter]


class Inside:
    """Counts who is inside a block, from any thread."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.entered = 0
        self._mutex = threading.Lock()

    async def enter(self, gs: Scope, key: str = "stock:42") -> None:
        async with gs.lock(key):
            with self._mutex:
                self.now += 1
                self.entered += 1
                self.most = max(self.most, self.now)
            await ticks()
            with self._mutex:
                self.now -= 1


@pytest.mark.asyncio
@pytest.mark.parametrize("adapter", FILE_ADAPTERS)
async def test_scopes_on_one_file_share_their_locks(tmp_path: Path, adapter: Any) -> None:
    inside = Inside()

    async def request() -> None:
        async with Scope(persistence=adapter(tmp_path / "app.db")) as gs:
            await inside.enter(gs)

    await asyncio.gather(*(request() for _ in range(4)))
    assert (inside.entered, inside.most) == (4, 1)


@pytest.mark.asyncio
async def test_a_file_is_one_by_any_path_and_for_any_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    adapters = [
        SQLiteAdapter("folder/app.db"),
        SQLiteAdapter(tmp_path / "folder" / "app.db"),
        SQLiteAdapter(tmp_path / "link" / "app.db"),
        BunSQLiteAdapter(tmp_path / "folder" / ".." / "folder" / "app.db"),
    ]
    for adapter in adapters:
        await adapter.connect()
    held = await adapters[0].lock.acquire("key")
    assert held is not None
    assert [await it.lock.acquire("key") for it in adapters] == [None] * 4
    assert (await adapters[3].lock.holder("key")).owner == held.owner  # type: ignore[union-attr]  # it is held
    await held.release()
    for adapter in adapters:
        taken = await adapter.lock.acquire("key")
        assert taken is not None
        await taken.release()
        await adapter.disconnect()


@pytest.mark.asyncio
async def test_other_files_prefixes_and_stores_in_memory_have_other_locks(tmp_path: Path) -> None:
    adapters: list[Any] = [
        SQLiteAdapter(tmp_path / "one.db"),
        SQLiteAdapter(tmp_path / "two.db"),
        SQLiteAdapter(tmp_path / "one.db", key_prefix="shop:"),
        SQLiteAdapter(":memory:"),
        SQLiteAdapter(":memory:"),
        MemoryAdapter(),
        MemoryAdapter(),
    ]
    for adapter in adapters:
        await adapter.connect()
        assert await adapter.lock.acquire("key") is not None
    for adapter in adapters:
        assert await adapter.lock.acquire("key") is None
        await adapter.disconnect()


@pytest.mark.asyncio
async def test_a_closed_adapter_leaves_its_locks_to_those_that_stay(tmp_path: Path) -> None:
    """As in the file: its block may still run, so its lock ends with its ttl."""
    async with SQLiteAdapter(tmp_path / "app.db") as stays:
        async with SQLiteAdapter(tmp_path / "app.db") as leaves:
            assert await leaves.lock.acquire("key", "1h") is not None
        assert await stays.lock.acquire("key") is None
    async with SQLiteAdapter(tmp_path / "app.db") as later:
        assert await later.lock.acquire("key") is not None


@pytest.mark.asyncio
async def test_no_table_outlives_the_adapters_of_its_file(tmp_path: Path) -> None:
    gc.collect()
    before = len(_tables)
    for number in range(20):
        async with SQLiteAdapter(tmp_path / f"{number}.db") as adapter:
            assert await adapter.lock.acquire("key") is not None
            assert len(_tables) == before + 1
    gc.collect()
    assert len(_tables) == before


def test_scopes_in_the_loops_of_several_threads_exclude_and_wake_one_another(
    tmp_path: Path,
) -> None:
    inside, rounds, threads = Inside(), 50, 4
    barrier = threading.Barrier(threads)
    failures: list[BaseException] = []

    async def work() -> None:
        async with Scope(backend="sqlite", path=str(tmp_path / "app.db")) as gs:
            await asyncio.to_thread(barrier.wait, 60)
            for _ in range(rounds):
                # The ttl is far longer than the test: a waiter that is not woken fails it.
                await asyncio.wait_for(inside.enter(gs), 25)

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as exc:
            failures.append(exc)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(100)
    assert failures == []
    assert (inside.entered, inside.most) == (threads * rounds, 1)


@pytest.mark.asyncio
async def test_scopes_on_one_file_take_turns(tmp_path: Path) -> None:
    """The scope that releases a lock, and wants it again at once, does not starve the others."""
    entered: list[int] = []

    async def enter_often(gs: Scope, number: int) -> None:
        for _ in range(20):
            async with gs.lock("key"):
                entered.append(number)
                await ticks()

    async with contextlib.AsyncExitStack() as stack:
        scopes = [Scope(persistence=SQLiteAdapter(tmp_path / "app.db")) for _ in range(3)]
        for gs in scopes:
            await stack.enter_async_context(gs)
        await asyncio.gather(*(enter_often(gs, number) for number, gs in enumerate(scopes)))
    contended = entered[3:30]
    assert all(len(set(contended[at : at + 3])) == 3 for at in range(0, 27, 3)), entered


@pytest.mark.asyncio
async def test_adapters_that_wait_again_at_once_take_turns(tmp_path: Path) -> None:
    """Before those that its release has woken up, as with eager tasks."""
    entered: list[int] = []

    async def enter_often(adapter: SQLiteAdapter, number: int) -> None:
        assert adapter.lock is not None
        for _ in range(20):
            while (handle := await adapter.lock.acquire("key")) is None:
                await wait_for_lock(adapter)
            entered.append(number)
            await ticks()
            await handle.release()

    async with contextlib.AsyncExitStack() as stack:
        adapters = [
            await stack.enter_async_context(SQLiteAdapter(tmp_path / "app.db")) for _ in range(3)
        ]
        await asyncio.gather(*(enter_often(it, number) for number, it in enumerate(adapters)))
    contended = entered[3:30]
    assert all(len(set(contended[at : at + 3])) == 3 for at in range(0, 27, 3)), entered


async def wait_for_lock(adapter: SQLiteAdapter) -> bool:
    assert isinstance(adapter.lock, SupportsWait)
    return await adapter.lock.wait_released("key")


@pytest.mark.asyncio
async def test_a_turn_that_nobody_takes_passes(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with SQLiteAdapter(path) as one, SQLiteAdapter(path) as two, SQLiteAdapter(path) as three:
        for leave in ("cancelled", "disconnected"):
            held = await one.lock.acquire("key", "1h")
            assert held is not None
            waiting = asyncio.create_task(wait_for_lock(two))
            later = asyncio.create_task(wait_for_lock(three))
            await ticks()
            await held.release()
            if leave == "cancelled":
                waiting.cancel()
            else:
                await two.disconnect()
            assert await asyncio.wait_for(later, 30)
            taken = await three.lock.acquire("key")
            assert taken is not None
            await taken.release()
            await asyncio.gather(waiting, return_exceptions=True)


def in_another_loop(work: Any) -> BaseException | None:
    """Run the coroutine in the loop of another thread; its error."""
    found: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as exc:
            found.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return found[0] if found else None


def scopes(tmp_path: Path) -> list[Scope]:
    return [
        Scope(persistence=MemoryAdapter()),
        Scope(persistence=MemoryAdapter(locks="shared")),
        Scope(persistence=SQLiteAdapter(tmp_path / "thread.db")),
        Scope(persistence=BunSQLiteAdapter(tmp_path / "loop.db")),
    ]


@pytest.mark.asyncio
async def test_a_scope_is_refused_in_a_second_loop(tmp_path: Path) -> None:
    for gs in scopes(tmp_path):
        async with gs:

            async def enter(gs: Scope = gs) -> None:
                async with gs.lock("key"):
                    pass

            uses = {
                "lock": enter,
                "get": lambda gs=gs: gs.cache.get("key"),
                "run": lambda gs=gs: gs.idempotency.run("key", ticks),
                "task": lambda gs=gs: gs.tasks.run("key", lambda task: ticks()),
                "provider": lambda gs=gs: locks_of(gs).acquire("key"),
            }
            for name, use in uses.items():
                found = await asyncio.to_thread(in_another_loop, use)
                refused = BackendUnavailable if name == "provider" else ScopeNotOpen
                assert isinstance(found, refused), (gs, name, found)
                assert "another event loop" in str(found)
            await enter()


def locks_of(gs: Scope) -> LockProvider:
    assert gs.persistence.lock is not None
    return gs.persistence.lock


def threads() -> set[threading.Thread]:
    """All but those that stay: the watcher of the exit, and those of `asyncio.to_thread`."""
    stay = ("goscope-sqlite-exit", "asyncio", "uvloop")
    return {it for it in threading.enumerate() if not it.name.startswith(stay)}


@pytest.mark.asyncio
async def test_a_refused_close_in_a_second_loop_leaves_the_scope_open(tmp_path: Path) -> None:
    for gs in scopes(tmp_path):
        before = threads()
        await gs.open()
        adapter = gs.persistence
        for close, refused in ((gs.close, ScopeNotOpen), (adapter.disconnect, BackendUnavailable)):
            found = await asyncio.to_thread(in_another_loop, close)
            assert isinstance(found, refused), (gs, close, found)
            assert gs.is_open
            assert adapter.is_connected
            await gs.cache.set("key", 1)
        await gs.close()
        assert not adapter.is_connected
        deadline = asyncio.get_running_loop().time() + 30
        while threads() - before:
            assert asyncio.get_running_loop().time() < deadline, threading.enumerate()
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_waiter_never_enters_a_lock_of_an_adapter_that_was_disconnected(
    tmp_path: Path,
) -> None:
    adapters: list[Any] = [
        MemoryAdapter(),
        MemoryAdapter(locks="shared"),
        SQLiteAdapter(tmp_path / "app.db"),
        SQLiteAdapter(tmp_path / "app.db", locks="shared"),
        BunSQLiteAdapter(tmp_path / "bun.db"),
    ]
    for adapter in adapters:
        await adapter.connect()
        entered = 0

        async def wait(gs: Scope) -> None:
            nonlocal entered
            async with gs.lock("key"):
                entered += 1

        async with Scope(persistence=adapter) as gs:
            await gs.lock("key", ttl="1h").acquire()
            waiting = [asyncio.create_task(wait(gs)) for _ in range(3)]
            await ticks()
            await adapter.disconnect()
            found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
            assert [type(it) for it in found] == [ScopeNotOpen] * 3
            assert entered == 0
