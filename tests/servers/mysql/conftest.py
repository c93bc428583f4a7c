"""What the tests against a MySQL or MariaDB server share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from . import databases
from .store import Store


@pytest.fixture(scope="package", autouse=True)
def _databases(mysql_url: str) -> Iterator[None]:
    yield
    asyncio.run(databases.drop_all())


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    """An empty store, with its own user, who may do everything in its database."""
    store = Store(await databases.database_of(tmp_path))
    await store.create_user()
    yield store
    await store.drop_user()
