"""One scope and several event loops: docs/sharing-the-file.md."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope, ScopeNotOpen, TaskContext


async def one() -> int:
    return 1


async def task(context: TaskContext[Any]) -> int:
    return 1


async def in_block(gs: Scope) -> int:
    async with gs.lock("door"):
        return 1


CALLS: dict[str, Callable[[Scope], Awaitable[Any]]] = {
    "get": lambda gs: gs.cache.get("key"),
    "set": lambda gs: gs.cache.set("key", 1),
    "get_or_set": lambda gs: gs.cache.get_or_set("key", one),
    "lock": in_block,
    "try_acquire": lambda gs: gs.lock("door").try_acquire(),
    "circuit": lambda gs: gs.circuit_breaker("api").call(one),
    "task": lambda gs: gs.tasks.run("etl", task),
    "idempotent": lambda gs: gs.idempotency.run("key", one),
}


def run_in_thread(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in the event loop of another thread, and return its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(work())))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return results[0]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_scope_refuses_the_loop_of_another_thread(
    tmp_path: Path, kind: str, call: Callable[[Scope], Awaitable[Any]]
) -> None:
    options: dict[str, Any] = {"path": str(tmp_path / "app.db")} if kind == "sqlite" else {}
    gs = Scope(backend=kind, locks="shared", **options)

    async def refused() -> str:
        with pytest.raises(ScopeNotOpen) as caught:
            await call(gs)
        return str(caught.value)

    async def main() -> str:
        async with gs:
            message: str = await asyncio.to_thread(run_in_thread, refused)
            await call(gs)
            return message

    message = asyncio.run(main())
    assert "was opened in another event loop" in message
    assert "open a scope in each loop" in message
    assert "run_coroutine_threadsafe" in message


def test_a_call_can_be_passed_to_the_loop_of_the_scope() -> None:
    gs = Scope(backend="memory")

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with gs:
            return await asyncio.to_thread(
                lambda: asyncio.run_coroutine_threadsafe(in_block(gs), loop).result(30)
            )

    assert asyncio.run(main()) == 1


def test_each_thread_can_open_a_scope_on_one_file(tmp_path: Path) -> None:
    def scope() -> Scope:
        return Scope(backend="sqlite", path=tmp_path / "app.db", locks="shared")

    async def add() -> None:
        async with scope() as gs:
            for _ in range(20):
                async with gs.lock("counter", wait="30s"):
                    count = await gs.cache.get("count", 0)
                    await asyncio.sleep(0)
                    await gs.cache.set("count", count + 1)

    threads = [threading.Thread(target=lambda: asyncio.run(add())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    async def read() -> Any:
        async with scope() as gs:
            return await gs.cache.get("count")

    assert asyncio.run(read()) == 60


def test_a_loop_that_moves_to_another_thread_keeps_its_scope() -> None:
    loop = asyncio.new_event_loop()
    gs = Scope(backend="memory")
    try:
        loop.run_until_complete(gs.open())
        results: list[Any] = []
        thread = threading.Thread(
            target=lambda: results.append(loop.run_until_complete(in_block(gs)))
        )
        thread.start()
        thread.join(30)
        assert results == [1]
        loop.run_until_complete(gs.close())
    finally:
        loop.close()
