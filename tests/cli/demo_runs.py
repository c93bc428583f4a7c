"""Runs of ``goscope demo`` as a user starts it, each in its own process group."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "goscope")
EXIT_TIMEOUT_S = 60
RUN_TIMEOUT_S = 110
"""Generous bounds for a loaded machine, below faulthandler_timeout."""

LINE = re.compile(r"(ok|FAILED) +(.+?)  +(.+)")


class Entry(NamedTuple):
    """A line of the ledger."""

    ok: bool
    value: str


class Run:
    """A running demo. The end of the block kills whatever is left of its process group."""

    def __init__(self, *arguments: str | Path, command: Sequence[str] = COMMAND) -> None:
        self.process = subprocess.Popen(
            [*command, "demo", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self.errors = ""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def read_until(self, pattern: str) -> None:
        """Read up to the first line that starts with the pattern."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if re.match(pattern, line):
                return
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.output}")

    def finish(self) -> int:
        """Read the rest of the output and return the exit code."""
        output, self.errors = self.process.communicate(timeout=RUN_TIMEOUT_S)
        self.output += output
        return self.process.returncode

    def is_alive(self) -> bool:
        """Whether any process of the group exists."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_until_all_processes_ended(self) -> None:
        """Wait until no process of the group exists."""
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while self.is_alive():
            self.process.poll()
            assert time.monotonic() < deadline, "a process of the demo is still running"
            time.sleep(0.02)

    @property
    def ledger(self) -> dict[str, Entry]:
        """The lines of the ledger by name."""
        found = (LINE.fullmatch(line) for line in self.output.splitlines())
        return {match[2]: Entry(match[1] == "ok", match[3]) for match in found if match}


def finished(*arguments: str | Path, command: Sequence[str] = COMMAND) -> tuple[int, Run]:
    """Run the demo until it exits."""
    with Run(*arguments, command=command) as run:
        return run.finish(), run
