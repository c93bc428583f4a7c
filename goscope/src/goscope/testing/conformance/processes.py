"""The contract among processes: concurrent, killed, and suspended past their leases."""

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
from ._checks import HANG_S
from ._locks import granted, token_of
from ._samples import checkpoint
from .event_loop import BLOCKED_S, longest_block

SHORT_TTL: Final = "700ms"
"""The ttl of a lease that expires while its holder is suspended. The tests wait for it."""


class ProcessConformance(Conformance, abstract=True):
    """Programs that share a store; tested if the class declares ``processes = True``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, test in vars(ProcessConformance).items():
            if name.startswith("test_"):
                setattr(cls, name, test if cls.processes else None)  # pytest does not collect None

    @asynccontextmanager
    async def programs(self, tmp_path: Path, count: int) -> AsyncGenerator[list[Program]]:
        """Programs with the store open; the adapters of this process use the real clock as well."""
        self.clock = SystemClock()
        async with running(self, tmp_path, count) as programs:
            yield programs

    def shared_locks(self) -> list[str]:
        """The lock providers that exclude other processes."""
        return ["lease", "lock"] if Capability.SHARED_LOCKS in self.capabilities else ["lease"]

    # --- contention --------------------------------------------------------------------------

    async def test_process_several_open_a_new_store_concurrently(self, tmp_path: Path) -> None:
        """One of them creates it, and none of them fails."""
        async with self.programs(tmp_path, 4) as programs:
            for number, program in enumerate(programs):
                await program.call("cache", "set", f"key{number}", number)
            found = await programs[0].call("cache", "keys")
            assert found == ["key0", "key1", "key2", "key3"], "programs do not share one store"

    async def test_process_reads_what_another_wrote(self, tmp_path: Path) -> None:
        """A write that one program has acknowledged is visible to another, for every provider."""
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
            assert not await cache_of(adapter).has("key"), "the delete was not visible"

    async def test_process_one_of_many_callers_gets_the_lock(self, tmp_path: Path) -> None:
        """Concurrent callers in several programs are granted a lock once."""
        async with self.programs(tmp_path, 3) as programs:
            for role in self.shared_locks():
                answers = await concurrently(programs, role, "acquire", "key", "60s", times=5)
                grants = [answer for answer in answers if isinstance(answer, Grant)]
                assert len(grants) == 1, f"adapter.{role}: 15 callers got {len(grants)} grants"
                rejected = [answer for answer in answers if answer is None]
                assert len(rejected) == 14, f"adapter.{role} must return None while held: {answers}"

    async def test_process_critical_sections_never_overlap(self, tmp_path: Path) -> None:
        """A read and a write under one lease lose no update."""
        async with self.programs(tmp_path, 3) as programs:
            await concurrently(programs, "program", "count_under_lease", 15)
            count = await programs[0].call("cache", "get", "counter")
            assert count == 45, f"3 programs added 15 each under one lease: {count}"

    async def test_process_tokens_grow_across_programs(self, tmp_path: Path) -> None:
        """A later grant has a greater token, also when another program has it."""
        async with self.programs(tmp_path, 2) as programs:
            tokens: list[int] = []
            for program in programs * 3:
                grant: Grant = await program.call("lease", "acquire", "key", "60s")
                assert grant.fencing_token is not None
                tokens.append(grant.fencing_token)
                await program.call(grant, "release")
            assert tokens == sorted(set(tokens)), f"tokens must grow with each grant: {tokens}"

    async def test_process_concurrent_increments_all_count(self, tmp_path: Path) -> None:
        """Increments of one counter in several programs lose no step."""
        async with self.programs(tmp_path, 3) as programs:
            counts = await concurrently(programs, "cache", "increment", "key", times=20)
            assert sorted(counts) == list(range(1, 61)), "increments of other programs were lost"

    async def test_process_one_concurrent_add_wins(self, tmp_path: Path) -> None:
        """Of concurrent add() calls in several programs exactly one returns True."""
        async with self.programs(tmp_path, 3) as programs:
            added = await concurrently(programs, "cache", "add", "key", 1, times=10)
            assert added.count(True) == 1, f"{added.count(True)} of 30 add() calls stored a value"

    async def test_process_concurrent_failures_all_count(self, tmp_path: Path) -> None:
        """Failures in several programs open the circuit when their sum reaches the threshold."""
        async with self.programs(tmp_path, 3) as programs:
            counts = await concurrently(
                programs, "circuit_breaker", "record_failure", "key", 60, times=20
            )
            assert sorted(counts) == list(range(1, 61)), "failures of other programs were lost"
            state = await programs[0].call("circuit_breaker", "get_state", "key")
            assert state.state == "open"

    async def test_process_one_concurrent_checkpoint_wins(self, tmp_path: Path) -> None:
        """Of concurrent saves of one sequence in several programs exactly one succeeds."""
        async with self.programs(tmp_path, 3) as programs:
            saves = (
                program.call("checkpoint", "save", checkpoint(1, id=f"id{number}"))
                for number, program in enumerate(programs)
            )
            answers = await asyncio.gather(*saves, return_exceptions=True)
            rejected = [answer for answer in answers if isinstance(answer, CheckpointConflict)]
            assert (answers.count(None), len(rejected)) == (1, 2), f"the results were {answers}"

    # --- killed ------------------------------------------------------------------------------

    async def test_process_a_killed_holder_loses_the_lock(self, tmp_path: Path) -> None:
        """The lock is free at once or when it expires, and the next token is greater."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            roles = self.shared_locks()
            grants = [await program.call(role, "acquire", "key", "60s") for role in roles]
            for role in roles:
                assert await locks_of(adapter, role).acquire("key") is None, "granted twice"
            for grant in grants:
                await program.call(grant, "extend", SHORT_TTL)
            await program.kill()
            for role, grant in zip(roles, grants, strict=True):
                handle = await acquire_when_free(locks_of(adapter, role), "key")
                assert token_of(handle) > grant.fencing_token, "the token is not greater"

    async def test_process_acknowledged_writes_survive_a_kill(self, tmp_path: Path) -> None:
        """Each write of a killed program is applied fully or not at all; acknowledged ones are."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await program.call("program", "keep_writing")
            async with asyncio.timeout(HANG_S):
                while await cache.get("acknowledged", 0) < 20:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.001)
            acknowledged = await cache.get("acknowledged")
            await program.kill()
            found = await cache.get_many(["one", "two", "acknowledged"])
            assert found["one"] == found["two"], f"a write was applied in part: {found}"
            assert found["acknowledged"] >= acknowledged, "an acknowledged write is lost"
            assert found["one"] >= found["acknowledged"], "a write overtook an earlier one"

    async def test_process_the_store_works_after_a_kill(self, tmp_path: Path) -> None:
        """The locks and unfinished writes of a killed program do not block other programs."""
        async with self.programs(tmp_path, 3) as programs:
            for program in programs[1:]:
                await program.call("program", "keep_writing")
            await asyncio.sleep(0.1)
            for program in programs[1:]:
                await program.kill()
            await programs[0].call("cache", "set_many", {"one": "new", "two": "new"})
            async with self.open_adapter(tmp_path) as adapter:
                assert await cache_of(adapter).get("one") == "new"
                await granted(locks_of(adapter), "key")

    # --- suspended ---------------------------------------------------------------------------

    async def test_process_suspended_past_its_lease_has_lost_it(self, tmp_path: Path) -> None:
        """The resumed program reports the loss and cannot recover the lease."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            late = await lose_while_suspended(program, locks_of(adapter))
            assert await program.call("program", "lost", late), "lost is False"
            assert not await program.call(late, "is_valid")
            assert not await program.call(late, "extend", "60s"), "it extended a lost lease"
            await program.call(late, "release")
            assert await locks_of(adapter).acquire("key") is None, "it released a later grant"

    async def test_process_suspended_past_its_lease_cannot_write(self, tmp_path: Path) -> None:
        """The store rejects its fenced writes once another program has the lease."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            late = await lose_while_suspended(program, locks_of(adapter))
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

    async def test_process_suspended_while_writing_blocks_no_event_loop(
        self, tmp_path: Path
    ) -> None:
        """Writes of other programs wait or raise `BackendBusy`, but their event loops still run."""
        async with self.programs(tmp_path, 1) as [program], self.open_adapter(tmp_path) as adapter:
            await program.call("program", "keep_writing")
            blocked: list[float] = []
            for number in range(4):
                await asyncio.sleep(0.02)
                program.suspend()
                writing = asyncio.ensure_future(write_unless_busy(adapter, number))
                blocked.append(await longest_block(lambda: asyncio.sleep(0.2)))
                program.resume()
                async with asyncio.timeout(HANG_S):
                    await writing
            assert min(blocked) < BLOCKED_S, f"the event loop was blocked for {min(blocked):.3f} s"


async def concurrently(
    programs: list[Program], target: str, method: str, *arguments: Any, times: int = 1
) -> list[Any]:
    """The results of a call that all programs make at the same time."""
    calls = (program.call(target, method, *arguments, times=times) for program in programs)
    answers = await asyncio.gather(*calls)
    return [it for answer in answers for it in (answer if times > 1 else [answer])]


async def acquire_when_free(locks: LockProvider, key: str) -> LockHandle:
    """Acquire a lock as soon as it is free."""
    deadline = time.monotonic() + HANG_S
    while (handle := await locks.acquire(key, "60s")) is None:
        assert time.monotonic() < deadline, f"{key!r} was not free after {HANG_S:g} s"
        await asyncio.sleep(0.02)
    return handle


async def lose_while_suspended(program: Program, locks: LockProvider) -> Grant:
    """A grant of a program that is suspended until this process has taken over the lease."""
    late: Grant = await program.call("lease", "acquire", "key", SHORT_TTL)
    program.suspend()
    try:
        await acquire_when_free(locks, "key")
    finally:
        program.resume()
    return late


async def write_unless_busy(adapter: PersistenceAdapter, value: int) -> None:
    try:
        await cache_of(adapter).set("mine", value)
    except BackendBusy:
        pass  # the suspended program holds the lock of the store
