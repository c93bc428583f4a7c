"""Imports point one way: scope, feature, provider Protocol, backend; adapter, provider, engine."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from types import ModuleType
from typing import Any, TypeVar

import pytest

import goscope
from goscope import _records, errors, providers

from .distributions import FOLDERS
from .imports import IMPORTS, MODULES, PACKAGES, members, within

PUBLIC_PACKAGES = sorted(name for name in PACKAGES if not re.search(r"(^|\.)_", name))

BACKENDS = {
    "goscope.memory",
    "goscope_bun_compat",
    "goscope_mysql",
    "goscope_postgres",
    "goscope_redis",
    "goscope_sqlite",
}
DRIVERS = {"aiosqlite", "asyncmy", "asyncpg", "redis", "sqlite3"}
FOR_USERS = {
    "goscope.__main__",
    "goscope.cli",
    "goscope.integrations",
    "goscope.migration",
    "goscope.testing",
}
TOOLS = {"goscope._tools"}
CONTRACT = {
    "goscope._records",
    "goscope.errors",
    "goscope.events",
    "goscope.hookspecs",
    "goscope.inspection",
    "goscope.maintenance",
    "goscope.providers",
}
OPENING = {"goscope._plugins", "goscope._scope", "goscope._settings", "goscope._source"}
CORE = members("goscope") - members(*BACKENDS, *FOR_USERS)
FEATURES = CORE - members("goscope.backend", *TOOLS, *CONTRACT, *OPENING) - {"goscope"}
ENGINE = "goscope_sqlite._engine"

FORBIDDEN = {
    "core imports no backend and no driver": (CORE, BACKENDS | DRIVERS),
    "core imports nothing that needs an extra": (CORE, FOR_USERS),
    "a feature does not import what opens the backend": (FEATURES, OPENING),
    "the contract imports none of its users": (CONTRACT, FEATURES | OPENING),
    "the base classes of backends import none of their users": (
        members("goscope.backend"),
        FEATURES | OPENING | FOR_USERS | BACKENDS,
    ),
    "a backend imports none of its users": (
        members(*BACKENDS),
        FEATURES | OPENING | FOR_USERS,
    ),
    "a SQL provider does not import what executes its SQL": (
        members("goscope_sqlite.providers", "goscope_sqlite.columns", "goscope_sqlite.schema"),
        {"aiosqlite", "goscope_sqlite.adapter", "goscope_sqlite.engine"},
    ),
    "goscope-sqlite does not import what is built on it": (
        members("goscope_sqlite"),
        {"goscope_bun_compat"},
    ),
}

ALLOWED = {
    "the tools import only errors": (
        members(*TOOLS),
        {"goscope"},
        {*TOOLS, "goscope.errors"},
    ),
    "the engine imports only the schema": (
        members(ENGINE),
        {"goscope_sqlite"},
        {ENGINE, "goscope_sqlite.schema"},
    ),
    "a SQL provider imports only the engine's interface": (
        members("goscope_sqlite.providers"),
        {ENGINE},
        {f"{ENGINE}.protocol"},
    ),
    "the SQL of the schema stands alone": (
        {"goscope_sqlite.columns", "goscope_sqlite.schema"},
        {"goscope", "goscope_sqlite"},
        {"goscope.errors", "goscope._tools.codec", "goscope._tools.integer"},
    ),
    "another distribution uses the public modules of goscope-sqlite": (
        members("goscope_bun_compat"),
        {"goscope_sqlite"},
        {
            "goscope_sqlite",
            "goscope_sqlite.diagnosis",
            "goscope_sqlite.engine",
            "goscope_sqlite.format",
            "goscope_sqlite.restore",
        },
    ),
}
"""What a set of modules may import from a package: importers, the package, the exceptions."""


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_import_points_the_wrong_way(rule: str) -> None:
    """Imports for type checkers count too."""
    importers, imported = FORBIDDEN[rule]
    assert importers, "the rule covers no module"
    violations = [
        str(found)
        for found in IMPORTS
        if found.importer in importers and within(found.imported, imported)
    ]
    assert violations == []


@pytest.mark.parametrize("rule", ALLOWED)
def test_only_the_allowed_modules_are_imported(rule: str) -> None:
    importers, package, allowed = ALLOWED[rule]
    assert importers, "the rule covers no module"
    assert allowed - {*MODULES} == set(), "the rule allows a module that does not exist"
    violations = [
        str(found)
        for found in IMPORTS
        if found.importer in importers
        and within(found.imported, package)
        and not within(found.imported, allowed)
    ]
    assert violations == []


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_names_no_backend_distribution(name: str) -> None:
    """Not even in its texts: which backends exist is not the core's knowledge."""
    named = re.findall(r"goscope[-_](?:mysql|sqlite|bun\w*)", MODULES[name].read_text())
    assert named == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_inside_a_distribution_are_relative(folder: str) -> None:
    violations = [
        str(found)
        for found in IMPORTS
        if not found.relative
        and within(found.importer, (folder,))
        and within(found.imported, (folder,))
    ]
    assert violations == []


