"""A mix of nine reads and one write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .subject import Operation, Subject


def with_mix(subject: Subject) -> Mapping[str, Operation]:
    """Return the subject's operations, and "mix" if it can get and set."""
    operations = subject.operations()
    if "get" not in operations or "set" not in operations:
        return operations
    return {**operations, "mix": _mix(operations["get"], operations["set"])}


def _mix(get: Operation, put: Operation) -> Operation:
    def mix(number: int) -> Any:
        return put(number) if _writes(number) else get(number)

    return mix


def _writes(number: int) -> bool:
    """Whether this call writes: one in ten, at a shifting position, to reach every key."""
    return number % 10 == number // 10 % 10
