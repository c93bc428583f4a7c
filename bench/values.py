"""The stored values: 1 KB and 10 KB, each different from the others.

SQLite skips a write that would not change any byte, so equal values would measure too little.
"""

from __future__ import annotations

import time
from typing import Any, Final

from goscope.providers import Checkpoint

_LINE: Final = {"sku": "PX-0042-A", "name": "mounting plate", "count": 3, "price": 12.75}
_LARGE_LINE: Final = {**_LINE, "note": "stainless, brushed, with screws", "tags": ["a", "b", "c"]}
_PERSON: Final = {
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "active": True,
    "score": 0.875,
    "roles": ["reader", "editor", "owner"],
    "address": {"street": "12 St James's Square", "city": "London", "zip": "SW1Y 4JH"},
    "note": "met at the exhibition of the difference engine; " * 4,
}


def small(number: int) -> dict[str, Any]:
    """Return a value of about 1 KB of JSON."""
    return {"id": number, "lines": [_LINE] * 8, **_PERSON}


def large(number: int) -> dict[str, Any]:
    """Return a value of about 10 KB of JSON."""
    return {"id": number, "lines": [_LARGE_LINE] * 80, **_PERSON}


def checkpoint(number: int) -> Checkpoint:
    """Return the next checkpoint of one of ten tasks, with a large value."""
    now = time.time_ns()
    return Checkpoint(
        id=f"{now}",
        task_id=f"task:{number % 10}",
        sequence=now // 1000,  # at most 2**53 - 1
        timestamp=now // 1_000_000,
        data=large(number),
        progress=50,
    )
