"""How the files of go-go-scope under Bun differ from those of goscope-sqlite."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from goscope.backend import encode
from goscope.errors import SerializationError
from goscope_sqlite.format import Format

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that JavaScript's numbers represent exactly, like all below it."""

_DIGITS: Final = bytes(ord("0") if chr(byte) in "0123456789" else 0 for byte in range(256))
"""A table for `bytes.translate`: digits become ``0``, all other bytes become NUL."""

_SIXTEEN: Final = b"0" * 16

_LONG_INTEGER: Final = re.compile(r"(?:^|[\[:,\s])-?\d{16,}(?:[\],}\s]|$)")
"""What may be such an integer, and is not a float of many digits."""


def encode_for_javascript(value: Any) -> str:
    """Return the value as JSON that JavaScript's ``JSON.parse`` reads back exactly.

    Raises `SerializationError` for an integer beyond 2**53 - 1, and whenever `encode` does.
    """
    text = encode(value)
    # An integer beyond the limit has 16 digits or more, so few texts need the exact check. When
    # there is no match, `rfind` is three times as fast as `in`.
    digits = text.encode().translate(_DIGITS) if len(text) >= 16 else b""
    if digits.rfind(_SIXTEEN) >= 0 and _LONG_INTEGER.search(text) is not None:
        try:
            json.loads(text, parse_int=_check_integer)
        except RecursionError as exc:
            raise SerializationError("the value is nested too deeply: flatten it") from exc
    return text


def _check_integer(digits: str) -> None:
    if abs(int(digits)) > MAX_SAFE_INTEGER:
        raise SerializationError(
            f"the integer {digits} is beyond 2**53 - 1, where JavaScript's numbers are not exact: "
            f"store it as a string"
        )


FORMAT: Final = Format(prefix_ids=False, encode=encode_for_javascript)
