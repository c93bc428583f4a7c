"""Functions that tests decorate with ``@gs.cached``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from goscope import Scope


@dataclass
class User:
    name: str


class Color(enum.Enum):
    RED = "red"


closed = Scope(backend="memory")
"""A scope that is never opened: keys need no store."""


calls: list[Any] = []


@closed.cached("5m")
async def module_level(number: int, *more: int, name: str = "ada", **options: object) -> list[Any]:
    calls.append((number, more, name, options))
    return [number, name]
