"""The plugin behind the entry point ``redis`` in the group ``goscope.backends``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from goscope.backend import Backend
from goscope.hookspecs import hookimpl

from .adapter import RedisAdapter
from .options import RedisOptions, options_from_url


@hookimpl
def goscope_backends() -> Sequence[Backend]:
    """Register the backend "redis", which also opens URLs of the schemes rediss and valkey."""
    return [
        Backend(
            name="redis",
            summary="a Redis or Valkey server, shared by several machines",
            options=RedisOptions,
            open=_open,
            url_options=options_from_url,
            exists=lambda options: _open(options).has_store(),
        )
    ]


def _open(options: RedisOptions) -> RedisAdapter:
    return RedisAdapter(**msgspec.structs.asdict(options))
