"""What errors say to whoever has to change the program: what to write instead, and the choices."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import goscope
from goscope import (
    Capability,
    ConfigurationError,
    InvalidOption,
    LockTimeout,
    OperationInProgress,
    Scope,
    TaskAlreadyRunning,
    TaskContext,
)
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .support import PausedCall, Store, ticks

gs = Scope(backend="memory")


async def charge(order: str) -> str:
    return order


@pytest.mark.parametrize(
    ("decorator", "usage"),
    [
        (gs.cached, '@gs.cached("5m")'),
        (gs.idempotent, '@gs.idempotent("charge:{order_id}")'),
        (gs.resumable, '@gs.resumable("etl:{path}")'),
        (gs.circuit_breaker, '@gs.circuit_breaker("payments")'),
    ],
)
def test_a_decorator_without_parentheses_says_how_to_write_it(decorator: Any, usage: str) -> None:
    with pytest.raises(TypeError, match=re.escape("charge lacks its parentheses")) as caught:
        decorator(charge)
    assert f"write {usage}" in str(caught.value)


untyped: Any = Scope
"""`Scope` as a program without type checker calls it."""

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "key": (lambda: untyped.cached(gs, "5m", key=5)(charge), "must be a string such as 'user:"),
    "tags": (lambda: gs.cached("5m", tags="users"), "not one string: ['users']"),
    "observers": (lambda: untyped(backend="memory", observers=print), "must be a list"),
    "capability": (lambda: untyped(backend="memory", requires=Capability.PERSISTENT), "a set of"),
    "string": (lambda: untyped(backend="memory", requires="persistent"), "Capability.PERSISTENT"),
    "strings": (lambda: untyped(backend="memory", requires={"persistent"}), "SHARED_LOCKS"),
    "path": (lambda: untyped(pathlib.Path("app.db")), "write Scope(backend='sqlite', path=...)"),
    "backend": (lambda: untyped(backend=MemoryAdapter()), "pass an adapter as persistence="),
    "class": (lambda: untyped(persistence=SQLiteAdapter), "such as SQLiteAdapter('app.db')"),
    "file": (lambda: untyped(persistence="app.db"), "such as SQLiteAdapter('app.db')"),
    "ttl": (lambda: untyped.lock(gs, "key", ttl=[]), "a string such as '30s', not list"),
    "negative": (lambda: untyped.lock(gs, "key", ttl=-5), "write a positive duration"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_type_says_what_to_write(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("locks", "share", "must be 'memory' or 'shared', not 'share': did you mean 'shared'?"),
        ("locks", "redis", "must be 'memory' or 'shared', not 'redis'"),
        ("locks", True, "must be 'memory' or 'shared', not True"),
        ("reads", "threads", "must be 'auto', 'loop' or 'thread', not 'threads': did you mean"),
        ("durability", "ful", "must be 'normal' or 'full', not 'ful': did you mean 'full'?"),
        ("foreign_keys", "ja", "must be true or false"),
        ("busy_timeout", 5, "a duration has a unit, such as '5s'"),
        ("lock", "shared", "has no such option: did you mean 'locks'?"),
    ],
)
@pytest.mark.asyncio
async def test_an_option_lists_its_choices_and_the_nearest(
    option: str, value: Any, message: str
) -> None:
    adapter: Any = SQLiteAdapter
    with pytest.raises(InvalidOption, match=re.escape(message)) as caught:
        await Scope(backend="sqlite", path="unused.db", **{option: value}).open()
    assert caught.value.option == option
    if isinstance(value, str):
        with pytest.raises(InvalidOption, match=re.escape(message)):
            await Scope(f"sqlite:///unused.db?{option}={value}").open()
        if option in ("locks", "reads", "durability"):
            with pytest.raises(InvalidOption, match=re.escape(message)):
                adapter("unused.db", **{option: value})


def test_a_choice_of_a_circuit_is_listed_too() -> None:
    with pytest.raises(ValueError, match="'raise' or 'local', not 'locl': did you mean 'local'"):
        gs.circuit_breaker("api", on_store_error="locl")  # type: ignore[arg-type]


def test_a_template_names_the_nearest_parameter() -> None:
    with pytest.raises(ConfigurationError, match=r"names 'oder', which .*: did you mean 'order'"):
        gs.idempotent("charge:{oder}")(charge)


@pytest.mark.asyncio
async def test_a_lock_without_a_wait_says_who_holds_it_and_not_how_long_it_waited(
    store: Store,
) -> None:
    async with store.scope() as scope, scope.lock("door"):
        with pytest.raises(LockTimeout) as caught:
            await scope.lock("door", wait=0).acquire()
    assert caught.value.waited_ms == 0
    message = str(caught.value)
    assert message.startswith("lock 'door' is not free: held by this process itself (owner ")
    assert message.endswith("Call again later, or pass a longer `wait`.")


@pytest.mark.asyncio
async def test_no_error_blames_this_very_process_by_its_pid(store: Store) -> None:
    async def body(task: TaskContext[Any]) -> None:
        await scope.tasks.run("etl", lambda task: ticks(), wait=0)

    async with store.scope() as scope:
        async with scope.lock("door"):
            waiting = asyncio.create_task(scope.lock("door", wait="1s").acquire())
            await store.wait_until_idle()
            await store.advance("2s")
            with pytest.raises(LockTimeout) as waited:
                await waiting
        with pytest.raises(TaskAlreadyRunning) as running:
            await scope.tasks.run("etl", body)
    assert "was not free within" in str(waited.value)
    for caught in (waited, running):
        assert "this process itself" in str(caught.value)
        assert f"pid {os.getpid()}" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_call_in_flight_is_another_call_and_not_elsewhere(store: Store) -> None:
    paused = PausedCall()
    async with store.scope() as scope:
        first = asyncio.create_task(scope.idempotency.run("key", paused.run))
        await paused.started()
        with pytest.raises(OperationInProgress, match="another call with this key is running"):
            await scope.idempotency.run("key", paused.run, wait=0)
        paused.resume()
        await first


@pytest.mark.parametrize("key", ["", "x" * 600, "a\0b", "a\ud800"])
@pytest.mark.asyncio
async def test_a_clients_bad_idempotency_key_says_what_to_do(store: Store, key: str) -> None:
    async with store.scope() as scope:
        calls: list[Awaitable[Any]] = [
            scope.idempotency.run(key, ticks),
            scope.idempotent("charge:{order}")(charge)(key),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"refuse the request \(400\)") as caught:
                await call
            assert "digest" in str(caught.value)
            assert not isinstance(caught.value, goscope.GoscopeError)
