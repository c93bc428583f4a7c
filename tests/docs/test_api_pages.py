"""Every public name is on a page of the API reference, and every page documents what exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import ParamSpec, TypeVar

import pytest

import goscope.errors

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

PUBLIC_MODULES = [
    "goscope",
    "goscope.backend",
    "goscope.backend.records",
    "goscope.errors",
    "goscope.events",
    "goscope.hookspecs",
    "goscope.inspection",
    "goscope.integrations.asgi",
    "goscope.integrations.blocking",
    "goscope.integrations.fastapi",
    "goscope.integrations.keyvalue",
    "goscope.integrations.langgraph",
    "goscope.integrations.litestar",
    "goscope.integrations.logging",
    "goscope.integrations.opentelemetry",
    "goscope.integrations.prometheus",
    "goscope.integrations.starlette",
    "goscope.maintenance",
    "goscope.memory",
    "goscope.migration",
    "goscope.providers",
    "goscope.testing",
    "goscope.testing.conformance",
    "goscope.testing.processes",
    "goscope_bun_compat",
    "goscope_mysql",
    "goscope_postgres",
    "goscope_redis",
    "goscope_sqlite",
    "goscope_sqlite.engine",
    "goscope_sqlite.format",
]

DIRECTIVE = re.compile(r"^\.\. auto(?:class|function|data|exception):: ([\w.]+)$", re.MULTILINE)
DOCUMENTED = [
    name
    for page in sorted((REFERENCE / "api").glob("*.md"))
    for name in DIRECTIVE.findall(page.read_text())
]


def public_names(module: str) -> list[str]:
    """What the module exports: its ``__all__``, or what it defines."""
    found = import_module(module)
    names: list[str] = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module
        and not isinstance(value, TypeVar | ParamSpec)
    ]
    return [f"{module}.{name}" for name in names]


def test_no_name_is_documented_twice() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    """Under this name, or under another name of the same object."""
    documented = {id(resolve_name(name)) for name in DOCUMENTED}
    named = public_names(module)
    assert named
    assert [name for name in named if id(resolve_name(name)) not in documented] == []


def test_the_page_of_errors_says_what_to_do_about_each() -> None:
    page = (REFERENCE / "errors.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE))
    errors = {
        name
        for name, value in vars(goscope.errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == "goscope.errors"
    }
    assert errors - explained - {"GoscopeError", "BackendError"} == set()


def test_the_page_of_environment_variables_has_all_of_them() -> None:
    root = REFERENCE.parents[1]
    read = {
        name
        for source in root.glob("goscope*/src/**/*.py")
        for name in re.findall(r'"(GOSCOPE_[A-Z_]+)"', source.read_text())
    }
    page = (REFERENCE / "environment.md").read_text()
    assert read
    assert {name for name in read if f"`{name}`" not in page} == set()
