"""Stores and scopes: every test here runs in memory and on a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from goscope import Scope

from .support import Store


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a fake clock."""
    made = Store(request.param, tmp_path)
    async with made.opened():
        yield made


@pytest_asyncio.fixture
async def gs(store: Store) -> AsyncIterator[Scope]:
    """An open scope on the store."""
    async with store.scope() as scope:
        yield scope


@pytest_asyncio.fixture
async def other(store: Store) -> AsyncIterator[Scope]:
    """Another open scope on the same store: to the first one as good as another process."""
    async with store.scope() as scope:
        yield scope
