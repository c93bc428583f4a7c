"""The plugin behind the entry point ``sqlite-bun`` in the group ``goscope.backends``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goscope.backend import Backend, path_from_url
from goscope.hookspecs import hookimpl
from goscope.maintenance import Finding
from goscope_sqlite.engine import store_exists
from goscope_sqlite.restore import restore_file

from .adapter import BunSQLiteOptions, open_adapter


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "sqlite-bun"."""
    return [
        Backend(
            name="sqlite-bun",
            summary="one file, shared with services that use go-go-scope under Bun",
            options=BunSQLiteOptions,
            open=open_adapter,
            url_options=path_from_url,
            exists=store_exists,
            diagnose=diagnose,
            restore=restore_file,
        )
    ]


async def diagnose(options: Any) -> Sequence[Finding]:
    """Check the file that the options name, for ``goscope doctor``."""
    from goscope_sqlite.diagnosis import diagnose_file  # here, since few programs need it

    return await diagnose_file(options)
