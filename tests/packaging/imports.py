"""The import graph of the workspace: who imports what, and where imports form a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from .distributions import FOLDERS, ROOT


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's edge in the graph."""

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
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


class _Collector(ast.NodeVisitor):
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


IMPORTS = [found for name, path in MODULES.items() for found in _Collector(name, path).found]
"""Every import, also those inside functions and those for type checkers only."""


def within(name: str, packages: Iterable[str]) -> bool:
    """Whether the module is one of the packages or in one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def members(*packages: str) -> set[str]:
    """The modules of the packages, and the packages themselves."""
    return {name for name in MODULES if within(name, packages)}


def module_graph() -> dict[str, set[str]]:
    """Which modules of the workspace each module imports."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in IMPORTS:
        if found.imported in MODULES:
            graph[found.importer].add(found.imported)
    return graph


def package_graph() -> dict[str, set[str]]:
    """Which packages each package imports, without those that contain it or that it contains.

    A package and its subpackages are one unit: each may import the other.
    """
    graph: dict[str, set[str]] = {name: set() for name in PACKAGES}
    for importer, imports in module_graph().items():
        for imported in imports:
            one, two = _package(importer), _package(imported)
            if not within(one, [two]) and not within(two, [one]):
                graph[one].add(two)
    return graph


def _package(module: str) -> str:
    return module if module in PACKAGES else module.rpartition(".")[0]


def find_circle(graph: Mapping[str, Set[str]]) -> list[str] | None:
    """A shortest circle of the graph, its first node repeated at the end; None without one."""
    circles = [circle for node in sorted(graph) if (circle := _circle_through(node, graph))]
    return min(circles, key=len, default=None)


def _circle_through(start: str, graph: Mapping[str, Set[str]]) -> list[str] | None:
    paths = [[start]]
    visited: set[str] = set()
    for path in paths:  # breadth first: paths grow while they are searched
        for node in sorted(graph.get(path[-1], ())):
            if node == start:
                return [*path, start]
            if node not in visited:
                visited.add(node)
                paths.append([*path, node])
    return None
