"""Shared locks among real processes: suspended, dead, or with other clocks and namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from goscope import LeaseLost, LockProvider, LockTimeout, Scope
from goscope.backend import BaseAdapter, BaseLockProvider, SystemClock, this_process
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .lock_holder import TIMER_S
from .support import wait_until
from .workers import GRACE_S

PROGRAM = Path(__file__).with_name("lock_holder.py")

PATIENCE_S = 60
"""Seconds that a process may take to do what it is asked for."""

HOUR_MS = 3_600_000
TTL_MS = 900


class Process:
    """Another process, which prints lines and waits for lines."""

    def __init__(self, *command: object) -> None:
        self._popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def line(self) -> str:
        """The next line of its output."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def resume(self) -> None:
        """Write the line that it waits for."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def wait_suspended(self) -> None:
        """Return when the process is suspended."""
        os.waitid(os.P_PID, self._popen.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        """Kill the process unless it has ended."""
        self._popen.kill()
        self._popen.communicate(timeout=PATIENCE_S)


@contextmanager
def holding(
    path: Path,
    *bodies: str,
    ttl: str = "1h",
    suspend: bool = False,
    within: Sequence[str] = (),
    **clock: Any,
) -> Generator[Process]:
    """A process that holds the locks of these bodies; see lock_holder.py. It ends with the block.

    With ``suspend`` it suspends itself as soon as the timers of the bodies run.
    """
    settings = json.dumps({"names": bodies, "ttl": ttl, "suspend": suspend, "clock": clock})
    holder = Process(*within, sys.executable, PROGRAM, path, settings)
    try:
        assert holder.line() == "held"
        yield holder
    finally:
        holder.kill()


def locks_of(gs: Scope) -> LockProvider:
    locks = gs.persistence.lock
    assert locks is not None
    return locks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest_asyncio.fixture
async def gs(path: Path) -> AsyncIterator[Scope]:
    async with Scope(backend="sqlite", path=path, locks="shared") as gs:
        yield gs


BODIES = (
    "waiting",
    "stepping",
    "writing",
    "swallowing",
    "failing",
    "limited_inside",
    "limited",
    "cancelled",
    "grouped",
    "nested",
)

Report: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def suspended(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a process that was suspended until other owners held its locks.

    The timers of its bodies expired in the meantime, too.
    """
    path = tmp_path_factory.mktemp("suspended") / "app.db"
    with holding(path, *BODIES, ttl="6s", suspend=True) as holder:
        return asyncio.run(_take_over(path, holder))


async def _take_over(path: Path, holder: Process) -> Report:
    async with Scope(backend="sqlite", path=path, locks="shared") as gs:
        await asyncio.to_thread(holder.wait_suspended)
        await asyncio.sleep(TIMER_S)
        successors = await asyncio.gather(
            *(gs.lock(body, ttl="1h", wait="1m").acquire() for body in BODIES)
        )
        fence = successors[BODIES.index("writing")]
        await gs.cache.set("stock", "the successor's", fence=fence)
        resumed_ms = SystemClock().steady_ms()
        holder.send(signal.SIGCONT)
        report = json.loads(await asyncio.to_thread(holder.line))
        return {**report, "resumed_ms": resumed_ms, "stock": await gs.cache.get("stock")}


def test_a_suspended_holder_gets_lease_lost(suspended: Report) -> None:
    assert suspended["waiting"]["raised"] == "LeaseLost"


def test_a_suspended_holder_takes_at_most_one_more_step(suspended: Report) -> None:
    """The timers of the body and of the watcher expired at the same moment."""
    assert suspended["stepping"]["raised"] == "LeaseLost"
    late = [step for step in suspended["stepping"]["noted"] if step > suspended["resumed_ms"]]
    assert len(late) <= 1


def test_fenced_writes_of_a_suspended_holder_are_not_applied(suspended: Report) -> None:
    assert suspended["writing"]["raised"] == "LeaseLost"
    assert set(suspended["writing"]["noted"]) == {"LeaseLost"}
    assert suspended["stock"] == "the successor's"


def test_a_body_that_swallows_the_cancellation_does_not_hide_the_loss(suspended: Report) -> None:
    assert suspended["swallowing"]["raised"] == "LeaseLost"


def test_the_bodys_own_error_gets_a_note(suspended: Report) -> None:
    assert suspended["failing"]["raised"] == "ZeroDivisionError"
    assert "was lost while it ran" in suspended["failing"]["notes"][0]


def test_a_timeout_within_the_block_does_not_hide_the_loss(suspended: Report) -> None:
    """Its time may be over before the store has answered that the lease was taken."""
    limited = suspended["limited_inside"]
    if limited["raised"] != "LeaseLost":
        assert limited["raised"] == "TimeoutError"
        assert "was lost while it ran" in limited["notes"][0]


