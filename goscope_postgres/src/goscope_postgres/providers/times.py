"""Times in SQL: always the server's, at the moment at which a row is judged.

``clock_timestamp()`` and not ``now()``: a statement that waited for a row must see what has expired
in the meantime. In the condition of a scan it stands in a subquery, since an index cannot be
searched for a volatile function.
"""

from __future__ import annotations

from typing import Final

NOW: Final = "(SELECT clock_timestamp())"


def epoch_ms(time: str) -> str:
    """The time in epoch milliseconds; NULL for infinity."""
    return f"(extract(epoch FROM nullif({time}, 'infinity')) * 1000)::bigint"


def after(start: str, ms: str) -> str:
    """The time ``ms`` after the start; infinity for NULL."""
    return f"coalesce({start} + {ms} * interval '1 ms', 'infinity')"
