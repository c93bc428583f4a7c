"""Fixtures of the tests of the Redis backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from .servers import RedisServer, running_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server that a test may break."""
    async with running_server(tmp_path / "server") as server:
        yield server
