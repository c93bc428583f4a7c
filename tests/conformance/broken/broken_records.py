"""Backends with one bug each in circuits, checkpoints or results.

The docstring of a test class names the bug.
"""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from goscope.backend import Fence, NewResult, StoredCheckpoint
from goscope.backend.records import (
    RecordCheckpointProvider,
    RecordCircuitBreakerStateProvider,
    RecordIdempotencyProvider,
)
from goscope.errors import LeaseLost
from goscope.providers import CircuitBreakerState, IdempotencyRecord

from .correct import Broken, broken


class ErrorSwallowingCircuits(RecordCircuitBreakerStateProvider):
    async def _update(self, key: str, change: Any, fence: Fence | None) -> None:
        try:
            await super()._update(key, change, fence)
        except LeaseLost:
            pass


class TestErrorSwallowed(Broken):
    """A rejected write of a circuit state raises nothing."""

    provider = "circuit"
    adapter = broken("circuit_breaker", ErrorSwallowingCircuits)


class DatingCircuits(RecordCircuitBreakerStateProvider):
    async def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> int:
        count = await super()._record_failure(key, max_failures, fence)
        now = self.context.clock.wall_ms()

        def date(state: CircuitBreakerState | None) -> CircuitBreakerState:
            assert state is not None
            return msgspec.structs.replace(state, last_failure_time=now)

        await self._update(key, date, fence)
        return count


class TestForcedOpenCircuitDated(Broken):
    """A late failure dates a forced-open circuit, which then closes."""

    provider = "circuit"
    adapter = broken("circuit_breaker", DatingCircuits)


class UnfencedCheckpoints(RecordCheckpointProvider):
    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        await super()._save(row, None)


class TestUnfencedWrite(Broken):
    """save() ignores its fence."""

    provider = "checkpoint"
    adapter = broken("checkpoint", UnfencedCheckpoints)


class StaleOwnerCheckpoints(RecordCheckpointProvider):
    def check(
        self, row: StoredCheckpoint, latest: StoredCheckpoint | None, known: StoredCheckpoint | None
    ) -> None:
        if known is not None:
            super().check(row, latest, known)


class TestStaleOwnerSave(Broken):
    """A checkpoint below the latest sequence is saved if its id is new."""

    provider = "checkpoint"
    adapter = broken("checkpoint", StaleOwnerCheckpoints)


class UnorderedCheckpoints(RecordCheckpointProvider):
    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        return (await super()._list(task_id))[::-1]

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        rows = await super()._list(task_id)
        return rows[-1] if rows else None


class TestWrongOrderOfList(Broken):
    """list() starts with the latest checkpoint."""

    provider = "checkpoint"
    adapter = broken("checkpoint", UnorderedCheckpoints)


class PrefixLeakResults(RecordIdempotencyProvider):
    def _stored(self, key: str) -> str:
        return super()._stored(key).removeprefix(self.context.prefix)


class TestPrefixLeak(Broken):
    """All prefixes share their results."""

    provider = "idempotency"
    adapter = broken("idempotency", PrefixLeakResults)


class TwoStepResults(RecordIdempotencyProvider):
    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        await super()._set(key, result, fence, False)


class TestLeaseNotEnded(Broken):
    """Completing a call does not end its lease."""

    provider = "idempotency"
    adapter = broken("idempotency", TwoStepResults)


class MergingCircuits(RecordCircuitBreakerStateProvider):
    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        def merge(old: CircuitBreakerState | None) -> CircuitBreakerState:
            success = state.last_success_time or (old and old.last_success_time) or None
            return msgspec.structs.replace(state, last_success_time=success)

        await self._update(key, merge, fence)


class TestStateMerged(Broken):
    """set_state() keeps the time of the last success if the new state has none."""

    provider = "circuit"
    adapter = broken("circuit_breaker", MergingCircuits)


class UntypedResults(RecordIdempotencyProvider):
    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        return await super().get(key, type=type if type is msgspec.Raw else None)


class TestResultTypeIgnored(Broken):
    """get() does not decode the result to its type."""

    provider = "idempotency"
    adapter = broken("idempotency", UntypedResults)


class RawIgnoringResults(RecordIdempotencyProvider):
    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        record = await super().get(key, type=type)
        if record is None or type is not msgspec.Raw:
            return record
        return msgspec.structs.replace(record, value=bytes(record.value))


class TestRawResultAsBytes(Broken):
    """get() returns bytes for the type ``msgspec.Raw``."""

    provider = "idempotency"
    adapter = broken("idempotency", RawIgnoringResults)


class RecodingResults(RecordIdempotencyProvider):
    async def set(self, key: str, value: Any, ttl: Any = None, **options: Any) -> None:
        decoded = msgspec.json.decode(value) if type(value) is msgspec.Raw else value
        await super().set(key, decoded, ttl, **options)


class TestRawResultReencoded(Broken):
    """set() decodes and encodes a ``msgspec.Raw``."""

    provider = "idempotency"
    adapter = broken("idempotency", RecodingResults)
