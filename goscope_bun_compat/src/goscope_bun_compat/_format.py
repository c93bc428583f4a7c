"""What the files of go-go-scope under Bun hold, where that differs from goscope's own."""

from __future__ import annotations

import json
from typing import Any, Final

from goscope.backend import encode
from goscope.errors import SerializationError
from goscope_sqlite.file_adapter import Format

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer up to which a JavaScript number is exact."""

_DIGITS: Final = bytes(ord("0") if chr(byte) in "0123456789" else 0 for byte in range(256))
"""A table for `bytes.translate`: every digit becomes a zero, and everything else none."""

_SIXTEEN: Final = b"0" * 16


def encode_for_javascript(value: Any) -> str:
    """Return the value as JSON that ``JSON.parse`` reads back exactly.

    Raises `SerializationError` for an integer beyond 2**53 - 1, and as `encode` does.
    """
    text = encode(value)
    # No shorter run of digits is too large, so nearly all texts are spared the second look.
    # `rfind` finds nothing three times faster than `in` does.
    if len(text) >= 16 and text.encode().translate(_DIGITS).rfind(_SIXTEEN) >= 0:
        try:
            json.loads(text, parse_int=_check_integer)
        except RecursionError as exc:
            raise SerializationError("a value is nested too deeply to be checked") from exc
    return text


def _check_integer(digits: str) -> None:
    if abs(int(digits)) > MAX_SAFE_INTEGER:
        raise SerializationError(
            f"the integer {digits} is beyond 2**53 - 1, where JavaScript's numbers are not exact: "
            f"store it as a string"
        )


FORMAT: Final = Format(prefix_ids=False, encode=encode_for_javascript)
