"""The observers of a scope; an observer that raises breaks nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from ._result import is_coroutine_function
from .errors import ConfigurationError
from .events import Event, Observer

_log = logging.getLogger("goscope")


class Observers:
    """The observers of one scope. `active` is False while there are none."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers: list[Observer] = []
        self._plugins: Sequence[Observer] = ()
        self._reported: set[int] = set()
        self.active = False
        for observer in observers:
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """Call the observer with every event from now on."""
        if not _is_plain_function(observer):
            raise ConfigurationError(
                f"observer {observer!r} must be a plain function of one event: "
                f"for asynchronous work, let it put the event into a queue"
            )
        self._observers.append(observer)
        self.active = True

    def remove(self, observer: Observer) -> None:
        """Stop calling the observer."""
        self._observers.remove(observer)
        self._reported.discard(id(observer))
        self.active = bool(self._observers)

    def add_plugins(self, plugins: Sequence[Observer]) -> None:
        """Call the installed observer plugins too, until `remove_plugins`."""
        self._plugins = plugins
        for plugin in plugins:
            self.add(plugin)

    def remove_plugins(self) -> None:
        """Stop calling the observer plugins."""
        plugins, self._plugins = self._plugins, ()
        for plugin in plugins:
            self.remove(plugin)

    def emit(self, event: Event) -> None:
        """Call every observer. One that raises is logged once, and the others are called."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                if id(observer) not in self._reported:
                    self._reported.add(id(observer))
                    _log.exception(
                        "observer %r failed on %r; its further failures are not reported",
                        observer,
                        event,
                    )


def _is_plain_function(observer: object) -> bool:
    return callable(observer) and not is_coroutine_function(observer)
