"""The real Bun, and a service that runs under it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

INSTALLED = Path(__file__).parents[2] / ".bun/node_modules/.bin/bun"
SERVICE = Path(__file__).with_name("service.ts")


class BunService:
    """The service under Bun: each call is one line to it and one line back."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, name: str, *arguments: Any) -> Any:
        self.start(name, *arguments)
        return self.result()

    def start(self, name: str, *arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the service ended with code {self._process.wait(10)}, see its error above"
        return json.loads(line)


Serve = Callable[..., BunService]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


@pytest.fixture(scope="session")
def bun() -> str:
    """The program; without it the tests are skipped, but never where a change is accepted."""
    found = str(INSTALLED) if INSTALLED.exists() else shutil.which("bun")
    if found is None:
        reason = "there is no Bun: `make bun` fetches it from npm"
        if os.environ.get("GOSCOPE_CI") or os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def serve(bun: str, path: Path) -> Iterator[Serve]:
    """Start services under Bun on the file; they end with the test."""
    with ExitStack() as stack:

        def start(prefix: str = "") -> BunService:
            process = subprocess.Popen(
                [bun, SERVICE, path, prefix],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)  # waits at the end
            stack.callback(process.kill)
            return BunService(process)

        yield start
