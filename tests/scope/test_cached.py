"""``@gs.cached``: functions and methods whose results are cached."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from goscope import ConfigurationError, Scope, ScopeNotOpen
from goscope.events import CacheComputed
from goscope.testing import record_events

from .support import PausedCall, Store, wait_until

if TYPE_CHECKING:
    from fractions import Fraction
from .cached_functions import User, calls, module_level

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.mark.asyncio
async def test_a_result_is_computed_once_per_arguments(store: Store, gs: Scope) -> None:
    @gs.cached("5m", key="double:{number}")
    async def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [await double(1), await double(2), await double(1)] == [2, 4, 2]
    assert calls == [1, 2]
    store.clock.step_wall("6m")
    await double(1)
    assert calls == [1, 2, 1]


@pytest.mark.asyncio
async def test_concurrent_callers_share_one_computation(gs: Scope) -> None:
    paused = PausedCall()

    @gs.cached("5m", key="value")
    async def value() -> int:
        await paused.run()
        return 7

    callers = [asyncio.create_task(value()) for _ in range(10)]
    await paused.started()
    paused.resume()
    assert await asyncio.gather(*callers) == [7] * 10
    assert paused.calls == 1


@pytest.mark.asyncio
async def test_results_are_decoded_to_the_return_annotation(gs: Scope) -> None:
    @gs.cached("5m", key="user:{name}")
    async def user(name: str) -> User:
        return User(name)

    assert await user("ada") == await user("ada") == User("ada")
    assert await gs.cache.get("user:ada") == {"name": "ada"}


@pytest.mark.asyncio
async def test_without_a_specific_annotation_the_result_is_plain_json(gs: Scope) -> None:
    @gs.cached("5m", key="one")
    async def untyped():  # type: ignore[no-untyped-def]  # no annotation on purpose
        return (1, 2)

    @gs.cached("5m", key="two")
    async def anything() -> Any:
        return (1, 2)

    @gs.cached("5m", key="three:{value}")
    async def generic(value: T) -> T:
        return value

    assert await untyped() == [1, 2]
    assert await anything() == [1, 2]
    assert await generic("x") == "x"


@pytest.mark.asyncio
async def test_parameter_types_need_not_exist_at_run_time(gs: Scope) -> None:
    @gs.cached("5m", key="half:{number}")
    async def half(number: Fraction) -> User:
        return User(str(number))

    assert await half(2) == User("2")  # type: ignore[arg-type]  # a Fraction would need the import


@pytest.mark.asyncio
async def test_a_return_annotation_that_does_not_exist_at_run_time_is_named(gs: Scope) -> None:
    @gs.cached("5m", key="half")
    async def half() -> Fraction:
        raise AssertionError

    with pytest.raises(ConfigurationError, match=r"half .*'Fraction' is not defined"):
        await half()


@pytest.mark.asyncio
async def test_methods_are_bound(gs: Scope) -> None:
    class Repository:
        def __init__(self, name: str) -> None:
            self.name = name

        @gs.cached("5m", key="{user_id}", tags=["users"])
        async def user(self, user_id: int) -> User:
            calls.append(user_id)
            return User(self.name)

    repository = Repository("ada")
    assert await repository.user(7) == User("ada")
    assert await repository.user(user_id=7) == User("ada")
    assert calls == [7]
    assert repository.user.key(7) == "7"
    assert await repository.user.refresh(7) == User("ada")
    assert calls == [7, 7]
    assert await repository.user.invalidate(7) is True
    assert await repository.user.invalidate(7) is False
    assert await Repository.user(repository, 7) == User("ada")
    assert calls == [7, 7, 7]


@pytest.mark.asyncio
async def test_key_invalidate_and_refresh(gs: Scope) -> None:
    @gs.cached("5m", key="double:{number}")
    async def double(number: int) -> int:
        calls.append(number)
        return len(calls)

    assert double.key(3) == double.key(number=3) == "double:3"
    assert await double(3) == 1
    assert await double.refresh(3) == 2
    assert await double(3) == 2
    assert await double.invalidate(3) is True
    assert await double(3) == 3
    assert await double.invalidate(4) is False


@pytest.mark.asyncio
async def test_a_refresh_that_asks_for_its_own_result_is_an_error(gs: Scope) -> None:
    @gs.cached("5m", key="recursive")
    async def recursive(refresh: bool) -> int:
        return await (recursive.refresh(refresh) if refresh else recursive(refresh))

    for refresh in (False, True):
        with pytest.raises(RuntimeError, match="'recursive' asks for 'recursive' itself"):
            await asyncio.wait_for(recursive.refresh(refresh), 10)


@pytest.mark.asyncio
async def test_a_failed_refresh_keeps_the_stored_result(gs: Scope) -> None:
    healthy = True

    @gs.cached("5m", key="value")
    async def value() -> int:
        if not healthy:
            raise ZeroDivisionError
        return 1

    await value()
    healthy = False
    with pytest.raises(ZeroDivisionError):
        await value.refresh()
    assert await value() == 1


@pytest.mark.asyncio
async def test_when_decides_what_is_stored(gs: Scope) -> None:
    @gs.cached("5m", key="found:{name}", when=lambda user: user is not None)
    async def find(name: str) -> User | None:
        calls.append(name)
        return User(name) if name == "ada" else None

    with record_events(gs) as events:
        for _ in range(2):
            assert await find("ada") == User("ada")
            assert await find("bob") is None
    assert calls == ["ada", "bob", "bob"]
    stored = [event.stored for event in events if isinstance(event, CacheComputed)]
    assert stored == [True, False, False]


@pytest.mark.asyncio
async def test_tags_are_templates(gs: Scope) -> None:
    @gs.cached("5m", key="{team}:{user}", tags=["team:{team}", "users"])
    async def user(team: str, user: str) -> str:
        calls.append((team, user))
        return user

    await user("a", "ada")
    await user("b", "bob")
    assert await gs.cache.delete_by_tag("team:a") == 1
    await user("a", "ada")
    await user("b", "bob")
    assert calls == [("a", "ada"), ("b", "bob"), ("a", "ada")]


@pytest.mark.asyncio
async def test_a_stale_result_is_served_while_it_is_refreshed(store: Store, gs: Scope) -> None:
    @gs.cached("5m", key="value", stale_for="1h")
    async def value() -> int:
        calls.append(None)
        return len(calls)

    assert await value() == 1
    store.clock.step_wall("6m")
    assert await value() == 1
    await wait_until(lambda: len(calls) == 2)
    await store.wait_until_idle()
    assert await value() == 2


@pytest.mark.asyncio
async def test_a_cached_function_has_the_metadata_of_its_function() -> None:
    assert module_level.__name__ == "module_level"
    assert module_level.__wrapped__.__module__ == User.__module__  # type: ignore[attr-defined]  # copied at run time
    with pytest.raises(ScopeNotOpen):
        await module_level(1)


@pytest.mark.asyncio
async def test_decorators_can_be_stacked_either_way(gs: Scope) -> None:
    breaker = gs.circuit_breaker("api")

    @breaker
    @gs.cached("5m", key="inner")
    async def inner() -> int:
        return 1

    @gs.cached("5m", key="outer")
    @breaker
    async def outer() -> User:
        return User("ada")

    assert await inner() == 1
    assert await outer() == await outer() == User("ada")
