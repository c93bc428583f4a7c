"""The plugin behind the entry point ``sqlite`` in the group ``goscope.backends``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goscope.backend import Backend, path_from_url
from goscope.hookspecs import hookimpl
from goscope.maintenance import Finding

from ._engine.file import store_exists
from .adapter import SQLiteOptions, open_adapter
from .restore import restore_file


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
            exists=store_exists,
            diagnose=diagnose,
            restore=restore_file,
        )
    ]


async def diagnose(options: Any) -> Sequence[Finding]:
    """Check the file that the options name, for ``goscope doctor``."""
    from .diagnosis import diagnose_file  # here, since few programs need it

    return await diagnose_file(options)
