"""The contract among processes: several at once, killed, and suspended past their leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from ...backend import SystemClock
from ...errors import BackendBusy, CheckpointConflict, LeaseLost
from ...providers import Capability, LockHandle, LockProvider, PersistenceAdapter
from ..processes import Grant, Program, running
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from .checkpoint import checkpoint
from .event_loop import BLOCKED, longest_step
from .lock import granted, token_of

SHORT: Final = "700ms"
"""A lease that runs out while its holder is suspended; real time, so the tests wait for it."""

PATIENCE: Final = 20.0


class ProcessConformance(Conformance, abstract=True):
    """Programs that share a store; tested where the class says ``processes = True``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, claim in vars(ProcessConformance).items():
            if name.startswith("test_"):
                setattr(cls, name, claim if cls.processes else None)  # None is not collected

    @asynccontextmanager
    async def programs(self, tmp_path: Path, count: int) -> AsyncGenerator[list[Program]]:
        """Programs with the store open; this process' own adapters share their real time."""
        self.clock = SystemClock()
        async with running(self, tmp_path, count) as programs:
            yield programs

    def shared_locks(self) -> list[str]:
        """The lock providers that exclude other processes."""
        return ["lease", "lock"] if Capability.SHARED_LOCKS in self.capabilities else ["lease"]

    # --- contention --------------------------------------------------------------------------

    async def test_process_many_may_open_a_new_store_at_once(self, tmp_path: Path) -> None:
        """Whoever comes first creates it, and nobody fails."""
        async with self.programs(tmp_path, 4) as programs:
            for number, program in enumerate(programs):
                await program.call("cache", "set", f"key{number}", number)
            found = await programs[0].call("cache", "keys")
            assert found == ["key0", "key1", "key2", "key3"], "programs do not share one store"

    async def test_process_each_sees_what_another_one_wrote(self, tmp_path: Path) -> None:
        """What was acknowledged to one program is read by the next, whatever the provider."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", [1], "1h", tags=["tag"])
            await circuits_of(adapter).record_failure("key", 1)
            await checkpoints_of(adapter).save(checkpoint(1))
            await idempotency_of(adapter).set("key", None, fingerprint="print")
            lease = await granted(locks_of(adapter), "key")
            assert await program.call("cache", "get", "key") == [1]
            assert (await program.call("circuit_breaker", "get_state", "key")).state == "open"
            assert await program.call("checkpoint", "load_latest", "task") == checkpoint(1)
            assert (await program.call("idempotency", "get", "key")).fingerprint == "print"
            assert (await program.call("lease", "holder", "key")).owner == lease.owner
            assert await program.call("cache", "delete_by_tag", "tag") == 1
            assert not await cache_of(adapter).has("key"), "another program's delete was not seen"

    async def test_process_one_of_many_gets_the_lock(self, tmp_path: Path) -> None:
        """However many ask in however many programs, a lock is granted once."""
        async with self.programs(tmp_path, 3) as programs:
            for role in self.shared_locks():
                answers = await at_once(programs, role, "acquire", "key", "60s", times=5)
                grants = [answer for answer in answers if isinstance(answer, Grant)]
                assert len(grants) == 1, f"adapter.{role}: 15 callers got {len(grants)} grants"
                refused = [answer for answer in answers if answer is None]
                assert len(refused) == 14, f"adapter.{role} must answer None while held: {answers}"

    async def test_process_critical_sections_never_overlap(self, tmp_path: Path) -> None:
        """Reading and writing under a lease loses no update."""
        async with self.programs(tmp_path, 3) as programs:
            await at_once(programs, "program", "count_under_lease", 15)
            count = await programs[0].call("cache", "get", "counter")
            assert count == 45, f"3 programs added 15 each under one lease: {count}"

    async def test_process_tokens_grow_whoever_is_granted(self, tmp_path: Path) -> None:
        """A later grant has a greater token, also one of another program."""
        async with self.programs(tmp_path, 2) as programs:
            tokens: list[int] = []
            for program in programs * 3:
                grant: Grant = await program.call("lease", "acquire", "key", "60s")
                assert grant.fencing_token is not None
                tokens.append(grant.fencing_token)
                await program.call(grant, "release")
            assert tokens == sorted(set(tokens)), f"tokens must grow with each grant: {tokens}"

    async def test_process_increments_all_count(self, tmp_path: Path) -> None:
        """Adding to a number in several programs loses nothing."""
        async with self.programs(tmp_path, 3) as programs:
            counts = await at_once(programs, "cache", "increment", "key", times=20)
            assert sorted(counts) == list(range(1, 61)), "increments of other programs were lost"

    async def test_process_one_add_wins(self, tmp_path: Path) -> None:
        """Of all who add one key in several programs one is told that it did."""
        async with self.programs(tmp_path, 3) as programs:
            added = await at_once(programs, "cache", "add", "key", 1, times=10)
            assert added.count(True) == 1, f"{added.count(True)} of 30 add() calls stored a value"

    async def test_process_failures_all_count(self, tmp_path: Path) -> None:
        """A circuit that fails in several programs opens when together they reach the limit."""
        async with self.programs(tmp_path, 3) as programs:
            counts = await at_once(
                programs, "circuit_breaker", "record_failure", "key", 60, times=20
            )
            assert sorted(counts) == list(range(1, 61)), "failures of other programs were lost"
            state = await programs[0].call("circuit_breaker", "get_state", "key")
            assert state.state == "open"

    async def test_process_one_checkpoint_wins(self, tmp_path: Path) -> None:
        """Programs that save the same step conflict, all but one."""
        async with self.programs(tmp_path, 3) as programs:
            saves = (
                program.call("checkpoint", "save", checkpoint(1, id=f"id{number}"))
                for number, program in enumerate(programs)
            )
            answers = await asyncio.gather(*saves, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, CheckpointConflict)]
            assert (answers.count(None), len(refused)) == (1, 2), f"the answers were {answers}"

    # --- killed ------------------------------------------------------------------------------

    async def test_process_a_lock_is_free_after_its_holder_was_killed(self, tmp_path: Path) -> None:
        """At once, or when its time is up; never kept for ever, nor with an old token."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            roles = self.shared_locks()
            dead = [await program.call(role, "acquire", "key", "2s") for role in roles]
            for role in roles:
                assert await locks_of(adapter, role).acquire("key") is None, "granted twice"
            await program.kill()
            for role, grant in zip(roles, dead, strict=True):
                handle = await in_time(locks_of(adapter, role), "key")
                assert token_of(handle) > grant.fencing_token, "the token went back"

    async def test_process_what_was_acknowledged_survives_a_kill(self, tmp_path: Path) -> None:
        """A program killed while it writes leaves whole writes, and all that it knew were done."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await program.call("program", "write_on")
            async with asyncio.timeout(PATIENCE):
                while await cache.get("acknowledged", 0) < 20:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.001)
            seen = await cache.get("acknowledged")
            await program.kill()
            found = await cache.get_many(["one", "two", "acknowledged"])
            assert found["one"] == found["two"], f"half a write was left behind: {found}"
            assert found["acknowledged"] >= seen, "an acknowledged write is gone"
            assert found["one"] >= found["acknowledged"], "a write overtook an earlier one"

    async def test_process_the_store_works_after_a_kill(self, tmp_path: Path) -> None:
        """Whatever a killed program had locked or half written stands in nobody's way."""
        async with self.programs(tmp_path, 3) as programs:
            for program in programs[1:]:
                await program.call("program", "write_on")
            await asyncio.sleep(0.1)
            for program in programs[1:]:
                await program.kill()
            await programs[0].call("cache", "set_many", {"one": "new", "two": "new"})
            async with self.open_adapter(tmp_path) as adapter:
                assert await cache_of(adapter).get("one") == "new"
                await granted(locks_of(adapter), "key")

    # --- suspended ---------------------------------------------------------------------------

    async def test_process_a_program_suspended_past_its_lease_has_lost_it(
        self, tmp_path: Path
    ) -> None:
        """It finds out when it wakes, and cannot take the lease back."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            late = await overslept(program, locks_of(adapter))
            assert await program.call("program", "lost", late), "its time ran out, lost is False"
            assert not await program.call(late, "is_valid")
            assert not await program.call(late, "extend", "60s"), "it took back a lost lease"
            await program.call(late, "release")
            assert await locks_of(adapter).acquire("key") is None, "it freed another one's lease"

    async def test_process_writes_of_a_program_suspended_past_its_lease_are_refused(
        self, tmp_path: Path
    ) -> None:
        """None of its fenced writes is applied once another program has the lease."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            late = await overslept(program, locks_of(adapter))
            writes: list[tuple[str, str, tuple[Any, ...]]] = [
                ("cache", "set", ("key", "late")),
                ("cache", "add", ("key", "late")),
                ("circuit_breaker", "record_failure", ("key", 1)),
                ("checkpoint", "save", (checkpoint(1),)),
                ("idempotency", "set", ("key", "late")),
            ]
            for target, method, arguments in writes:
                with pytest.raises(LeaseLost):
                    await program.call(target, method, *arguments, fence=late)
            assert not await cache_of(adapter).has("key"), "a late write was applied"
            assert await circuits_of(adapter).get_state("key") is None, "a late write was applied"
            assert await checkpoints_of(adapter).load_latest("task") is None, "a late write"
            assert await idempotency_of(adapter).get("key") is None, "a late write was applied"

    async def test_process_a_program_suspended_while_writing_blocks_no_event_loop(
        self, tmp_path: Path
    ) -> None:
        """Others may have to wait for the store, or hear `BackendBusy`; their loops go on."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            await program.call("program", "write_on")
            blocked: list[float] = []
            for number in range(4):
                await asyncio.sleep(0.02)
                program.suspend()
                writing = asyncio.ensure_future(write_or_busy(adapter, number))
                blocked.append(await longest_step(lambda: asyncio.sleep(0.2)))
                program.resume()
                async with asyncio.timeout(PATIENCE):
                    await writing
            assert min(blocked) < BLOCKED, f"the event loop stood still for {min(blocked):.3f} s"


async def at_once(
    programs: list[Program], target: str, method: str, *arguments: Any, times: int = 1
) -> list[Any]:
    """The answers of all programs to a call they were told to make at the same time."""
    calls = (program.call(target, method, *arguments, times=times) for program in programs)
    answers = await asyncio.gather(*calls)
    return [it for answer in answers for it in (answer if times > 1 else [answer])]


async def in_time(locks: LockProvider, key: str) -> LockHandle:
    """Acquire a lock as soon as it is free."""
    deadline = time.monotonic() + PATIENCE
    while (handle := await locks.acquire(key, "60s")) is None:
        assert time.monotonic() < deadline, f"{key!r} was not free {PATIENCE:g} s later"
        await asyncio.sleep(0.02)
    return handle


async def overslept(program: Program, locks: LockProvider) -> Grant:
    """A grant of a program that was suspended until this process had taken the lease over."""
    late: Grant = await program.call("lease", "acquire", "key", SHORT)
    program.suspend()
    try:
        await in_time(locks, "key")
    finally:
        program.resume()
    return late


async def write_or_busy(adapter: PersistenceAdapter, value: int) -> None:
    try:
        await cache_of(adapter).set("mine", value)
    except BackendBusy:
        pass  # the answer of a store whose lock the suspended program holds
