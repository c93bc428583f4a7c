"""Runs of ``goscope demo`` as a user starts it, each in a process group of its own."""

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
LEAVE_SECONDS = 20
LINE = re.compile(r"(ok|WRONG) +(.+?)  +(.+)")


class Entry(NamedTuple):
    """A line of the ledger."""

    ok: bool
    value: str


class Run:
    """A running demo. At the end of the block nothing of its process group is left."""

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
        """Read lines up to the first that matches the pattern from its beginning."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if re.match(pattern, line):
                return
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.output}")

    def finish(self) -> int:
        """Read the rest; the exit code."""
        output, self.errors = self.process.communicate(timeout=60)
        self.output += output
        return self.process.returncode

    def is_alive(self) -> bool:
        """Whether any process of the group is there."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_until_nothing_is_left(self) -> None:
        """Wait for the end of every process of the group."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while self.is_alive():
            self.process.poll()
            assert time.monotonic() < deadline, "some process of the demo lives on"
            time.sleep(0.02)

    @property
    def ledger(self) -> dict[str, Entry]:
        """The lines of the ledger by their names."""
        found = (LINE.fullmatch(line) for line in self.output.splitlines())
        return {match[2]: Entry(match[1] == "ok", match[3]) for match in found if match}


def finished(*arguments: str | Path, command: Sequence[str] = COMMAND) -> tuple[int, Run]:
    """Run the demo to its end."""
    with Run(*arguments, command=command) as run:
        return run.finish(), run
