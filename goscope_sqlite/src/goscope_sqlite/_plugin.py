"""The plugin behind the entry point ``sqlite`` in the group ``goscope.backends``."""

from __future__ import annotations

from collections.abc import Sequence

from goscope.backend import Backend, path_from_url
from goscope.hookspecs import hookimpl

from .adapter import SQLiteOptions, open_adapter


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "sqlite"."""
    return [
        Backend(
            name="sqlite",
            summary="one file on a local disk, shared by the processes of one machine",
            options=SQLiteOptions,
            open=open_adapter,
            url_options=path_from_url,
        )
    ]
