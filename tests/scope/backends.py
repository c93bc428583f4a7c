"""Backends that note the options they are opened with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import msgspec
import pytest

from goscope import ConfigurationError, Scope
from goscope.backend import Backend
from goscope.hookspecs import hookimpl
from goscope.memory import MemoryAdapter


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "localhost"
    port: int = 1
    user: str = ""
    password: str = ""
    tls: bool = False
    timeout: str = "5s"


@dataclass(frozen=True)
class PlainOptions:
    size: int = 1


opened_with: list[Any] = []
"""The options that the scopes of a test opened their backends with."""


def server_options(url: SplitResult) -> Mapping[str, Any]:
    parts = {"host": url.hostname, "port": url.port, "user": url.username}
    return {name: part for name, part in parts.items() if part is not None}


def _open(options: Any) -> MemoryAdapter:
    opened_with.append(options)
    return MemoryAdapter()


SERVER = Backend(
    name="server",
    summary="its URL has every part",
    options=ServerOptions,
    open=_open,
    url_options=server_options,
)


PLAIN = Backend(
    name="plain", summary="its options are a dataclass", options=PlainOptions, open=_open
)


class Plugin:
    @hookimpl
    def goscope_backends(self) -> Sequence[Backend]:
        return [SERVER, PLAIN]


plugin = Plugin()


async def options_of(gs: Scope) -> Any:
    async with gs:
        return opened_with[-1]


async def error_of(gs: Scope) -> str:
    """The message of the error that opening the scope raises."""
    with pytest.raises(ConfigurationError) as caught:
        await gs.open()
    assert not gs.is_open
    return str(caught.value)


def write_file(name: str, text: str) -> None:
    """Write a file into the working directory."""
    Path(name).write_text(text)
