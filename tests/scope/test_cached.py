"""``@gs.cached``: functions and methods, keys and templates."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from goscope import ConfigurationError, Scope, ScopeNotOpen
from goscope.events import CacheComputed
from goscope.testing import record_events

from .support import PausedCall, Store, wait_until

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


@dataclass
class User:
    name: str


class Color(enum.Enum):
    RED = "red"


anywhere = Scope(backend="memory")
"""A scope that is never opened here: keys need no store."""

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@anywhere.cached("5m")
async def module_level(
    number: int, *more: int, name: str = "ada", **options: object
) -> list[object]:
    calls.append((number, more, name, options))
    return [number, name]


@pytest.mark.asyncio
async def test_a_result_is_computed_once_for_its_arguments(store: Store, gs: Scope) -> None:
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
async def test_one_computation_serves_all_who_came_meanwhile(gs: Scope) -> None:
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
async def test_without_an_annotation_that_says_more_the_result_is_plain_json(gs: Scope) -> None:
    @gs.cached("5m", key="one")
    async def untyped():  # type: ignore[no-untyped-def]  # this is what is tested
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
async def test_a_failed_refresh_keeps_what_there_is(gs: Scope) -> None:
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
async def test_it_looks_like_the_function_it_wraps() -> None:
    assert module_level.__name__ == "module_level"  # type: ignore[attr-defined]  # copied at run time
    assert module_level.__wrapped__.__module__ == __name__  # type: ignore[attr-defined]  # copied at run time
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


# --- what is refused at decoration -----------------------------------------------------------


def test_a_plain_function_is_refused() -> None:
    def plain() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        anywhere.cached("5m", key="key")(plain)  # type: ignore[arg-type]  # wrong on purpose


def test_a_bare_number_is_no_duration() -> None:
    with pytest.raises(TypeError, match="'300s'"):
        anywhere.cached(300)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="'300s'"):
        anywhere.cached("5m", stale_for=300)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("user:{user}", r"names 'user', which is not a parameter .*it has: user_id"),
        ("user:{user_id.name}", "plain parameter names only, not {user_id.name}"),
        ("user:{user_id[0]}", r"plain parameter names only, not {user_id\[0\]}"),
        ("user:{user_id!r}", "plain parameter names only, not {user_id!r}"),
        ("user:{user_id:>5}", "plain parameter names only, not {user_id:>5}"),
        ("user:{}", "plain parameter names only, not {}"),
        ("user:{0}", "plain parameter names only, not {0}"),
        ("user:{user_id", "expected '}'"),
        ("", "empty"),
    ],
)
@pytest.mark.parametrize("option", ["key", "tags"])
def test_templates_are_checked_at_decoration(template: str, complaint: str, option: str) -> None:
    async def user(user_id: int) -> int:
        return user_id

    options: dict[str, Any] = {"key": template} if option == "key" else {"tags": [template]}
    if option == "tags":
        options["key"] = "user:{user_id}"
    with pytest.raises(ConfigurationError, match=complaint):
        anywhere.cached("5m", **options)(user)


def test_a_local_function_and_a_method_need_a_key() -> None:
    async def local() -> int:
        return 1

    class Repository:
        async def user(self) -> int:
            return 1

    Repository.user.__qualname__ = "Repository.user"
    functions: dict[str, Callable[..., Any]] = {"local": local, "method": Repository.user}
    for kind, function in functions.items():
        with pytest.raises(ConfigurationError, match=rf"{kind}.* key='user:{{user_id}}'"):
            anywhere.cached("5m")(function)


# --- keys ------------------------------------------------------------------------------------


def test_the_default_key_names_the_function_and_digests_its_arguments() -> None:
    key = module_level.key(1)
    assert key.startswith(f"{__name__}.module_level:")
    assert key == module_level.key(number=1) == module_level.key(1, name="ada")
    assert key != module_level.key(2)
    assert key != module_level.key(1, 2)
    assert key != module_level.key(1, name="bob")
    assert module_level.key(1, a=1, b=2) == module_level.key(1, b=2, a=1)
    assert module_level.key(1, a=1) != module_level.key(1, b=1)
    assert module_level.key(1, a="1") != module_level.key(1, a=1)


def test_the_default_key_takes_structures() -> None:
    one = module_level.key(1, user=User("ada"), colors={"x": Color.RED}, day=datetime.date.max)
    two = module_level.key(1, day=datetime.date.max, colors={"x": Color.RED}, user=User("ada"))
    assert one == two


def test_an_argument_json_cannot_carry_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match=r"arguments of .*module_level .* key="):
        module_level.key(1, connection=object())


def test_wrong_arguments_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="missing a required argument"):
        module_level.key()  # type: ignore[call-arg]  # wrong on purpose


def test_the_default_key_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Also when the function lives in the program that is started."""
    (tmp_path / "shop.py").write_text(
        "import goscope\n"
        "gs = goscope.Scope()\n"
        "@gs.cached('5m')\n"
        "async def user(user_id: int, tags: frozenset[str] = frozenset('abcdef')) -> str: ...\n"
        "if __name__ == '__main__': print(user.key(7))\n"
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    as_program = run("shop.py")
    assert as_program.startswith("shop.user:")
    assert as_program == run("-c", "import shop; print(shop.user.key(7))")


def template_key(template: str, value: object) -> str:
    async def function(value: object) -> None: ...

    return anywhere.cached("5m", key=template)(function).key(value)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (7, "v:7"),
        (0, "v:0"),
        (True, "v:True"),
        (1.5, "v:1.5"),
        ("ada", "v:ada"),
        ("a:b", "v:a%3Ab"),
        ("100%", "v:100%25"),
        ("%3A", "v:%253A"),
        ("a b/ü", "v:a b/ü"),
        (Color.RED, "v:red"),
        (uuid.UUID(int=1), "v:00000000-0000-0000-0000-000000000001"),
        (datetime.date(2024, 2, 29), "v:2024-02-29"),
        (Decimal("1.50"), "v:1.50"),
    ],
    ids=str,
)
def test_a_template_takes_values_that_have_an_obvious_text(value: object, key: str) -> None:
    assert template_key("v:{value}", value) == key


