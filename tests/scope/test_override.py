"""``goscope.testing.override``: another store and another clock while a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from goscope import ConfigurationError, InvalidOption, Scope
from goscope.backend import Backend
from goscope.hookspecs import hookimpl
from goscope.memory import MemoryAdapter, MemoryOptions
from goscope.testing import FakeClock, override
from goscope_sqlite import SQLiteAdapter

from .sites import BACKENDS, Site
from .support import ForeignAdapter, PausedCall

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("own", ["url", "backend", "persistence", "nothing"])
async def test_an_overridden_scope_opens_the_memory_backend(tmp_path: Path, own: str) -> None:
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


async def test_after_the_block_the_scope_has_its_own_settings_again(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db")
    with pytest.raises(ZeroDivisionError), override(gs, clock=FakeClock()):
        _ = 1 / 0
    async with gs:
        assert isinstance(gs.persistence, SQLiteAdapter)
        assert not isinstance(gs.persistence.context.clock, FakeClock)


async def test_scope_and_backend_use_the_clock() -> None:
    """The scope renews a lock on it, and the backend lets the lock expire on it."""
    gs, clock, paused = Scope(backend="sqlite", path="unused"), FakeClock(), PausedCall()

    @gs.cached("5m", key="value")
    async def value() -> int:
        return paused.calls

    async def enter() -> None:
        async with gs.lock("door", ttl="9s"):
            await paused.run()

    with override(gs, clock=clock):
        async with gs:
            assert await value() == 0
            holder = asyncio.create_task(enter())
            await paused.started()
            await clock.advance("1m")
            assert await gs.lock("door").try_acquire() is None
            assert await value() == 0
            await clock.advance("4m")
            assert await value() == 1
            paused.resume()
            await holder


async def test_the_options_belong_to_the_overriding_backend(tmp_path: Path) -> None:
    gs = Scope(backend="memory")
    with override(gs, backend="sqlite", path=tmp_path / "test.db", clock=FakeClock()):
        async with gs:
            assert isinstance(gs.persistence, SQLiteAdapter)
            assert isinstance(gs.persistence.context.clock, FakeClock)
    with override(gs, nonsense=1), pytest.raises(InvalidOption, match="nonsense"):
        await gs.open()


class ForeignPlugin:
    @hookimpl
    def goscope_backends(self) -> Sequence[Backend]:
        return [
            Backend(
                name="foreign", summary="", options=MemoryOptions, open=lambda _: ForeignAdapter()
            )
        ]


foreign_plugin = ForeignPlugin()


async def test_a_clock_is_refused_for_a_backend_that_takes_none(site: Site) -> None:
    site.add_distribution("acme", {BACKENDS: {"foreign": f"{__name__}:foreign_plugin"}})
    gs = Scope(backend="memory")
    with (
        override(gs, backend="foreign", clock=FakeClock()),
        pytest.raises(ConfigurationError, match="ForeignAdapter takes no clock"),
    ):
        await gs.open()
    with override(gs, backend="foreign"):
        async with gs:
            assert isinstance(gs.persistence, ForeignAdapter)


async def test_overrides_nest() -> None:
    gs = Scope(backend="memory", key_prefix="own:")
    with override(gs, key_prefix="outer:"):
        with override(gs, key_prefix="inner:"):
            pass
        async with gs:
            assert isinstance(gs.persistence, MemoryAdapter)
            assert gs.persistence.context.prefix == "outer:"


async def test_an_open_scope_cannot_be_overridden() -> None:
    async with Scope(backend="memory") as gs:
        with (
            pytest.raises(ConfigurationError, match="override it before it is opened"),
            override(gs),
        ):
            pytest.fail("it must not begin")
