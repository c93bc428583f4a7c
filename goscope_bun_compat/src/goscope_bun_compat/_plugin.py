"""The plugin behind the entry point ``sqlite-bun`` in the group ``goscope.backends``."""

from __future__ import annotations

from collections.abc import Sequence

from goscope.backend import Backend, path_from_url
from goscope.hookspecs import hookimpl

from .adapter import BunSQLiteOptions, open_adapter


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "sqlite-bun"."""
    return [
        Backend(
            name="sqlite-bun",
            summary="one file shared with go-go-scope under Bun, read and written in the loop",
            options=BunSQLiteOptions,
            open=open_adapter,
            url_options=path_from_url,
        )
    ]
