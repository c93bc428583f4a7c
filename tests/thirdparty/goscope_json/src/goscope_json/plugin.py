"""The plugin: registers the adapter as backend "json"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from goscope.backend import Backend, path_from_url
from goscope.hookspecs import hookimpl

from .adapter import JSONAdapter


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the backend "json"."""

    path: str
    key_prefix: str | None = None
    default_lock_ttl: str = "30s"


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend."""
    return [
        Backend(
            name="json",
            summary="one JSON file",
            options=Options,
            open=_open,
            url_options=path_from_url,
            exists=_exists,
        )
    ]


def _open(options: Options) -> JSONAdapter:
    return JSONAdapter(**msgspec.structs.asdict(options))


async def _exists(options: Options) -> bool:
    return await asyncio.to_thread(Path(options.path).exists)