def test_a_timeout_around_the_block_is_a_timeout(suspended: Report) -> None:
    assert suspended["limited"]["raised"] == "TimeoutError"


def test_an_outside_cancellation_wins(suspended: Report) -> None:
    assert suspended["cancelled"]["raised"] == "CancelledError"
    assert suspended["cancelled"]["cancelling"] == 1


def test_the_error_of_a_task_group_gets_a_note(suspended: Report) -> None:
    assert suspended["grouped"]["raised"] == "ExceptionGroup"
    assert "was lost while it ran" in suspended["grouped"]["notes"][0]


def test_nested_locks_that_are_both_lost_raise_lease_lost_once(suspended: Report) -> None:
    assert suspended["nested"]["raised"] == "LeaseLost"


@pytest.mark.parametrize("body", [body for body in BODIES if body != "cancelled"])
def test_no_cancellation_is_left_behind(suspended: Report, body: str) -> None:
    """Before Python 3.13 a TaskGroup may leave one when a child fails while it exits."""
    left_by_python = body == "grouped" and sys.version_info < (3, 13)
    assert suspended[body]["cancelling"] <= left_by_python


LOCK_FILE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
print("ready", flush=True)
sys.stdin.readline()
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


class Locker(Process):
    """A process that locks the file, so that no other one can write to it."""

    def lock(self) -> None:
        self.resume()
        assert self.line() == "locked"


@contextmanager
def locker_of(path: Path) -> Generator[Locker]:
    locker = Locker(sys.executable, "-c", LOCK_FILE, path)
    try:
        assert locker.line() == "ready"
        yield locker
    finally:
        locker.kill()


Adapter: TypeAlias = type[SQLiteAdapter] | type[BunSQLiteAdapter]


@pytest.mark.asyncio
@pytest.mark.parametrize("busy_timeout", ["100ms", "5s"])
@pytest.mark.parametrize("adapter", [SQLiteAdapter, BunSQLiteAdapter])
async def test_renewals_that_fail_cancel_the_body_at_the_deadline(
    path: Path, adapter: Adapter, busy_timeout: str
) -> None:
    """Whether the store reports that it is busy or does not answer by then."""
    clock = SystemClock()
    cancelled_ms: list[int] = []

    async def hold(gs: Scope, locker: Locker) -> None:
        async with gs.lock("door", ttl=f"{TTL_MS}ms"):
            locker.lock()
            try:
                await asyncio.sleep(PATIENCE_S)
            except asyncio.CancelledError:
                cancelled_ms.append(clock.steady_ms())
                locker.resume()
                raise

    async with Scope(persistence=closed_adapter(adapter, path, busy_timeout)) as gs:
        with locker_of(path) as locker:
            asked_ms = clock.steady_ms()
            with pytest.raises(LeaseLost, match="not renewed in time"):
                await hold(gs, locker)
    assert len(cancelled_ms) == 1
    assert cancelled_ms[0] >= asked_ms + TTL_MS


