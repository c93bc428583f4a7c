"""The clock of the server, as this machine knows it."""

from __future__ import annotations

from goscope.backend import SystemClock


class ServerClock(SystemClock):
    """The server's wall time, which every client of the store agrees on; this machine's steady one.

    Between two measurements it runs on steady time: setting the clock of this machine has no
    effect.
    """

    def __init__(self) -> None:
        self._offset_ms = SystemClock.wall_ms(self) - self.steady_ms()

    def wall_ms(self) -> int:
        return self.steady_ms() + self._offset_ms

    def measured(self, server_wall_ms: int, steady_ms: int) -> None:
        """Record that the server's wall time was ``server_wall_ms`` at the steady time."""
        self._offset_ms = server_wall_ms - steady_ms
