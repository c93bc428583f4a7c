"""How the files of one backend on SQLite differ from those of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goscope.backend import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """``prefix_ids`` is whether the ids of tasks and checkpoints carry the prefix.

    ``encode`` returns the JSON text of a value, or raises `SerializationError` if other readers
    would misread it.
    """

    prefix_ids: bool = True
    encode: Callable[[Any], str] = encode
