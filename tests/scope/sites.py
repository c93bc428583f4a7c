"""Installed distributions with plugins, in a folder that only one test has on its path."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

BACKENDS: Final = "goscope.backends"
SCHEMES: Final = "goscope.schemes"
OBSERVERS: Final = "goscope.plugins"

VERSION: Final = "6.5"
"""The version of every distribution."""

RAISES: Final = "raise RuntimeError('broken')\n"
"""The source of a module that cannot be imported."""


class Site:
    """A site-packages folder. The fixture ``site`` puts it on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.modules: Final[list[str]] = []

    def install_backends(
        self,
        distribution: str = "acme-goscope",
        /,
        *,
        schemes: Mapping[str, str] | None = None,
        **sources: str,
    ) -> None:
        """Install backends, each one a module; ``schemes`` maps URL schemes to their names."""
        modules = self._write_modules(distribution, sources)
        named = {scheme: modules[name] for scheme, name in (schemes or {}).items()}
        self.add_distribution(distribution, {BACKENDS: modules, SCHEMES: named})

    def install_observers(self, distribution: str = "acme-goscope", /, **sources: str) -> None:
        """Install observer plugins, each one a module."""
        modules = self._write_modules(distribution, sources)
        self.add_distribution(distribution, {OBSERVERS: modules})

    def add_distribution(self, name: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
        """Install a distribution that has entry points, by group and name, and no modules."""
        info = self.folder / f"{name.replace('-', '_')}-{VERSION}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n"
        (info / "METADATA").write_text(metadata)
        lines: list[str] = []
        for group, points in entry_points.items():
            lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def add_module(self, name: str, source: str) -> None:
        """Install a module."""
        (self.folder / f"{name}.py").write_text(textwrap.dedent(source))
        self.modules.append(name)

    def imported(self) -> list[str]:
        """The installed modules that were imported."""
        return [module for module in self.modules if module in sys.modules]

    def _write_modules(self, distribution: str, sources: Mapping[str, str]) -> dict[str, str]:
        """Write a module for each source; return their names by the names of the sources."""
        names = {name: f"{distribution}-{name}".replace("-", "_") for name in sources}
        for name, source in sources.items():
            self.add_module(names[name], source)
        return names
