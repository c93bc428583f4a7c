"""The store of py-key-value.

Its own tests are in its repository, and in no distribution: name a checkout of it with
GOSCOPE_TEST_PY_KEY_VALUE to run them. They need dirty-equals.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from .libraries import require

require("key_value.aio", "fastmcp", "httpx")

from key_value.aio.protocols.key_value import AsyncKeyValue

from goscope import Scope
from goscope.integrations.keyvalue import GoscopeKeyValue
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock


@pytest_asyncio.fixture
async def gs() -> AsyncGenerator[Scope]:
    async with Scope(persistence=MemoryAdapter(clock=FakeClock())) as gs:
        yield gs


@pytest.fixture
def store(gs: Scope) -> GoscopeKeyValue:
    return GoscopeKeyValue(gs)


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["a", "a:b/c*", "k" * 1000, "ü\n"])
async def test_values_under_any_key(store: GoscopeKeyValue, key: str) -> None:
    assert isinstance(store, AsyncKeyValue)
    assert await store.get(key, collection="words") is None
    await store.put(key, {"word": "tea"}, collection="words")
    assert await store.get(key, collection="words") == {"word": "tea"}
    assert await store.get(key) is None
    assert await store.delete(key, collection="words")
    assert not await store.delete(key, collection="words")


@pytest.mark.asyncio
async def test_many_values(store: GoscopeKeyValue) -> None:
    await store.put_many(["a", "b"], [{"n": 1}, {"n": 2}])
    assert await store.get_many(["b", "c", "a"]) == [{"n": 2}, None, {"n": 1}]
    assert await store.delete_many(["a", "b", "c"]) == 2


@pytest.mark.asyncio
async def test_values_expire(gs: Scope, store: GoscopeKeyValue) -> None:
    await store.put("a", {"n": 1}, ttl=60)
    value, ttl = await store.ttl("a")
    assert value == {"n": 1}
    assert ttl is not None
    assert 0 < ttl <= 60
    clock = gs.persistence.clock
    assert isinstance(clock, FakeClock)
    await clock.advance("61s")
    assert await store.get("a") is None


@pytest.mark.asyncio
async def test_destroying_stays_inside_the_collection_and_the_namespace(
    gs: Scope, store: GoscopeKeyValue
) -> None:
    other = GoscopeKeyValue(gs, "other")
    for each, collection in ((store, "a"), (store, "a2"), (other, "a")):
        await each.put("key", {}, collection=collection)

    async def found() -> list[bool]:
        places = ((store, "a"), (store, "a2"), (other, "a"))
        return [await each.get("key", collection=name) is not None for each, name in places]

    await store.destroy_collection("a")
    assert await found() == [False, True, True]
    await store.destroy()
    assert await found() == [False, False, True]


THEIRS = """
import pytest

from goscope import Scope
from goscope.integrations.keyvalue import GoscopeKeyValue
from tests.stores.base import BaseStoreTests


class TestGoscope(BaseStoreTests):
    @pytest.fixture
    async def store(self, tmp_path):
        async with Scope(backend="sqlite", path=tmp_path / "store.db") as gs:
            yield GoscopeKeyValue(gs)

    @pytest.mark.skip(reason="a store with a limit of entries: this one has none")
    async def test_not_unbounded(self, store): ...
"""


@pytest.mark.skipif(
    "GOSCOPE_TEST_PY_KEY_VALUE" not in os.environ,
    reason="GOSCOPE_TEST_PY_KEY_VALUE names no checkout of py-key-value, which has its tests",
)
def test_the_tests_of_its_authors(tmp_path: Path) -> None:
    (tmp_path / "test_goscope.py").write_text(THEIRS)
    options = ["-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.environ["GOSCOPE_TEST_PY_KEY_VALUE"]},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
