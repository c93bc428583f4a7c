"""Stored values as they are printed."""

from __future__ import annotations

from typing import Any

import msgspec


def json_value(stored: msgspec.Raw) -> Any:
    """The stored JSON text, or a string of it if another program wrote what is not JSON."""
    text = bytes(stored)
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text.decode(errors="replace")
    return stored


def text_of(stored: msgspec.Raw) -> str:
    """The stored text on one line, without what could control a terminal."""
    text = bytes(stored).decode(errors="replace")
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)