@pytest.mark.asyncio
@pytest.mark.parametrize("adapter", [SQLiteAdapter, BunSQLiteAdapter])
async def test_a_lease_survives_renewals_that_fail_for_a_while(
    path: Path, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = closed_adapter(adapter, path, "100ms")
    renewals: list[bool] = []
    async with Scope(persistence=closed) as gs:
        locks = locks_of(gs)
        assert isinstance(locks, BaseLockProvider)
        renew = locks._renew  # the primitive of the base class: it sees every renewal

        async def observed(key: str, token: int, ttl_ms: int) -> bool:
            renewals.append(False)
            renewals[-1] = await renew(key, token, ttl_ms)
            return renewals[-1]

        monkeypatch.setattr(locks, "_renew", observed)
        with locker_of(path) as locker:
            async with gs.lock("door", ttl="6s") as handle:
                locker.lock()
                await wait_until(lambda: len(renewals) >= 3)
                assert not any(renewals)
                locker.resume()
                await wait_until(lambda: any(renewals))
                assert await handle.is_valid()


def closed_adapter(adapter: Adapter, path: Path, busy_timeout: str) -> BaseAdapter:
    return adapter(path, locks="shared", busy_timeout=busy_timeout)


@pytest.mark.asyncio
@pytest.mark.parametrize("step_ms", [-HOUR_MS, HOUR_MS])
async def test_processes_need_not_agree_on_the_wall_clock(
    path: Path, gs: Scope, step_ms: int
) -> None:
    """A lease of ten minutes does not expire because one wall clock is an hour off."""
    with holding(path, "waiting", ttl="10m", wall_ms=step_ms) as holder:
        assert await gs.lock("waiting").try_acquire() is None
        left_ms = await expires_in(gs, "waiting")
        assert 300_000 < left_ms <= 600_000
        holder.send(signal.SIGSTOP)
    with holding(path, "stepping", ttl="4s", wall_ms=step_ms) as holder:
        assert await expires_in(gs, "stepping") <= 4000
        holder.send(signal.SIGSTOP)  # so that it no longer renews the lease
        await gs.lock("stepping", wait="1m").acquire()


async def expires_in(gs: Scope, key: str) -> int:
    holder = await locks_of(gs).holder(key)
    assert holder is not None
    return holder.expires_in_ms


@pytest.mark.asyncio
async def test_leases_of_another_boot_have_expired(path: Path, gs: Scope) -> None:
    """Although the steady clock of that boot is far ahead of this one."""
    with holding(path, "waiting", boot_id="another boot", steady_ms=1000 * HOUR_MS):
        assert await locks_of(gs).holder("waiting") is None
        assert await gs.lock("waiting").try_acquire() is not None


@pytest.mark.asyncio
async def test_a_waiter_replaces_a_dead_holder_before_the_lease_expires(
    path: Path, gs: Scope
) -> None:
    with holding(path, "waiting") as holder:
        waiting = asyncio.create_task(gs.lock("waiting", wait="1m").acquire())
        await asyncio.sleep(GRACE_S)
        assert not waiting.done()
        holder.send(signal.SIGSTOP)
        await asyncio.sleep(GRACE_S)
        assert not waiting.done(), "a suspended holder was taken for a dead one"
        holder.send(signal.SIGKILL)
        await waiting


@pytest.mark.asyncio
async def test_the_lease_of_a_dead_holder_of_another_pid_namespace_must_expire(
    path: Path, gs: Scope, unshare: list[str]
) -> None:
    """Its process id is that of another process here, or of none."""
    with holding(path, "waiting", ttl="6s", within=[*unshare, "--mount-proc"]) as holder:
        found = await locks_of(gs).holder("waiting")
        assert found is not None
        assert (found.host, found.pid) == (socket.gethostname(), 1)
        holder.kill()
        expiry_ms = SystemClock().steady_ms() + await expires_in(gs, "waiting")
        await gs.lock("waiting", wait="1m").acquire()
        assert SystemClock().steady_ms() >= expiry_ms


@pytest.mark.asyncio
async def test_a_timeout_names_the_process_that_holds_the_lock(path: Path, gs: Scope) -> None:
    with holding(path, "waiting") as holder:
        await asyncio.sleep(0.2)
        with pytest.raises(LockTimeout) as caught:
            await gs.lock("waiting", wait="100ms").acquire()
    error = caught.value
    assert error.holder is not None
    assert error.holder.owner.startswith(f"{holder.pid}-")
    assert (error.holder.host, error.holder.pid) == (this_process().host, holder.pid)
    assert error.age_ms is not None
    assert error.age_ms >= 300
    named = f"held by {error.holder.owner} (host {error.holder.host}, pid {holder.pid}, held for "
    assert named in str(error)


WRITE_UNTIL_LOST = """
import asyncio, sys
from goscope import LeaseLost
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(sys.argv[1], locks="shared") as adapter:
        for ttl in range(100, 200, 5):
            while (handle := await adapter.lock.acquire("door", ttl)) is None:
                await asyncio.sleep(0.001)
            token, written = handle.fencing_token, 1
            await adapter.cache.set("stock", f"{token} 0", fence=handle)
            print(token, flush=True)  # from here on another process competes for the lock
            try:
                async with asyncio.timeout(60):
                    while True:
                        await adapter.cache.set("stock", f"{token} {written}", fence=handle)
                        written += 1
            except (LeaseLost, TimeoutError):
                print(written, flush=True)
            sys.stdin.readline()

asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_a_write_that_races_with_the_next_grant_is_applied_before_it_or_not_at_all(
    path: Path, gs: Scope
) -> None:
    """The stale holder writes as fast as it can, and changes nothing that the new one has read."""
    writer = Process(sys.executable, "-c", WRITE_UNTIL_LOST, path)
    try:
        for _ in range(20):
            stale = int(await asyncio.to_thread(writer.line))
            granted = await gs.lock("door", ttl="1h", wait="1m").acquire()
            assert granted.fencing_token is not None
            assert granted.fencing_token > stale
            found = await gs.cache.get("stock")
            written = int(await asyncio.to_thread(writer.line))
            assert found == await gs.cache.get("stock") == f"{stale} {written - 1}"
            await granted.release()
            writer.resume()
    finally:
        writer.kill()
