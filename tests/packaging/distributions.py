"""The distributions of this workspace: their folders, and how to build and install them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "goscope",
    "goscope_bun_compat",
    "goscope_mysql",
    "goscope_postgres",
    "goscope_redis",
    "goscope_sqlite",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment with the given wheels and their dependencies, nothing else."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, *wheels: Path | str) -> Self:
        venv.create(folder, with_pip=False, symlinks=True)
        (folder / "empty").mkdir()
        environment = cls(folder=folder)
        environment.install(*wheels)
        return environment

    def install(self, *wheels: Path | str) -> None:
        """Install wheels and their dependencies."""
        pip("--python", self.folder, "install", *wheels)

    def run(
        self, *arguments: str, path: Path | None = None, timeout: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python in an empty directory; ``path`` precedes its packages.

        Of this process's environment variables it inherits only PATH.
        """
        inherited = {"PATH": os.environ["PATH"]}
        added = {} if path is None else {"PYTHONPATH": str(path)}
        return subprocess.run(
            [self.folder / "bin" / "python", *arguments],
            cwd=self.folder / "empty",
            env=inherited | added | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def build_wheel(source: Path, target: Path) -> Path:
    """Build the wheel of a source folder with the installed hatchling."""
    target.mkdir(parents=True, exist_ok=True)
    before = set(target.iterdir())
    _checked(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=source)
    (wheel,) = set(target.iterdir()) - before
    return wheel


def pip(*arguments: Path | str) -> None:
    _checked(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def _checked(*command: Path | str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
