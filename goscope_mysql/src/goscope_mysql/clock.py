"""The clock of a server."""

from __future__ import annotations

import time

from goscope.backend import SystemClock


class ServerClock(SystemClock):
    """Wall time is the server's, as of the last connect. Steady time is this machine's.

    Nobody's setting of this machine's clock changes it.
    """

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 1_000_000 - self.steady_ms()

    def synchronize(self, server_ms: int, read_at_ms: int) -> None:
        """Take over the server's time, which was read at ``read_at_ms`` of the steady clock."""
        self._offset_ms = server_ms - read_at_ms

    def wall_ms(self) -> int:
        return self.steady_ms() + self._offset_ms
