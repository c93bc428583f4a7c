# pyright: strict
"""The types of the public API as its users meet them. Checked by test_api.py, never run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_type

from goscope import (
    MISSING,
    CircuitBreaker,
    IdempotentResult,
    Outcome,
    ResultNotStored,
    Scope,
    TaskContext,
    escape_pattern,
)
from goscope.memory import MemoryAdapter
from goscope.providers import (
    CacheEntry,
    CacheProvider,
    Checkpoint,
    CheckpointProvider,
    CircuitBreakerState,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    IdempotencyRecord,
    LockHandle,
    LockHolder,
    LockProvider,
    PersistenceAdapter,
)


@dataclass
class User:
    name: str


async def a_typed_lookup_has_the_type_or_the_default(cache: CacheProvider) -> None:
    assert_type(await cache.get("user:1", type=User), User | None)
    assert_type(await cache.get("user:1", "nobody", type=User), User | str)
    assert_type(await cache.get("users", type=list[User]), list[User] | None)


async def missing_is_distinct_from_none(cache: CacheProvider) -> None:
    user = await cache.get("user:1", MISSING, type=User)
    if user is MISSING:
        return
    assert_type(user, User)


async def the_other_cache_methods(cache: CacheProvider, fence: LockHandle) -> None:
    assert_type(await cache.add("key", 1, "5m", fence=fence), bool)
    assert_type(await cache.increment("hits", 2), int)
    assert_type(await cache.keys("user:*"), Sequence[str])
    assert_type(await cache.get_entry("key"), CacheEntry | None)
    async for key in cache.scan():
        assert_type(key, str)


async def locks(lock: LockProvider) -> None:
    handle = await lock.acquire("stock:42", ttl=30_000)
    if handle is not None:
        assert_type(handle.fencing_token, int | None)
        assert_type(await handle.extend("30s"), bool)
    assert_type(await lock.holder("stock:42"), LockHolder | None)


async def states(
    circuit: CircuitBreakerStateProvider,
    checkpoint: CheckpointProvider,
    idempotency: IdempotencyProvider,
) -> None:
    assert_type(await circuit.get_state("api"), CircuitBreakerState | None)
    assert_type(await circuit.record_failure("api", 5), int)
    assert_type(await checkpoint.load_latest("etl"), Checkpoint | None)
    assert_type(await idempotency.get("charge:7"), IdempotencyRecord | None)


def the_memory_adapter_fulfils_the_protocol() -> PersistenceAdapter:
    return MemoryAdapter(key_prefix="shop:", default_lock_ttl="10s")


gs = Scope(backend="memory")


async def load(user_id: int) -> User:
    raise NotImplementedError


@gs.cached("5m", key="user:{user_id}", tags=["users"])
async def cached(user_id: int) -> User:
    raise NotImplementedError


async def a_cached_function_keeps_its_signature() -> None:
    assert_type(await cached(7), User)
    assert_type(await cached.refresh(user_id=7), User)
    assert_type(await cached.invalidate(7), bool)
    assert_type(cached.key(7), str)


class Repository:
    @gs.cached("5m", key="repository:{user_id}")
    async def user(self, user_id: int) -> User:
        raise NotImplementedError


async def a_cached_method_is_bound(repository: Repository) -> None:
    assert_type(await repository.user(7), User)
    assert_type(await repository.user.invalidate(7), bool)
    assert_type(await repository.user.refresh(user_id=7), User)
    assert_type(repository.user.key(7), str)


async def the_cache_of_a_scope_is_typed_as_the_providers() -> None:
    assert_type(await gs.cache.get("user:7", type=User), User | None)
    assert_type(await gs.cache.get("user:7", "nobody", type=User), User | str)
    assert_type(await gs.cache.get("users", type=list[User]), list[User] | None)
    user = await gs.cache.get("user:7", MISSING, type=User)
    if user is not MISSING:
        assert_type(user, User)


def plain(user_id: int) -> User:
    raise NotImplementedError


async def plain_functions_give_their_value() -> None:
    assert_type(await gs.cache.get_or_set("user:7", lambda: plain(7), ttl="5m"), User)
    assert_type(await gs.cache.get_or_set("user:7", lambda: {"name": "a"}, type=User), User)
    assert_type(await gs.idempotency.run("user:7", lambda: plain(7)), User)
    assert_type(await gs.circuit_breaker("api").call(lambda: plain(7)), User)
    assert_type(await gs.tasks.run("count", lambda task: 7), int)


def user_key(user_id: int) -> str:
    return f"user:{user_id}"


@gs.cached(lambda user: "1h", key=user_key, when=lambda user: True)
async def cached_by_functions(user_id: int) -> User:
    raise NotImplementedError


@gs.idempotent(user_key, ttl=lambda user: None, fingerprint=["user_id"])
async def idempotent_by_functions(user_id: int) -> User:
    raise NotImplementedError


async def options_may_be_functions() -> None:
    assert_type(await cached_by_functions(7), User)
    assert_type(cached_by_functions.key(user_id=7), str)
    assert_type(await idempotent_by_functions(7), User)
    assert_type(escape_pattern("*"), str)


async def what_could_not_be_stored_is_known(key: str) -> None:
    try:
        await gs.idempotency.run(key, lambda: plain(7))
    except ResultNotStored as exc:
        assert_type(exc.reason, str)


async def get_or_set_returns_the_factorys_type_or_the_requested_one() -> None:
    assert_type(await gs.cache.get_or_set("user:7", lambda: load(7), ttl="5m"), User)
    assert_type(await gs.cache.get_or_set("user:7", lambda: load(7), type=User), User)
    strict = gs.cache.get_or_set("user:7", lambda: load(7), on_store_error="raise")
    assert_type(await strict, User)


async def locks_of_a_scope() -> None:
    async with gs.lock("stock:42", ttl="30s", wait=0) as handle:
        assert_type(handle, LockHandle)
        await gs.cache.set("stock:42", 1, fence=handle)
    assert_type(await gs.lock("stock:42").try_acquire(), LockHandle | None)


async def circuit_breakers() -> None:
    breaker = gs.circuit_breaker("api", on=(OSError, TimeoutError))
    assert_type(breaker, CircuitBreaker)
    assert_type(await breaker.call(lambda: load(7)), User)
    guarded = breaker(load)
    assert_type(await guarded(user_id=7), User)
    async with breaker as call:
        call.fail()
    gs.circuit_breaker("by-type", on=OSError)
    gs.circuit_breaker("by-function", on=lambda exc: isinstance(exc, OSError))


breaker = gs.circuit_breaker("api")


class Service:
    @breaker
    async def fetch(self, user_id: int, *, fresh: bool = False) -> User:
        raise NotImplementedError

    @gs.idempotent("fetch:{user_id}")
    async def fetch_once(self, user_id: int) -> User:
        raise NotImplementedError

    @gs.cached("5m", key="{user_id}")
    @breaker
    async def cached_around_breaker(self, user_id: int) -> User:
        raise NotImplementedError

    @breaker
    @gs.cached("5m", key="{user_id}")
    async def breaker_around_cached(self, user_id: int) -> User:
        raise NotImplementedError


async def decorated_methods_are_bound(service: Service) -> None:
    assert_type(await service.fetch(7, fresh=True), User)
    assert_type(await service.fetch_once(user_id=7), User)
    assert_type(await service.cached_around_breaker(7), User)
    assert_type(await service.breaker_around_cached(7), User)


@dataclass
class Progress:
    done: int = 0


@gs.resumable("etl:{path}", type=Progress)
async def etl(task: TaskContext[Progress], path: str) -> int:
    assert_type(task.checkpoint.data, Progress | None)
    await task.checkpoint.save(Progress(1), progress=50)
    return 1


@gs.resumable("import:{path}")
async def import_(task: TaskContext[dict[str, int]], path: str) -> None:
    assert_type(task.checkpoint.data, dict[str, int] | None)


class Importer:
    @gs.resumable("etl:{path}", type=Progress)
    async def etl(self, task: TaskContext[Progress], path: str, *, limit: int = 0) -> int:
        raise NotImplementedError

    @gs.resumable("import:{path}")
    async def import_(self, task: TaskContext[dict[str, int]], path: str) -> None:
        raise NotImplementedError


@gs.idempotent("charge:{order_id}")
async def charge(order_id: str) -> int:
    raise NotImplementedError


async def count(task: TaskContext[Progress]) -> int:
    raise NotImplementedError


async def resumed(task: TaskContext[Progress]) -> None:
    assert_type(task.checkpoint.data, Progress | None)


@gs.resumable("etl:{path}", type=Progress, on_resume=resumed)
async def reports_resumption(task: TaskContext[Progress], path: str) -> int:
    raise NotImplementedError


async def on_resume_is_a_function_of_the_task(resumed_from: list[Progress | None]) -> None:
    assert_type(await reports_resumption("a.csv"), int)
    assert_type(await gs.tasks.run("count", count, type=Progress, on_resume=resumed), int)
    assert_type(await gs.tasks.run("count", count, on_resume=lambda task: task.id), int)
    await gs.tasks.run(
        "count",
        count,
        type=Progress,
        on_resume=lambda task: resumed_from.append(task.checkpoint.data),
    )


async def tasks(importer: Importer) -> None:
    assert_type(await etl("a.csv"), int)
    assert_type(await import_("a.csv"), None)
    assert_type(await importer.etl("a.csv", limit=7), int)
    assert_type(await importer.import_(path="a.csv"), None)
    assert_type(await gs.tasks.run("count", count, type=Progress), int)
    assert_type(await gs.tasks.run("count", count, max_checkpoints=1, wait=0), int)
    assert_type(await gs.tasks.run("count", lambda task: count(task), type=Progress), int)


async def idempotent_calls() -> None:
    assert_type(await charge(order_id="7"), int)
    assert_type(await gs.idempotency.run("greet:7", lambda: load(7), wait=0), User)
    assert_type(await gs.idempotency.run("greet:7", lambda: load(7), type=User), User)
    assert_type(
        await gs.idempotency.run_detailed("greet:7", lambda: load(7)), IdempotentResult[User]
    )
    result = await gs.idempotency.run_detailed("greet:7", lambda: load(7), type=User)
    assert_type(result.value, User)
    assert_type(result.replayed, bool)
    assert_type(await gs.idempotency.get("greet:7"), IdempotencyRecord | None)


def changes(connection: sqlite3.Connection) -> int:
    return connection.total_changes


async def changes_on_a_server(connection: object) -> int:
    raise NotImplementedError


async def transactions(gs: Scope, task: TaskContext[int], fence: LockHandle) -> None:
    assert_type(await gs.transaction(changes, fence=fence), int)
    assert_type(await gs.transaction(changes_on_a_server), int)
    await task.checkpoint.save(7, within=changes)
    await task.checkpoint.save(7, within=changes_on_a_server)


async def the_callers_of_an_outcome_get_its_value(gs: Scope) -> None:
    @gs.idempotent("charge:{order}")
    async def charge(order: str) -> Outcome[User]:
        return Outcome(User(order), within=changes)

    @gs.idempotent("greet:{name}")
    async def greet(name: str) -> User:
        return User(name)

    async def body() -> Outcome[User]:
        return Outcome(User("a"), within=changes_on_a_server)

    def plain_body() -> Outcome[User]:
        return Outcome(User("a"), within=changes)

    assert_type(await charge("7"), User)
    assert_type(await greet("a"), User)
    assert_type(await gs.idempotency.run("key", body), User)
    assert_type(await gs.idempotency.run("key", plain_body), User)
    assert_type(await gs.idempotency.run_detailed("key", body), IdempotentResult[User])
    assert_type(await gs.idempotency.run("key", body, type=User), User)
