"""Arrows run one way: scope, feature, provider Protocol, backend; adapter, provider, Database."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

import goscope
from goscope import errors, providers

from .distributions import FOLDERS, ROOT


@dataclass(frozen=True, slots=True)
class Import:
    """One import: who imports what, and where."""

    importer: str
    imported: str
    line: int
    relative: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} (line {self.line})"


def modules(folder: str) -> dict[str, Path]:
    """The modules of a distribution by their dotted names."""
    source = ROOT / folder / "src"
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {name: path for folder in FOLDERS for name, path in modules(folder).items()}
PUBLIC_PACKAGES = [
    name
    for name, path in MODULES.items()
    if path.name == "__init__.py" and not re.search(r"(^|\.)_", name)
]


class Imports(ast.NodeVisitor):
    """Collects the imports of one module, relative ones made absolute."""

    def __init__(self, importer: str, path: Path) -> None:
        self.found: list[Import] = []
        self._importer = importer
        self._package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
        self.visit(ast.parse(path.read_text()))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno, relative=False)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self._package.split(".")[: -(node.level - 1) or None]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            dotted = f"{base}.{alias.name}"
            imported = dotted if dotted in MODULES else base
            self._add(imported, node.lineno, relative=node.level > 0)

    def _add(self, imported: str, line: int, *, relative: bool) -> None:
        self.found.append(Import(self._importer, imported, line, relative))


IMPORTS = [found for name, path in MODULES.items() for found in Imports(name, path).found]


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def members(*packages: str) -> set[str]:
    return {name for name in MODULES if within(name, packages)}


BACKENDS = {"goscope.memory", "goscope_bun_compat", "goscope_sqlite"}
DRIVERS = {"aiosqlite", "sqlite3"}
FOR_USERS = {"goscope.cli", "goscope.testing"}
CONTRACT = {"goscope.errors", "goscope.events", "goscope.hookspecs", "goscope.providers"}
OPENING = {"goscope._plugins", "goscope._scope", "goscope._settings"}
CORE = members("goscope") - members(*BACKENDS, *FOR_USERS)
FEATURES = CORE - members("goscope.backend", *CONTRACT, *OPENING) - {"goscope"}

FORBIDDEN = {
    "core imports no backend and no driver": (CORE, BACKENDS | DRIVERS),
    "core runs without its extras": (CORE, FOR_USERS),
    "a feature does not know who opens the backend": (FEATURES, OPENING),
    "the contract does not know who uses it": (CONTRACT, FEATURES | OPENING),
    "a backend does not know who uses it": (
        members("goscope.backend", *BACKENDS),
        FEATURES | OPENING | FOR_USERS,
    ),
    "a SQL provider does not know what runs its SQL": (
        members(
            "goscope_sqlite.providers", "goscope_sqlite._engine.protocol", "goscope_sqlite.schema"
        ),
        {"aiosqlite", "goscope_sqlite._engine.thread", "goscope_sqlite.adapter"},
    ),
    "goscope-sqlite does not know what is built on it": (
        members("goscope_sqlite"),
        {"goscope_bun_compat"},
    ),
}


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_arrow_turns(rule: str) -> None:
    """Imports for type checkers count: they are knowledge as well."""
    importers, imported = FORBIDDEN[rule]
    assert importers, "the rule covers no module"
    against = [
        str(found)
        for found in IMPORTS
        if found.importer in importers and within(found.imported, imported)
    ]
    assert against == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_inside_a_distribution_imports_are_relative(folder: str) -> None:
    against = [
        str(found)
        for found in IMPORTS
        if not found.relative
        and within(found.importer, (folder,))
        and within(found.imported, (folder,))
    ]
    assert against == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_declared_dependencies_are_imported(
    folder: str, pyprojects: dict[str, dict[str, Any]]
) -> None:
    """Required ones anywhere, those of an extra only in the part that the extra is for."""
    project = pyprojects[folder]["project"]
    required = {folder, *map(module_of, project["dependencies"])}
    extras = {
        f"{folder}.{extra}": set(map(module_of, requirements))
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


def module_of(requirement: str) -> str:
    """The module of a requirement: all of ours are named as their distribution."""
    match = re.match(r"[\w-]+", requirement)
    assert match is not None
    return match[0].replace("-", "_")


@pytest.mark.parametrize("name", PUBLIC_PACKAGES)
def test_all_is_exact(name: str) -> None:
    """Every public name of a package is in its __all__, submodules aside; nothing else is.

    The linter keeps it sorted.
    """
    package = importlib.import_module(name)
    listed = set(getattr(package, "__all__", ()))
    lazy = listed - vars(package).keys()
    for name in lazy:
        getattr(package, name)
    assert listed == lazy | {
        attribute
        for attribute, value in vars(package).items()
        if not attribute.startswith("_") and not inspect.ismodule(value)
    } - {"annotations"}


def defined_in(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, TypeVar)
        and getattr(value, "__module__", "") == module.__name__
    }


def test_goscope_exposes_every_error_protocol_and_record() -> None:
    wanted = defined_in(errors) | defined_in(providers) | {"MISSING", "Scope"}
    assert wanted - set(goscope.__all__) == set()
