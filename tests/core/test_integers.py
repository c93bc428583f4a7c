"""Integers that a store cannot hold are refused before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from goscope import Checkpoint, CircuitBreakerState
from goscope.memory import MemoryAdapter

pytestmark = pytest.mark.asyncio

LARGEST = 2**53 - 1


def checkpoint(**numbers: int) -> Checkpoint:
    values = {"sequence": 1, "timestamp": 1, **numbers}
    return Checkpoint(id="c", task_id="task", data=1, progress=1, **values)


def circuit(numbers: dict[str, Any]) -> CircuitBreakerState:
    return CircuitBreakerState(**numbers)


@pytest.mark.parametrize("field", ["sequence", "timestamp", "estimated_time_remaining"])
async def test_a_number_of_a_checkpoint(field: str) -> None:
    async with MemoryAdapter() as adapter:
        for number in (LARGEST + 1, 2**63, 10**30):
            with pytest.raises(ValueError, match=rf"{field} must be an int .*2\*\*53"):
                await adapter.checkpoint.save(checkpoint(**{field: number}))
            assert await adapter.checkpoint.load_latest("task") is None
        await adapter.checkpoint.save(checkpoint(**{field: LARGEST}))
        with pytest.raises(ValueError, match="keep_count"):
            await adapter.checkpoint.cleanup("task", 2**63)


@pytest.mark.parametrize(
    "field", ["failure_count", "success_count", "last_failure_time", "last_success_time"]
)
async def test_a_number_of_a_circuit(field: str) -> None:
    async with MemoryAdapter() as adapter:
        for number in (LARGEST + 1, 2**63):
            with pytest.raises(ValueError, match=field):
                await adapter.circuit_breaker.set_state("key", circuit({field: number}))
        await adapter.circuit_breaker.set_state("key", circuit({field: LARGEST}))
        with pytest.raises(ValueError, match="max_failures"):
            await adapter.circuit_breaker.record_failure("key", 2**63)
