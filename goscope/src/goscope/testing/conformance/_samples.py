"""Samples: arguments that every provider must reject, and values that it must return unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

from ...providers import Checkpoint


@dataclass
class Point:
    """A type to store and to decode to."""

    x: int
    y: int


class Bad(NamedTuple):
    """An invalid argument, and the error that a provider must raise for it."""

    value: Any
    error: type[Exception]


BAD_KEYS: Final = (
    Bad("", ValueError),
    Bad("k" * 600, ValueError),
    Bad("nul\0", ValueError),
    Bad("\ud800", ValueError),  # a lone surrogate
    Bad(b"key", TypeError),
    Bad(7, TypeError),
    Bad(None, TypeError),
)

BAD_DURATIONS: Final = (
    Bad(0, ValueError),
    Bad(-1, ValueError),
    Bad(0.0, ValueError),
    Bad(float("nan"), ValueError),
    Bad(float("inf"), ValueError),
    Bad(float("-inf"), ValueError),
    Bad(True, ValueError),
    Bad(False, ValueError),
    Bad("", ValueError),
    Bad("0s", ValueError),
    Bad("-5s", ValueError),
    Bad("5", ValueError),
    Bad("5 s", ValueError),
    Bad("5 parsecs", ValueError),
    Bad(timedelta(0), ValueError),
    Bad(timedelta(seconds=-1), ValueError),
    Bad([5], TypeError),
)

ODD_KEYS: Final = (
    " ",
    "key",
    "key ",
    " key",
    "KEY",
    "Key",
    "kéy",
    "ke\u0301y",  # the same letter as two code points: another key
    "a:b",
    "a/b",
    "a*b",
    "a%b",
    "a_b",
    "a?b",
    "a[b]",
    "a\\b",
    "a'b",
    'a"b',
    "a\nb",
    "-- key",
    "\x7f",
    "ключ",
    "🔑",
    "\ufffd",
    "k" * 512,
    "🔑" * 512,
)
"""Valid keys, all of them different."""

VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**53 - 1,
    -(2**53) + 1,
    0.1,
    -1.5e300,
    5e-324,
    "",
    "text",
    "null",
    "äöü ключ 🔑",
    'quote " slash \\ newline \n nul \0 separator \u2028',
    "x" * 100_000,
    [],
    {},
    [None, [1, [2.5, ["three"]]]],
    {"": 0, "a": {"b": [{"c": None}]}, "ключ": "🔑"},
    {"z": 1, "a": 2},
)
"""JSON values, which must come back equal and of the same types."""

RAW_TEXT: Final = b'{"b":  1, "a":\t[2.0]}'
"""JSON text that no encoder writes like this."""

UNSTORABLE: Final[tuple[Any, ...]] = (
    float("nan"),
    float("inf"),
    float("-inf"),
    [1.0, float("nan")],
    {"deep": [{"er": float("inf")}]},
    object(),
    {"deep": [lambda: None]},
    "\ud800",
)
"""Values that JSON cannot represent."""


def checkpoint(
    sequence: int, task_id: str = "task", data: Any = None, *, id: str | None = None
) -> Checkpoint:
    """A checkpoint whose id follows from its task and sequence."""
    return Checkpoint(
        id=f"{task_id}#{sequence}" if id is None else id,
        task_id=task_id,
        sequence=sequence,
        timestamp=1_700_000_000_000 + sequence,
        data={"step": sequence} if data is None else data,
    )