def test_escaping_keeps_two_calls_apart() -> None:
    async def function(one: str, two: str) -> None: ...

    key = anywhere.cached("5m", key="{one}:{two}")(function).key
    assert key("a:b", "c") != key("a", "b:c")
    assert key("a%3Ab", "c") != key("a:b", "c")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "value is None or empty"),
        ("", "value is None or empty"),
        ([1], "value is list"),
        ({"a": 1}, "value is dict"),
        (User("ada"), "value is User"),
        (object(), "value is object"),
    ],
    ids=["None", "empty", "list", "dict", "User", "object"],
)
def test_a_template_refuses_values_that_name_nothing(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        template_key("v:{value}", value)


def test_a_rendered_key_must_be_a_key() -> None:
    with pytest.raises(ValueError, match="513 characters"):
        template_key("{value}", "x" * 513)
    with pytest.raises(ValueError, match="NUL"):
        template_key("{value}", "a\0b")


def test_braces_are_doubled() -> None:
    assert template_key("{{{value}}}", 7) == "{7}"


def test_defaults_are_part_of_the_key() -> None:
    async def function(user_id: int, lang: str = "en") -> None: ...

    key = anywhere.cached("5m", key="{user_id}:{lang}")(function).key
    assert key(1) == key(1, "en") == "1:en"


@pytest.mark.asyncio
async def test_a_partial_can_be_cached(gs: Scope) -> None:
    async def add(one: int, two: int) -> int:
        return one + two

    cached: Callable[..., Any] = gs.cached("5m", key="add:{two}")(functools.partial(add, 1))
    assert await cached(2) == 3
