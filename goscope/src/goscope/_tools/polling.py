"""How often to poll for a lock that is held elsewhere."""

from __future__ import annotations

from typing import Final

SHORTEST_POLL_MS: Final = 2
LONGEST_POLL_MS: Final = 50


def poll_interval_ms(waited_ms: float) -> float:
    """Milliseconds until the next poll of a waiter that has waited for ``waited_ms``.

    A wait of up to 100 ms polls every 2 to 3 ms, so that a hand-over takes about as long. A longer
    wait polls less and less often, down to every 50 ms, so that many waiters cost little.
    """
    return min(max(SHORTEST_POLL_MS, waited_ms * 0.03, waited_ms * 0.1 - 7), LONGEST_POLL_MS)
