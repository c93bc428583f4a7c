"""The plugin behind the entry points ``postgres`` and ``postgresql``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from goscope.backend import Backend
from goscope.hookspecs import hookimpl

from .adapter import PostgresOptions, open_adapter, store_exists

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def dsn_from_url(url: SplitResult) -> Mapping[str, Any]:
    """The ``dsn`` option: the URL without its query, whose names are options of the backend."""
    return {"dsn": url._replace(query="", fragment="").geturl()}


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "postgres"."""
    return [
        Backend(
            name="postgres",
            summary="a PostgreSQL database, shared by several machines",
            options=PostgresOptions,
            open=open_adapter,
            url_options=dsn_from_url,
            exists=store_exists,
        )
    ]
