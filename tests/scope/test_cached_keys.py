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
from pydantic import BaseModel, Field, SecretStr

from goscope import ConfigurationError, Scope

if TYPE_CHECKING:
    pass
from .cached_functions import Color, User, closed, module_level


class Login(BaseModel):
    password: SecretStr
    tenant: str = Field(exclude=True)


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
        ("user:{user.name}", r"names 'user', which is not a parameter .*it has: user_id"),
        ("user:{user_id[0]}", r"may hold parameters, .*, not {user_id\[0\]}"),
        ("user:{user_id!r}", "may hold parameters, .*, not {user_id!r}"),
        ("user:{user_id:>5}", "may hold parameters, .*, not {user_id:>5}"),
        ("user:{user_id??}", r"may hold parameters, .*, not {user_id\?\?}"),
        ("user:{user_id.}", "may hold parameters, .*, not {user_id.}"),
        ("user:{}", "may hold parameters, .*, not {}"),
        ("user:{0}", "may hold parameters, .*, not {0}"),
        ("{user_id}{user_id}", "nothing separates {user_id} from the field before"),
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
        (Path("a/b"), "v:a/b"),
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


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{one}:{two}", [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")]),
        ("{one}-{two}", [("a-b", "c"), ("a", "b-c"), ("a%2Db", "c")]),
        ("{one}2{two}", [("%", "5"), ("%2", "5"), ("", "25"), ("2", "2"), ("%25", "")]),
        ("{one}é{two}", [("é", "a"), ("a", "é"), ("%C3%A9", "a")]),
        (
            "{one?}:{two?}",
            [(None, None), ("", ""), ("None", "%None"), ("%None", "None"), (None, "")],
        ),
    ],
)
def test_different_values_never_share_a_key(template: str, values: list[tuple[Any, Any]]) -> None:
    async def function(one: str | None, two: str | None) -> None: ...

    optional = template.replace("{one}", "{one?}").replace("{two}", "{two?}")
    key = closed.cached("5m", key=optional)(function).key
    keys = [key(one, two) for one, two in values]
    assert len(set(keys)) == len(keys), keys


def test_an_optional_value_may_be_none_or_empty() -> None:
    assert template_key("v:{value?}", None) == "v:%None"
    assert template_key("v:{value?}", "") == "v:"
    assert template_key("v:{value?}", "None") == "v:None"
    with pytest.raises(ValueError, match="is empty"):
        template_key("{value?}", "")
    with pytest.raises(ValueError, match=r"None or empty, .*write \{value\?\} to allow both"):
        template_key("v:{value}", None)


def test_a_template_names_attributes() -> None:
    assert template_key("v:{value.name}", User("ada")) == "v:ada"
    assert template_key("v:{value.name.__class__.__name__}", User("ada")) == "v:str"
    assert template_key("v:{value.name?}", None) == "v:%None"
    with pytest.raises(ConfigurationError, match=r"value\.age: .* no attribute 'age'"):
        template_key("v:{value.age}", User("ada"))


def constant(result: object, user: User) -> object:
    return result


def test_a_key_may_be_a_function_of_the_arguments() -> None:
    def make(user: User, *, lang: str = "en") -> str:
        return f"{user.name}:{lang}"

    async def function(user: User, *, lang: str = "en") -> None: ...

    key = closed.cached("5m", key=make)(function).key
    assert key(User("ada"), lang="de") == "ada:de"
    results: list[tuple[Any, type[Exception]]] = [(None, TypeError), ("", ValueError)]
    for result, error in results:
        wrong: Any = functools.partial(constant, result)
        with pytest.raises(error, match="key of"):
            closed.cached("5m", key=wrong)(function).key(User("ada"))
    with pytest.raises(ConfigurationError, match="key= must be a plain function"):
        closed.cached("5m", key=function)(function)  # type: ignore[arg-type]  # wrong on purpose


def test_a_masked_or_excluded_argument_is_part_of_the_default_key() -> None:
    def key(password: str, tenant: str) -> str:
        return module_level.key(1, login=Login(password=SecretStr(password), tenant=tenant))

    assert len({key("a", "a"), key("b", "a"), key("a", "b")}) == 3
    assert key("a", "a") == key("a", "a")


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
