"""The hooks a plugin can implement.

Hooks are synchronous: they register and notify. A coroutine implementation is refused when the
plugin is registered; asynchronous work belongs in the objects that a hook returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from .backend import Backend
    from .events import Event

PROJECT: Final = "goscope"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class GoscopeHooks:
    """Every hook goscope calls."""

    @hookspec
    def goscope_backends(self) -> Sequence[Backend]:
        """Return the backends this plugin provides.

        Called once, for the plugin whose entry point (group ``goscope.backends``) has the name of
        the backend that a scope opens. It raises nothing: `open` reports a missing driver.
        """
        raise NotImplementedError  # a specification is never called itself

    @hookspec
    def goscope_event(self, event: Event) -> None:
        """Receive one event of any scope in this process (group ``goscope.plugins``).

        Runs on the event loop and must not block it. An exception is logged once per plugin and
        goes no further.
        """
