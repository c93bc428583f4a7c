"""Saying which values an option takes."""

from __future__ import annotations

from collections.abc import Sequence


def nearest(value: object, choices: Sequence[str]) -> str:
    """``did you mean 'shared'?`` after a separator, "" when no choice is near the value."""
    import difflib  # rarely needed, and it would add to the start of every program

    found = difflib.get_close_matches(str(value), choices, n=1)
    return f": did you mean {found[0]!r}?" if found else ""


def must_be(value: object, choices: Sequence[str]) -> str:
    """Say that the value must be one of the choices, and which of them is near."""
    *first, last = map(repr, choices)
    listed = f"{', '.join(first)} or {last}" if first else last
    return f"must be {listed}, not {value!r}{nearest(value, choices)}"
