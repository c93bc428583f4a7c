# pyright: strict
"""What type checkers must reject: every line marked `# wrong`, and no other line.

Checked by test_api.py, never run.
"""

from __future__ import annotations

from goscope import Scope, TaskContext
from goscope.memory import MemoryAdapter
from goscope.providers import (
    CacheProvider,
    Checkpoint,
    CircuitBreakerState,
    CircuitBreakerStateProvider,
    LockHandle,
    LockProvider,
    PersistenceAdapter,
)


async def lookups_may_find_nothing(cache: CacheProvider) -> None:
    count: int = await cache.get("count", type=int)  # wrong
    name: int | None = await cache.get("name", type=str)  # wrong


async def keys_are_strings(cache: CacheProvider, lock: LockProvider) -> None:
    await cache.get(1)  # wrong
    await lock.acquire(b"stock:42")  # wrong


async def options_are_keywords(cache: CacheProvider, handle: LockHandle) -> None:
    await cache.set("key", 1, "5m", ["tag"])  # wrong
    await cache.add("key", 1, "5m", handle)  # wrong


async def a_lock_may_be_held(lock: LockProvider) -> None:
    handle = await lock.acquire("stock:42")
    await handle.release()  # wrong


async def circuits_have_three_states(circuit: CircuitBreakerStateProvider) -> None:
    await circuit.set_state("api", CircuitBreakerState(state="ajar"))  # wrong


def records_and_handles_are_read_only(handle: LockHandle, checkpoint: Checkpoint) -> None:
    handle.key = "other"  # wrong
    checkpoint.sequence = 2  # wrong


async def an_adapter_may_lack_a_provider(adapter: PersistenceAdapter) -> None:
    await adapter.cache.get("key")  # wrong


def locks_are_in_memory_or_shared() -> None:
    MemoryAdapter(locks="redis")  # wrong


gs = Scope(backend="memory")


@gs.cached("5m")
async def cached(user_id: int) -> str:
    raise NotImplementedError


async def decorated_functions_keep_their_parameters() -> None:
    await cached("7")  # wrong
    await cached.refresh()  # wrong
    name: int = await cached(7)  # wrong


def durations_of_a_scope_have_units() -> None:
    gs.lock("stock:42", ttl=30)  # wrong
    gs.cached(300)  # wrong
    gs.circuit_breaker("api", reset_timeout=30)  # wrong


def failures_are_types_or_a_function() -> None:
    gs.circuit_breaker("api", on="OSError")  # wrong
    gs.circuit_breaker("api", on=[OSError])  # wrong


def a_cached_function_is_a_coroutine_function() -> None:
    @gs.cached("5m")  # wrong
    def plain(user_id: int) -> str:
        raise NotImplementedError


class Service:
    @gs.idempotent("charge:{order_id}")
    async def charge(self, order_id: str) -> int:
        raise NotImplementedError

    @gs.resumable("etl:{path}", type=list[int])
    async def etl(self, task: TaskContext[list[int]], path: str) -> int:
        raise NotImplementedError


async def decorated_methods_keep_their_parameters(service: Service) -> None:
    await service.charge(7)  # wrong
    await service.etl()  # wrong
    name: str = await service.charge("7")  # wrong


async def count(task: TaskContext[int]) -> int:
    raise NotImplementedError


async def a_task_has_the_type_it_is_run_with() -> None:
    await gs.tasks.run("count", count, type=str)  # wrong


async def another(task: TaskContext[str]) -> None:
    raise NotImplementedError


async def on_resume_takes_the_task_of_the_run() -> None:
    await gs.tasks.run("count", count, type=int, on_resume=another)  # wrong


async def an_idempotent_call_returns_the_requested_type() -> None:
    name: str = await gs.idempotency.run("key", lambda: cached(7), type=int)  # wrong
