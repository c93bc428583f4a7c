"""Nine reads and one write, the usual load of a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .contender import Contender, Operation


def with_mix(contender: Contender) -> Mapping[str, Operation]:
    """Return what the contender can do, and "mix" if it reads and writes."""
    operations = contender.operations()
    if "get" not in operations or "set" not in operations:
        return operations
    return {**operations, "mix": _mix(operations["get"], operations["set"])}


def _mix(get: Operation, put: Operation) -> Operation:
    def mix(number: int) -> Any:
        return put(number) if _writes(number) else get(number)

    return mix


def _writes(number: int) -> bool:
    """Whether this call of ten writes: another one in each ten, so that all keys are written."""
    return number % 10 == number // 10 % 10
