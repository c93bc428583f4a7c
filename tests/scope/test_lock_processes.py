"""Shared locks among real processes: stopped, locked out of the file, of another time or place."""

from __future__ import annotations

import asyncio
import json
import shutil
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
from goscope.backend import BaseAdapter, SystemClock, this_process
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

PROGRAM = Path(__file__).with_name("holder.py")
PATIENCE = 30

HOUR = 3_600_000
TTL_MS = 900


class Process:
    """Another process, that prints lines and waits for them."""

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
        """The next line it prints."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def go_on(self) -> None:
        """Give it the line it waits for."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def end(self) -> None:
        """End it where it is, if it has not ended."""
        self._popen.kill()
        self._popen.communicate(timeout=PATIENCE)


@contextmanager
def holding(
    path: Path, *bodies: str, ttl: str = "1h", within: Sequence[str] = (), **clock: Any
) -> Generator[Process]:
    """A process that holds the locks named as the bodies; gone when the block ends."""
    order = json.dumps({"bodies": bodies, "ttl": ttl, "clock": clock})
    holder = Process(*within, sys.executable, PROGRAM, path, order)
    try:
        assert holder.line() == "held"
        yield holder
    finally:
        holder.end()


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


# --- stopped past its leases ---------------------------------------------------------------------

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

Told: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What a process tells that was stopped until its locks had been taken over.

    While it stood still, what else was to happen in its bodies became due too.
    """
    path = tmp_path_factory.mktemp("stopped") / "app.db"
    with holding(path, *BODIES, ttl="3s") as holder:
        return asyncio.run(_stop_and_take_over(path, holder))


async def _stop_and_take_over(path: Path, holder: Process) -> Told:
    async with Scope(backend="sqlite", path=path, locks="shared") as gs:
        async with asyncio.timeout(PATIENCE):
            while await locks_of(gs).holder("nested inside") is None:  # noqa: ASYNC110  # another process sets no event
                await asyncio.sleep(0.001)
        holder.send(signal.SIGSTOP)
        takers = await asyncio.gather(
            *(gs.lock(body, ttl="1h", wait="30s").acquire() for body in BODIES)
        )
        await gs.cache.set("stock", "the taker's", fence=takers[BODIES.index("writing")])
        resumed_ms = SystemClock().steady_ms()
        holder.send(signal.SIGCONT)
        told = json.loads(await asyncio.to_thread(holder.line))
        return {**told, "resumed_ms": resumed_ms, "stock": await gs.cache.get("stock")}


def test_a_stopped_holder_is_told_that_its_lease_is_lost(stopped: Told) -> None:
    assert stopped["waiting"]["raised"] == "LeaseLost"


def test_a_stopped_holder_does_at_most_one_more_step(stopped: Told) -> None:
    """Its timer and the watcher's were due at the same moment."""
    assert stopped["stepping"]["raised"] == "LeaseLost"
    late = [step for step in stopped["stepping"]["noted"] if step > stopped["resumed_ms"]]
    assert len(late) <= 1


def test_a_stopped_holders_fenced_writes_are_not_applied(stopped: Told) -> None:
    assert stopped["writing"]["raised"] == "LeaseLost"
    assert set(stopped["writing"]["noted"]) == {"LeaseLost"}
    assert stopped["stock"] == "the taker's"


def test_a_body_that_swallows_the_cancellation_hides_nothing(stopped: Told) -> None:
    assert stopped["swallowing"]["raised"] == "LeaseLost"


def test_a_bodys_own_error_has_a_note(stopped: Told) -> None:
    assert stopped["failing"]["raised"] == "ZeroDivisionError"
    assert "was lost while it ran" in stopped["failing"]["notes"][0]


def test_a_timeout_within_the_block_does_not_hide_the_loss(stopped: Told) -> None:
    assert stopped["limited_inside"]["raised"] == "LeaseLost"


