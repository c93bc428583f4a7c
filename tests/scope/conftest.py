"""Fixtures: scopes on one store, in memory and in a SQLite file; circuits; a folder of plugins."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from goscope import CircuitBreaker, Scope, _plugins

from . import backends
from .sites import BACKENDS, SCHEMES, Site
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
    """Another open scope on the same store: to the first one, it is another process."""
    async with store.scope() as scope:
        yield scope


@pytest.fixture
def breaker(gs: Scope) -> CircuitBreaker:
    """A circuit that opens at the third failure, for 30 s."""
    return gs.circuit_breaker("api", failure_threshold=3)


@pytest.fixture
def other_breaker(other: Scope) -> CircuitBreaker:
    """The same circuit in another process."""
    return other.circuit_breaker("api", failure_threshold=3)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder of distributions beside the installed ones; afterwards none of it is loaded."""
    folder = tmp_path / "site"
    folder.mkdir()
    made = Site(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    importlib.invalidate_caches()
    _forget_plugins()
    yield made
    _forget_plugins()
    for module in made.imported():
        del sys.modules[module]


@pytest.fixture
def noting_backends(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Install the backends of `backends`, in a working directory without settings."""
    plugin = f"{backends.__name__}:plugin"
    points = {BACKENDS: {"server": plugin, "plain": plugin}, SCHEMES: {"server+tls": plugin}}
    site.add_distribution("acme-goscope", points)
    monkeypatch.chdir(tmp_path)
    backends.opened_with.clear()


def _forget_plugins() -> None:
    # Private: a program keeps its plugins until it ends, so nothing public forgets them.
    _plugins.find_backend.cache_clear()
    _plugins.plugin_observers.cache_clear()
