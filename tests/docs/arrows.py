"""Reads the table of ``docs/architecture.md`` that says who may import whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_ROW = re.compile(r"^\| `([\w.*]+)` \|([^|]*)\|$", re.MULTILINE)
_SECTION = re.compile(r"^\| from \| may import \|\n.*?\n\n", re.MULTILINE | re.DOTALL)
_ROOT = "goscope"
_REST = "goscope.*"


class Arrows:
    """What each row allows.

    A name contains its submodules. The exceptions are ``goscope``, the package itself, and
    ``goscope.*``, its modules that have no other row.
    """

    def __init__(self, allowed: Mapping[str, frozenset[str]]) -> None:
        self.allowed = allowed

    @classmethod
    def of(cls, page: str) -> Arrows:
        """The table on the page."""
        tables = _SECTION.findall(page)
        assert len(tables) == 1, "the page must have one table `| from | may import |`"
        rows = [(row[1], re.findall(r"`([\w.*]+)`", row[2])) for row in _ROW.finditer(tables[0])]
        allowed = {importer: frozenset(imported) for importer, imported in rows}
        assert len(allowed) == len(rows), "two rows have one name"
        return cls(allowed)

    @property
    def names(self) -> set[str]:
        """Every module and package that the table names."""
        return {*self.allowed, *(it for names in self.allowed.values() for it in names)} - {_REST}

    def row_of(self, module: str) -> str:
        """The name of the row that applies to a module."""
        rows = [row for row in self.allowed if self._contains(row, module)]
        return max(rows, key=len) if rows else _REST

    def allows(self, importer: str, imported: str) -> bool:
        """Whether the table allows the import of one module of goscope by another."""
        row = self.row_of(importer)
        names = (row, *self.allowed[row])
        return any(self._contains(name, imported) for name in names) or (
            _REST in names and self.row_of(imported) == _REST
        )

    def violations(self, imports: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The imports, as pairs of importer and imported module, that the table does not allow."""
        return [pair for pair in imports if not self.allows(*pair)]

    def _contains(self, name: str, module: str) -> bool:
        return module == name or (name != _ROOT and module.startswith(f"{name}."))
