"""The plugin behind the entry points ``mysql`` and, for URLs, ``mariadb``."""

from __future__ import annotations

from collections.abc import Sequence

from goscope.backend import Backend
from goscope.hookspecs import hookimpl

from .adapter import MySQLOptions, open_adapter, options_from_url, store_exists


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "mysql"."""
    return [
        Backend(
            name="mysql",
            summary="a MySQL or MariaDB server, shared by all processes that reach it",
            options=MySQLOptions,
            open=open_adapter,
            url_options=options_from_url,
            exists=store_exists,
        )
    ]