def test_a_timeout_around_the_block_is_a_timeout(stopped: Told) -> None:
    assert stopped["limited"]["raised"] == "TimeoutError"


def test_an_outside_cancellation_wins(stopped: Told) -> None:
    assert stopped["cancelled"]["raised"] == "CancelledError"
    assert stopped["cancelled"]["cancelling"] == 1


def test_a_task_group_that_fails_has_a_note(stopped: Told) -> None:
    assert stopped["grouped"]["raised"] == "ExceptionGroup"
    assert "was lost while it ran" in stopped["grouped"]["notes"][0]


def test_of_nested_locks_that_are_both_lost_one_speaks(stopped: Told) -> None:
    assert stopped["nested"]["raised"] == "LeaseLost"


@pytest.mark.parametrize("body", [body for body in BODIES if body != "cancelled"])
def test_no_cancellation_is_left_behind(stopped: Told, body: str) -> None:
    assert stopped[body]["cancelling"] == 0


# --- locked out of the file ----------------------------------------------------------------------

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
    """A process that keeps every other one from writing to the file."""

    def lock(self) -> None:
        self.go_on()
        assert self.line() == "locked"


@contextmanager
def locker_of(path: Path) -> Generator[Locker]:
    locker = Locker(sys.executable, "-c", LOCK_FILE, path)
    try:
        assert locker.line() == "ready"
        yield locker
    finally:
        locker.end()


Adapter: TypeAlias = type[SQLiteAdapter] | type[BunSQLiteAdapter]


@pytest.mark.asyncio
@pytest.mark.parametrize("busy_timeout", ["100ms", "5s"])
@pytest.mark.parametrize("adapter", [SQLiteAdapter, BunSQLiteAdapter])
async def test_renewals_that_fail_end_the_body_at_the_deadline(
    path: Path, adapter: Adapter, busy_timeout: str
) -> None:
    """Whether the store says that it is busy, or nothing at all."""
    clock = SystemClock()
    cancelled_ms: list[int] = []

    async def hold(gs: Scope, locker: Locker) -> None:
        async with gs.lock("door", ttl=f"{TTL_MS}ms"):
            locker.lock()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                cancelled_ms.append(clock.steady_ms())
                locker.go_on()
                raise

    async with Scope(persistence=open_later(adapter, path, busy_timeout)) as gs:
        with locker_of(path) as locker:
            asked_ms = clock.steady_ms()
            with pytest.raises(LeaseLost, match="not renewed in time"):
                await hold(gs, locker)
    assert len(cancelled_ms) == 1
    assert cancelled_ms[0] >= asked_ms + TTL_MS


@pytest.mark.asyncio
@pytest.mark.parametrize("adapter", [SQLiteAdapter, BunSQLiteAdapter])
async def test_a_file_that_is_locked_for_a_while_loses_nothing(
    path: Path, adapter: Adapter
) -> None:
    async with Scope(persistence=open_later(adapter, path, "100ms")) as gs:
        with locker_of(path) as locker:
            async with gs.lock("door", ttl="2s") as handle:
                locker.lock()
                await asyncio.sleep(1.2)  # some renewals fail
                locker.go_on()
                await asyncio.sleep(2)
                assert await handle.is_valid()


def open_later(adapter: Adapter, path: Path, busy_timeout: str) -> BaseAdapter:
    return adapter(path, locks="shared", busy_timeout=busy_timeout)


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("step_ms", [-HOUR, HOUR])
async def test_processes_need_not_agree_on_the_wall_clock(
    path: Path, gs: Scope, step_ms: int
) -> None:
    """A lease of ten minutes is not over because somebody's clock is an hour off."""
    with holding(path, "waiting", ttl="10m", wall_ms=step_ms) as holder:
        assert await gs.lock("waiting").try_acquire() is None
        left_ms = await expires_in(gs, "waiting")
        assert 590_000 < left_ms <= 600_000
        holder.send(signal.SIGSTOP)
    with holding(path, "stepping", ttl="2s", wall_ms=step_ms) as holder:
        holder.send(signal.SIGSTOP)  # so that nobody renews it
        assert await expires_in(gs, "stepping") <= 2000
        await gs.lock("stepping", wait="30s").acquire()


