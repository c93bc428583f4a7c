"""What every provider must refuse, and what it must give back unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import pytest


class Bad(NamedTuple):
    """An argument to be refused with this error."""

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
"""Keys that are allowed, each of them another one."""

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
"""What JSON carries, and what must come back equal and of the same types."""

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
"""What JSON cannot carry."""


async def refuses(what: str, call: Callable[[Any], Awaitable[object]], bad: Iterable[Bad]) -> None:
    """Fail unless ``call`` raises, for each bad argument, the error that belongs to it."""
    for value, error in bad:
        shown = f"{value!r:.60}"
        try:
            await call(value)
        except error:
            continue
        except Exception as exc:
            pytest.fail(f"{what} raised {exc!r} for {shown}: raise {error.__name__}")
        pytest.fail(f"{what} accepted {shown}: raise {error.__name__} before anything is done")


def same(found: object, stored: object) -> bool:
    """Whether two JSON values are equal, and of the same types at the top: 1 is not True."""
    return found == stored and type(found) is type(stored)


async def turns(count: int) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)
