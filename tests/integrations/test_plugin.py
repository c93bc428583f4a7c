"""The fixtures of goscope.testing.plugin, in a project that switches them on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = 'pytest_plugins = ["goscope.testing.plugin"]\n'

TESTS = """
import asyncio

from goscope.events import LockAcquired


def test_a_scope_in_memory_on_a_fake_clock(goscope_scope, goscope_clock, goscope_events):
    async def use():
        async with goscope_scope as gs:
            await gs.cache.set("key", 1, ttl="1h")
            assert await gs.cache.get("key") == 1
            await goscope_clock.advance("2h")
            assert await gs.cache.get("key") is None
            async with gs.lock("stock") as handle:
                assert handle.fencing_token is not None

    asyncio.run(use())
    assert [event.scope for event in goscope_events if isinstance(event, LockAcquired)] == ["test"]


def test_a_scope_on_a_file(goscope_file_scope, tmp_path):
    async def use():
        async with goscope_file_scope as gs:
            await gs.cache.set("key", 1)

    asyncio.run(use())
    assert (tmp_path / "goscope.db").exists()


def test_the_next_one_is_empty(goscope_file_scope, goscope_scope):
    async def use():
        async with goscope_file_scope as gs, goscope_scope as other:
            assert await gs.cache.get("key") is None
            assert await other.cache.get("key") is None

    asyncio.run(use())
"""


def test_a_project_switches_them_on_by_name(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