async def expires_in(gs: Scope, key: str) -> int:
    holder = await locks_of(gs).holder(key)
    assert holder is not None
    return holder.expires_in_ms


@pytest.mark.asyncio
async def test_leases_of_another_boot_are_over(path: Path, gs: Scope) -> None:
    """Its steady clock was far ahead, and what it says now is the time of another boot."""
    with holding(path, "waiting", boot_id="another boot", steady_ms=1000 * HOUR):
        assert await locks_of(gs).holder("waiting") is None
        assert await gs.lock("waiting").try_acquire() is not None


# --- who holds it --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_dead_holder_is_replaced_at_once(path: Path, gs: Scope) -> None:
    """By who waits already, too: its lease would run for another hour."""
    with holding(path, "waiting") as holder:
        waiting = asyncio.create_task(gs.lock("waiting", wait="30s").acquire())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        holder.send(signal.SIGSTOP)
        await asyncio.sleep(0.5)
        assert not waiting.done(), "a stopped holder was taken for a dead one"
        holder.send(signal.SIGKILL)
        await waiting


@pytest.mark.asyncio
async def test_a_dead_holder_of_another_pid_namespace_is_waited_for(path: Path, gs: Scope) -> None:
    """Its id means another process here, or none."""
    with holding(path, "waiting", ttl="3s", within=in_another_namespace()) as holder:
        found = await locks_of(gs).holder("waiting")
        assert found is not None
        assert (found.host, found.pid) == (socket.gethostname(), 1)
        holder.end()
        ends_ms = SystemClock().steady_ms() + await expires_in(gs, "waiting")
        await gs.lock("waiting", wait="30s").acquire()
        assert SystemClock().steady_ms() >= ends_ms


def in_another_namespace() -> list[str]:
    """The beginning of a command line that runs in a pid namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare to make a pid namespace with")
    options = ["--pid", "--fork", "--mount-proc", "--kill-child"]
    for privilege in ([], ["--user", "--map-root-user"]):
        command = [unshare, *privilege, *options]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("this machine does not let us make a pid namespace")


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
    told = f"held by {error.holder.owner} (host {error.holder.host}, pid {holder.pid}, held for "
    assert told in str(error)


# --- a write that races the takeover -------------------------------------------------------------

WRITE_ON = """
import asyncio, sys
from goscope import LeaseLost
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(sys.argv[1], locks="shared") as adapter:
        for ttl in range(100, 200, 5):
            while (handle := await adapter.lock.acquire("door", ttl)) is None:
                await asyncio.sleep(0.001)
            print(handle.fencing_token, flush=True)
            written = 0
            try:
                async with asyncio.timeout(10):
                    while True:
                        value = f"{handle.fencing_token} {written}"
                        await adapter.cache.set("stock", value, fence=handle)
                        written += 1
            except (LeaseLost, TimeoutError):
                print(written, flush=True)
            sys.stdin.readline()

asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_a_write_that_races_the_takeover_is_applied_before_it_or_not_at_all(
    path: Path, gs: Scope
) -> None:
    """Whoever takes the lock reads what stays; the stale holder writes on as fast as it can."""
    writer = Process(sys.executable, "-c", WRITE_ON, path)
    try:
        for _ in range(20):
            stale = int(await asyncio.to_thread(writer.line))
            taken = await gs.lock("door", ttl="1h", wait="30s").acquire()
            assert taken.fencing_token is not None
            assert taken.fencing_token > stale
            found = await gs.cache.get("stock")
            written = int(await asyncio.to_thread(writer.line))
            assert found == await gs.cache.get("stock") == f"{stale} {written - 1}"
            await taken.release()
            writer.go_on()
    finally:
        writer.end()
