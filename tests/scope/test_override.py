"""``goscope.testing.override``: another store and another clock while a test runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from goscope import ConfigurationError, InvalidOption, Scope, _plugins
from goscope.backend import Backend
from goscope.memory import MemoryAdapter, MemoryOptions
from goscope.testing import FakeClock, override
from goscope_sqlite import SQLiteAdapter

from .support import ForeignAdapter, Gate

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("own", ["url", "backend", "persistence", "nothing"])
async def test_the_scope_opens_memory_instead_of_its_own(tmp_path: Path, own: str) -> None:
    path = tmp_path / "app.db"
    gs = {
        "url": Scope(f"sqlite:///{path}"),
        "backend": Scope(backend="sqlite", path=path),
        "persistence": Scope(persistence=SQLiteAdapter(path)),
        "nothing": Scope(),
    }[own]
    with override(gs) as overridden:
        assert overridden is gs
        async with gs:
            assert isinstance(gs.persistence, MemoryAdapter)
    assert not path.exists()


async def test_afterwards_its_own_settings_are_back(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db")
    with pytest.raises(ZeroDivisionError), override(gs, clock=FakeClock()):
        _ = 1 / 0
    async with gs:
        assert isinstance(gs.persistence, SQLiteAdapter)
        assert not isinstance(gs.persistence.context.clock, FakeClock)


async def test_scope_and_backend_live_by_the_clock() -> None:
    """A lock is renewed by the one and expires by the other."""
    gs, clock, gate = Scope(backend="sqlite", path="unused"), FakeClock(), Gate()

    @gs.cached("5m", key="value")
    async def value() -> int:
        return gate.entered

    async def enter() -> None:
        async with gs.lock("door", ttl="9s"):
            await gate.passing()

    with override(gs, clock=clock):
        async with gs:
            assert await value() == 0
            holder = asyncio.create_task(enter())
            await gate.arrival()
            await clock.advance("1m")
            assert await gs.lock("door").try_acquire() is None
            assert await value() == 0
            await clock.advance("4m")
            assert await value() == 1
            gate.open()
            await holder


async def test_options_are_those_of_the_backend(tmp_path: Path) -> None:
    gs = Scope(backend="memory")
    with override(gs, backend="sqlite", path=tmp_path / "test.db", clock=FakeClock()):
        async with gs:
            assert isinstance(gs.persistence, SQLiteAdapter)
            assert isinstance(gs.persistence.context.clock, FakeClock)
    with override(gs, nonsense=1), pytest.raises(InvalidOption, match="nonsense"):
        await gs.open()


async def test_a_backend_that_takes_no_clock_is_refused_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = Backend(
        name="foreign", summary="", options=MemoryOptions, open=lambda _: ForeignAdapter()
    )

    def find_backend(name: str) -> Backend:
        assert name == "foreign"
        return foreign

    monkeypatch.setattr(_plugins, "find_backend", find_backend)
    gs = Scope(backend="memory")
    with (
        override(gs, backend="foreign", clock=FakeClock()),
        pytest.raises(ConfigurationError, match="ForeignAdapter takes no clock"),
    ):
        await gs.open()
    with override(gs, backend="foreign"):
        async with gs:
            assert isinstance(gs.persistence, ForeignAdapter)


async def test_it_nests() -> None:
    gs = Scope(backend="memory", key_prefix="own:")
    with override(gs, key_prefix="outer:"):
        with override(gs, key_prefix="inner:"):
            pass
        async with gs:
            assert isinstance(gs.persistence, MemoryAdapter)
            assert gs.persistence.context.prefix == "outer:"


async def test_an_open_scope_is_refused() -> None:
    async with Scope(backend="memory") as gs:
        with (
            pytest.raises(ConfigurationError, match="override it before it is opened"),
            override(gs),
        ):
            pytest.fail("it must not begin")
