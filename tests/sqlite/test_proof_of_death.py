"""A lease is taken before it runs out only with proof that its holder has ended.

The holder lives in this process; another process that cannot look at it wants its lock.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goscope.backend import UNKNOWN_BOOT, SystemClock
from goscope.providers import LockHandle
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

NOBODY = 65534

TAKE = """
import asyncio, os, resource, sys, urllib.parse  # pathlib imports it when it is needed
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(":memory:"):
        pass  # imports everything while that is possible
    {first}
    async with SQLiteAdapter(sys.argv[1], locks="shared", busy_timeout="60s") as adapter:
        {then}
        print(await adapter.lock.acquire("key", "1h") is not None)

asyncio.run(main())
"""

USE_UP_DESCRIPTORS = """highest = os.open("/dev/null", os.O_RDONLY)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))"""

BECOME_NOBODY = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"


def takes(path: Path, command: list[str], *, first: str = "", then: str = "") -> bool:
    """Whether another process, started by the command, gets the lock."""
    source = TAKE.format(first=first, then=then)
    whole = [*command, sys.executable, "-c", source, str(path)]
    done = subprocess.run(whole, stdout=subprocess.PIPE, text=True, check=True, timeout=100)
    return done.stdout.strip() == "True"


async def granted(adapter: SQLiteAdapter, ttl: str = "1h") -> LockHandle:
    handle = await adapter.lock.acquire("key", ttl)
    assert handle is not None
    return handle


@contextmanager
def folder_for_all_users() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@on_linux
@pytest.mark.asyncio
async def test_a_process_without_a_free_descriptor_takes_no_living_lease(path: Path) -> None:
    async with SQLiteAdapter(path, locks="shared") as adapter:
        handle = await granted(adapter)
        assert not takes(path, [], then=USE_UP_DESCRIPTORS)
        assert await handle.is_valid()


@on_linux
@pytest.mark.asyncio
@pytest.mark.parametrize("option", ["hidepid=1", "hidepid=2", "subset=pid"])
async def test_another_user_who_cannot_see_the_holder_takes_no_living_lease(
    mount_namespace: list[str], option: str
) -> None:
    """As a service of systemd with ProtectProc=invisible or ProcSubset=pid."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    mount = f'mount -t proc -o {option} proc /proc && exec "$@"'
    command = [*mount_namespace, "sh", "-c", mount, "sh"]
    with folder_for_all_users() as folder:
        path = folder / "store.db"
        async with SQLiteAdapter(path, locks="shared") as adapter:
            handle = await granted(adapter)
            for file in folder.iterdir():
                file.chmod(0o666)
            assert not takes(path, command, first=BECOME_NOBODY)
            assert await handle.is_valid()


@on_linux
@pytest.mark.asyncio
async def test_a_process_in_a_time_namespace_takes_no_living_lease(
    path: Path, time_namespace: list[str]
) -> None:
    """There the start of each process has another time, and the clock of leases is ahead."""
    async with SQLiteAdapter(path, locks="shared") as adapter:
        handle = await granted(adapter)
        assert not takes(path, time_namespace)
        assert await handle.is_valid()


@on_linux
def test_the_clock_of_leases_is_the_same_in_a_time_namespace(time_namespace: list[str]) -> None:
    code = "from goscope.backend import SystemClock as C; print(C().steady_ms(), C().precise_ms())"
    before = SystemClock().steady_ms()
    done = subprocess.run(
        [*time_namespace, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    steady, precise = done.stdout.split()
    assert before <= int(steady) <= float(precise) <= SystemClock().precise_ms()


@on_linux
def test_what_could_not_be_read_once_is_read_again() -> None:
    source = """
import os, resource
import goscope.backend as backend
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
highest = os.open("/dev/null", os.O_RDONLY)
os.close(highest)
resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
before = backend.this_process().started, backend.SystemClock().boot_id
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
after = backend.this_process().started, backend.SystemClock().boot_id
print([*before, bool(after[0]), after[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(["", UNKNOWN_BOOT, True, SystemClock().boot_id])


# --- a boot id that cannot be read ---------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(("holder", "taker"), [("boot", UNKNOWN_BOOT), (UNKNOWN_BOOT, "boot")])
async def test_a_boot_id_that_cannot_be_read_is_not_that_of_another_boot(
    path: Path, holder: str, taker: str, query: Query
) -> None:
    clock = FakeClock(boot_id=holder)
    async with SQLiteAdapter(path, locks="shared", clock=clock) as adapter:
        handle = await granted(adapter, "9s")
        clock.boot_id = taker
        assert await adapter.lock.acquire("key") is None
        found = await adapter.lock.holder("key")
        assert found is not None
        assert found.expires_in_ms == 9_000
        assert await handle.extend("9s"), "the holder lost its lease"
        await clock.advance("9s")
        assert await adapter.lock.acquire("key") is not None
        assert query("SELECT boot_id FROM go_goscope_locks") == [(taker,)]


@pytest.mark.asyncio
@pytest.mark.parametrize(("holder", "taker"), [("boot", UNKNOWN_BOOT), (UNKNOWN_BOOT, "boot")])
async def test_the_sweeper_keeps_a_renewed_lease_whose_boot_is_unknown(
    path: Path, holder: str, taker: str
) -> None:
    clock = FakeClock(boot_id=holder)
    async with SQLiteAdapter(path, locks="shared", clock=clock) as adapter:
        handle = await granted(adapter)
        await clock.advance("30m")
        for _ in range(50):
            assert await handle.extend("1h")
            await clock.advance("30m")
        clock.boot_id = taker
        await adapter._sweeper.sweep()
        assert await handle.is_valid()
        await clock.advance("25h")
        await adapter._sweeper.sweep()
        assert not await handle.is_valid()


@pytest.mark.asyncio
async def test_a_ticket_from_an_earlier_boot_does_not_block_the_queue(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    """Where boots have no id, its heartbeat may lie in the future."""
    query(
        "INSERT INTO go_goscope_lock_queue VALUES (?, 'another', ?, 1, ?)",
        "lock:key",
        clock.boot_id,
        clock.steady_ms() + 10**9,
    )
    assert await asyncio.wait_for(adapter.lock.wait_released("key", "1s"), 60)  # type: ignore[attr-defined]
    await granted(adapter)
    await adapter._sweeper.sweep()
    assert query("SELECT 1 FROM go_goscope_lock_queue") == []
