"""What is decorated looks like the coroutine function it was: to inspect, asyncio and pickle."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from goscope import ConfigurationError, Scope

from . import decorated
from .decorated import Archive, Repository

REPOSITORY = Repository()

FUNCTIONS: dict[str, Any] = {
    "cached": decorated.cached,
    "idempotent": decorated.idempotent,
    "guarded": decorated.guarded,
    "resumable": decorated.resumable,
}

METHODS: dict[str, Callable[[], Any]] = {
    "method": lambda: REPOSITORY.method,
    "method of the class": lambda: Repository.method,
    "of_class": lambda: Repository.of_class,
    "of_class of an instance": lambda: REPOSITORY.of_class,
    "static": lambda: Repository.static,
    "idempotent": lambda: REPOSITORY.idempotent,
    "idempotent_of_class": lambda: Repository.idempotent_of_class,
}


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Scope]:
    Repository.calls = 0
    async with decorated.gs as gs:
        yield gs


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_decorated_function_is_a_coroutine_function(name: str) -> None:
    function = FUNCTIONS[name]
    for found in (function, functools.partial(function, 7)):
        assert inspect.iscoroutinefunction(found)
        assert asyncio.iscoroutinefunction(found)  # pyright: ignore[reportDeprecated]  # still used


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_decorated_function_has_the_metadata_of_its_function(name: str) -> None:
    function = FUNCTIONS[name]
    assert (function.__name__, function.__qualname__) == (name, name)
    assert function.__module__ == decorated.__name__
    assert function.__doc__ == f"A{'n' if name[0] == 'i' else ''} {name} function."
    assert inspect.getdoc(function) == function.__doc__
    assert inspect.isfunction(function.__wrapped__)
    assert function.__annotations__["return"] == "str"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_signature_is_what_callers_pass(name: str) -> None:
    signature = inspect.signature(FUNCTIONS[name])
    assert list(signature.parameters) == ["user_id", "fresh"]
    signature.bind(7, fresh=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_decorated_function_is_pickled_by_reference(name: str) -> None:
    function = FUNCTIONS[name]
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.copy(function) is copy.deepcopy(function) is function


@pytest.mark.parametrize("name", METHODS)
def test_a_decorated_method_is_a_coroutine_function(name: str) -> None:
    method = METHODS[name]()
    for found in (method, functools.partial(method, 7)):
        assert inspect.iscoroutinefunction(found)
        assert asyncio.iscoroutinefunction(found)  # pyright: ignore[reportDeprecated]  # still used
    assert method.__name__ == name.split()[0]
    assert method.__qualname__ == f"Repository.{name.split()[0]}"
    assert method.__module__ == decorated.__name__
    assert method.__doc__.startswith("A")


@pytest.mark.parametrize("name", METHODS)
def test_the_signature_of_a_bound_method_lacks_what_is_bound(name: str) -> None:
    expected = ["self", "user_id"] if name == "method of the class" else ["user_id"]
    assert list(inspect.signature(METHODS[name]()).parameters) == expected


def test_a_bound_method_compares_and_hashes_as_one() -> None:
    method = REPOSITORY.method
    assert method == REPOSITORY.method
    assert hash(method) == hash(REPOSITORY.method)
    assert method != Repository("main").method
    assert method.__self__ is REPOSITORY
    assert weakref.WeakMethod(method)() == method
    with pytest.raises(AttributeError):
        getattr(method, "absent")  # noqa: B009  # type checkers know that it is absent


def test_a_bound_method_is_pickled_with_its_instance() -> None:
    found = pickle.loads(pickle.dumps(REPOSITORY.method))
    assert found.__self__ == REPOSITORY
    assert found.__func__ is Repository.method
    assert pickle.loads(pickle.dumps(Repository.of_class)) == Repository.of_class


def test_a_partial_has_the_name_of_its_function() -> None:
    async def load(table: str, user_id: int) -> int:
        return user_id

    cached: Any = decorated.gs.cached("5m", key="{user_id}")(functools.partial(load, "users"))
    assert cached.__name__ == "load"
    assert inspect.iscoroutinefunction(cached)


def test_a_callable_object_can_be_decorated() -> None:
    class Loader:
        async def __call__(self, user_id: int) -> int:
            return user_id

    cached: Any = decorated.gs.cached("5m", key="{user_id}")(Loader())
    assert inspect.iscoroutinefunction(cached)
    assert list(inspect.signature(cached).parameters) == ["user_id"]


@pytest.mark.asyncio
async def test_a_cached_class_method_is_bound_to_the_class(opened: Scope) -> None:
    owners: list[tuple[Any, str]] = [
        (Repository, "Repository"),
        (Archive, "Archive"),
        (Archive(), "Archive"),
    ]
    for owner, name in owners:
        first = await owner.of_class(7)
        assert first[:2] == [name, 7]
        assert await owner.of_class(7) == first
        await opened.cache.clear()


@pytest.mark.asyncio
async def test_the_helpers_of_a_cached_class_method_are_bound_too(opened: Scope) -> None:
    helpers: Any = Repository
    assert helpers.of_class.key(7) == "class:users:7"
    assert helpers().of_class.key(user_id=7) == "class:users:7"
    archive: Any = Archive
    assert archive.of_class.key(7) == "class:archive:7"
    first = await archive.of_class(7)
    assert await archive.of_class.refresh(7) == ["Archive", 7, first[2] + 1]
    assert await archive.of_class.invalidate(7)
    assert not await archive.of_class.invalidate(7)
    assert not await helpers.of_class.invalidate(7)


@pytest.mark.asyncio
async def test_the_helpers_of_a_cached_static_method_need_no_class(opened: Scope) -> None:
    owner: Any = Repository
    assert await owner.static(7) == await owner().static(7)
    assert owner.static.key(7) == "static:7"
    assert await owner().static.invalidate(7)


@pytest.mark.asyncio
async def test_the_key_of_a_method_names_an_attribute(opened: Scope) -> None:
    main, other = Repository("main"), Repository("other")
    assert main.method.key(7) == "method:main:7"
    assert await main.method(7) != await other.method(7)
    assert await other.method.invalidate(7)
    assert not await other.method.invalidate(7)


def test_nothing_of_the_decoration_stays_in_the_class() -> None:
    assert not [name for name in vars(Repository) if "goscope" in name]
    assert isinstance(vars(Repository)["of_class"], classmethod)


def test_classmethod_and_staticmethod_go_above_the_decorator() -> None:
    def decorate(kind: Any) -> None:
        async def load(user_id: int) -> int:
            return user_id

        decorated.gs.cached("5m", key="{user_id}")(kind(load))

    with pytest.raises(ConfigurationError, match="write @classmethod above"):
        decorate(classmethod)
    with pytest.raises(ConfigurationError, match="write @staticmethod above"):
        decorate(staticmethod)


@pytest.mark.asyncio
async def test_a_retry_decorator_awaits_a_cached_function(opened: Scope) -> None:
    calls = 0

    def retried(function: Callable[..., Any]) -> Callable[..., Any]:
        """As retry libraries write it: one wrapper for coroutine functions, one for others."""
        assert inspect.iscoroutinefunction(function)

        async def again(*args: Any) -> Any:
            for _ in range(5):
                try:
                    return await function(*args)
                except ConnectionError:
                    pass
            return None

        return again

    @retried
    @opened.cached("5m", key="rates:{day}")
    async def rates(day: str) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError
        return calls

    assert await rates("monday") == 3
