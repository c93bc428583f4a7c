"""The progress of a task, and when it will be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ._tools.clock import Clock

Listener: TypeAlias = "Callable[[Progress], object]"


class Progress:
    """The percentage done, and an estimate of the time left from the rate of this run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listeners: list[Listener] = []
        self._percentage = 0.0
        self._started_at = clock.steady_ms()
        self._started_with = 0.0

    @property
    def percentage(self) -> float:
        """From 0.0 to 100.0."""
        return self._percentage

    @property
    def eta_ms(self) -> int | None:
        """Milliseconds until it is done at the rate of this run; None while that is unknown."""
        done = self._percentage - self._started_with
        if done <= 0:
            return None
        elapsed = self._clock.steady_ms() - self._started_at
        return round(elapsed * (100 - self._percentage) / done)

    def update(self, percentage: float) -> None:
        """Set the percentage done and call the listeners. Raises ``ValueError`` outside 0..100."""
        if not 0 <= percentage <= 100:
            raise ValueError(f"progress must be from 0 to 100, not {percentage!r}")
        self._percentage = float(percentage)
        for listener in tuple(self._listeners):
            listener(self)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call the listener after each update, until the returned function is called.

        A listener runs inside ``update`` and its exceptions are raised there.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def resume(self, percentage: float) -> None:
        """Start at the percentage of an earlier run; it does not count toward this run's rate."""
        self._percentage = min(max(percentage, 0.0), 100.0)
        self._started_with = self._percentage
        self._started_at = self._clock.steady_ms()
