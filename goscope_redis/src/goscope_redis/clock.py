"""The clock of a store on a server: the server's time, measured when a connection opens."""

from __future__ import annotations

from collections.abc import Awaitable

from goscope.backend import Clock, SystemClock


class ServerClock(SystemClock):
    """The server's wall time, and the steady time of this machine."""

    _offset_ms = 0

    def set_wall(self, server_ms: int) -> None:
        """Let the wall time be the server's, which was read just now."""
        self._offset_ms = server_ms - self.steady_ms()

    def wall_ms(self) -> int:
        return self.steady_ms() + self._offset_ms


class ReplacedClock:
    """As `ServerClock`, with another steady time than that of the machine."""

    _offset_ms = 0

    def __init__(self, local: Clock) -> None:
        self._local = local

    @property
    def boot_id(self) -> str:
        return self._local.boot_id

    def set_wall(self, server_ms: int) -> None:
        self._offset_ms = server_ms - self.steady_ms()

    def wall_ms(self) -> int:
        return self.steady_ms() + self._offset_ms

    def steady_ms(self) -> int:
        return self._local.steady_ms()

    def sleep(self, seconds: float) -> Awaitable[None]:
        return self._local.sleep(seconds)
