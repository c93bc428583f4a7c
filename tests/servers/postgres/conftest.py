"""What the tests against a PostgreSQL server share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from .stores import Store


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    """A schema of this test, with the clock of the server."""
    store = asyncio.run(Store.create())
    yield store
    asyncio.run(store.drop())