PARTS = {
    "cli": "goscope.cli",
    "demo": "goscope.cli.commands.demo",
    "testing": "goscope.testing",
    "web": "goscope.cli.commands.web",
    **{
        extra: f"goscope.integrations.{extra}"
        for extra in (
            "blocking",
            "fastapi",
            "keyvalue",
            "langgraph",
            "litestar",
            "opentelemetry",
            "prometheus",
            "starlette",
        )
    },
}
"""The package that each extra is for."""

PACKAGES_OF = {
    "langgraph-checkpoint": {"langgraph", "langchain_core"},  # it is made of types of the second
    "opentelemetry-api": {"opentelemetry"},
    "py-key-value-aio": {"key_value"},
}
"""The packages of a distribution that have another name than it."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_declared_dependencies_are_imported(
    folder: str, pyprojects: dict[str, dict[str, Any]]
) -> None:
    """Required ones anywhere, those of an extra only in the package that the extra is for."""
    project = pyprojects[folder]["project"]
    required = {folder}.union(*map(packages_of, project["dependencies"]))
    extras = {
        PARTS[extra]: set[str]().union(*map(packages_of, requirements))
        for extra, requirements in project.get("optional-dependencies", {}).items()
    }
    undeclared = [
        str(found)
        for found in IMPORTS
        if within(found.importer, (folder,))
        and (package := found.imported.partition(".")[0]) not in sys.stdlib_module_names | required
        and not any(within(found.importer, (part,)) and package in extras[part] for part in extras)
    ]
    assert undeclared == []


def packages_of(requirement: str) -> set[str]:
    """The packages of a requirement; most distributions have one of the same name."""
    match = re.match(r"[\w-]+", requirement)
    assert match is not None
    return PACKAGES_OF.get(match[0], {match[0].replace("-", "_")})


@pytest.mark.parametrize("name", PUBLIC_PACKAGES)
def test_all_lists_exactly_the_public_names(name: str) -> None:
    """Every public name of a package is in its __all__, submodules aside; nothing else is.

    The linter keeps it sorted.
    """
    package = importlib.import_module(name)
    listed = set(getattr(package, "__all__", ()))
    lazy = listed - vars(package).keys()
    for attribute in lazy:
        getattr(package, attribute)
    assert listed == lazy | {
        attribute
        for attribute, value in vars(package).items()
        if not attribute.startswith("_") and not inspect.ismodule(value)
    } - {"annotations"}


def defined_in(module: ModuleType) -> set[str]:
    """The public names that a module defines, its type variables aside."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, TypeVar)
        and getattr(value, "__module__", "") == module.__name__
    }


def test_goscope_exposes_every_error_protocol_and_record() -> None:
    records = defined_in(_records)
    assert {"CacheEntry", "Capability", "Checkpoint", "LockHolder"} <= records
    wanted = defined_in(errors) | defined_in(providers) | records | {"MISSING", "Scope"}
    assert wanted - set(goscope.__all__) == set()
