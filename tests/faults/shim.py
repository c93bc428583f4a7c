"""The library of shim.c: building it, running a program with it, and calling it from there."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from enum import IntFlag
from pathlib import Path
from typing import Final

import pytest

from tests.missing import missing

ROOT: Final = Path(__file__).parents[2]


class Kind(IntFlag):
    """The kinds of system calls that can fail, as in shim.c."""

    OPEN = 1
    READ = 2
    WRITE = 4
    SYNC = 8
    RESIZE = 16
    UNLINK = 32
    MAP = 64
    LOCK = 128
    ALL = 255


def build_shim(folder: Path) -> Path:
    """Compile the library; skip the test where that is not possible."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD and the names of the calls are those of Linux")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing("no C compiler is installed, which compiles what makes system calls fail")
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    built = subprocess.run(
        [compiler, *flags, str(source), "-o", str(library), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return library


def run_with(shim: Path, module: str, *arguments: object, timeout: float) -> str:
    """Run a module of this folder with the library preloaded; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


class Shim:
    """The library in the process into which it is preloaded."""

    def __init__(self, prefix: Path) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_pass.restype = ctypes.c_long
        self._library.shim_watch(os.fsencode(prefix))

    def fail(
        self, nth: int, kinds: Kind, error: int, *, sticky: bool = False, short: bool = False
    ) -> None:
        """Let the nth call of these kinds fail, and with ``sticky`` all later ones.

        With ``short``, a write writes the half of its bytes.
        """
        self._library.shim_fail(ctypes.c_long(nth), int(kinds), error, int(sticky), int(short))

    def stop_failing(self) -> int:
        """Let no call fail any more. The number of calls since `fail`."""
        seen: int = self._library.shim_pass()
        return seen

    def record(self, path: Path) -> None:
        """Record the calls that change files, in this file."""
        self._library.shim_record(os.fsencode(path))

    def mark(self, text: str) -> None:
        """Put a mark into the record."""
        self._library.shim_mark(text.encode())

    def step_clock(self, seconds: int) -> None:
        """Let the wall clock of this process differ by so much from the real one."""
        self._library.shim_step_clock(ctypes.c_long(seconds))
