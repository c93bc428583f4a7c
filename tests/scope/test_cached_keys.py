"""The keys of ``@gs.cached``: default keys and templates."""

from __future__ import annotations

import datetime
import functools
import subprocess
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goscope import ConfigurationError, Scope

if TYPE_CHECKING:
    pass
from .cached_functions import Color, User, closed, module_level


def test_a_plain_function_is_refused() -> None:
    def plain() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        closed.cached("5m", key="key")(plain)  # type: ignore[arg-type]  # wrong on purpose


def test_a_bare_number_is_not_a_duration() -> None:
    with pytest.raises(TypeError, match="'300s'"):
        closed.cached(300)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="'300s'"):
        closed.cached("5m", stale_for=300)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("template", "message"),
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
def test_templates_are_checked_at_decoration(template: str, message: str, option: str) -> None:
    async def user(user_id: int) -> int:
        return user_id

    options: dict[str, Any] = {"key": template} if option == "key" else {"tags": [template]}
    if option == "tags":
        options["key"] = "user:{user_id}"
    with pytest.raises(ConfigurationError, match=message):
        closed.cached("5m", **options)(user)


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
            closed.cached("5m")(function)


def test_the_default_key_names_the_function_and_digests_its_arguments() -> None:
    key = module_level.key(1)
    assert key.startswith(f"{User.__module__}.module_level:")
    assert key == module_level.key(number=1) == module_level.key(1, name="ada")
    assert key != module_level.key(2)
    assert key != module_level.key(1, 2)
    assert key != module_level.key(1, name="bob")
    assert module_level.key(1, a=1, b=2) == module_level.key(1, b=2, a=1)
    assert module_level.key(1, a=1) != module_level.key(1, b=1)
    assert module_level.key(1, a="1") != module_level.key(1, a=1)


def test_the_default_key_accepts_structures() -> None:
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
    """Also for a function of the script that is run."""
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

    return closed.cached("5m", key=template)(function).key(value)


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
def test_a_template_accepts_values_with_an_unambiguous_text(value: object, key: str) -> None:
    assert template_key("v:{value}", value) == key


def test_escaping_gives_different_calls_different_keys() -> None:
    async def function(one: str, two: str) -> None: ...

    key = closed.cached("5m", key="{one}:{two}")(function).key
    assert key("a:b", "c") != key("a", "b:c")
    assert key("a%3Ab", "c") != key("a:b", "c")


@pytest.mark.parametrize(
    ("value", "message"),
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
def test_a_template_refuses_values_without_a_text(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        template_key("v:{value}", value)


def test_a_rendered_key_must_be_valid() -> None:
    with pytest.raises(ValueError, match="513 characters"):
        template_key("{value}", "x" * 513)
    with pytest.raises(ValueError, match="NUL"):
        template_key("{value}", "a\0b")


def test_doubled_braces_are_literal() -> None:
    assert template_key("{{{value}}}", 7) == "{7}"


def test_defaults_are_part_of_the_key() -> None:
    async def function(user_id: int, lang: str = "en") -> None: ...

    key = closed.cached("5m", key="{user_id}:{lang}")(function).key
    assert key(1) == key(1, "en") == "1:en"


@pytest.mark.asyncio
async def test_a_partial_can_be_cached(gs: Scope) -> None:
    async def add(one: int, two: int) -> int:
        return one + two

    cached: Callable[..., Any] = gs.cached("5m", key="add:{two}")(functools.partial(add, 1))
    assert await cached(2) == 3
