"""Fixtures: the real Bun, a service that runs under it, and an adapter on the same file."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from goscope_bun_compat import BunSQLiteAdapter
from tests.missing import missing

INSTALLED = Path(__file__).parents[2] / ".bun/node_modules/.bin/bun"
SERVICE = Path(__file__).with_name("service.ts")


class BunService:
    """The service under Bun: each call writes one line to it and reads one line from it."""

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
        assert line, f"the service exited with code {self._process.wait(60)}, see its error above"
        return json.loads(line)


Serve = Callable[..., BunService]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


@pytest_asyncio.fixture
async def adapter(path: Path) -> AsyncIterator[BunSQLiteAdapter]:
    async with BunSQLiteAdapter(path, busy_timeout="60s") as adapter:
        yield adapter


@pytest.fixture(scope="session")
def bun() -> str:
    """The path of Bun. Without Bun the tests are skipped, or fail in continuous integration."""
    found = str(INSTALLED) if INSTALLED.exists() else shutil.which("bun")
    if found is None:
        missing("Bun is not installed: run `make bun`, which fetches it from npm")
    return found


@pytest.fixture
def serve(bun: str, path: Path) -> Iterator[Serve]:
    """Start services under Bun on the file, which end with the test."""
    with ExitStack() as stack:

        def start(prefix: str = "") -> BunService:
            process = subprocess.Popen(
                [bun, SERVICE, path, prefix],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)  # waits for the process at the end
            stack.callback(process.kill)
            return BunService(process)

        yield start
