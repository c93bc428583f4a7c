"""Opening the store that a command is about, without changing it."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from .. import Scope
from .._settings import Settings, resolve
from ..errors import BackendError, ConfigurationError
from ..maintenance import SupportsAttach
from ..providers import Capability
from ._exit import UsageError


def run_on_store(arguments: argparse.Namespace) -> int:
    """Call the handler of the arguments with the store they name, and return its exit code."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with open_store(arguments.url) as gs:
        code: int = await arguments.handler(gs, arguments)
        return code


@asynccontextmanager
async def open_store(url: str | None) -> AsyncGenerator[Scope]:
    """A scope on a store that exists, found as ``Scope()`` finds it.

    Nothing is created, migrated or swept, and no other process notices. Raises
    `ConfigurationError`, and `UsageError` if the store cannot be opened.
    """
    settings = await find_store(url)
    adapter = with_shared_locks(settings).open()
    try:
        if isinstance(adapter, SupportsAttach):
            await adapter.attach()
        else:
            await adapter.connect()
    except BackendError as exc:
        raise UsageError(str(exc)) from exc
    try:
        async with Scope(
            persistence=adapter, name=settings.name, requires={Capability.PERSISTENT}
        ) as gs:
            yield gs
    finally:
        await adapter.disconnect()


async def find_store(url: str | None) -> Settings:
    """The settings of a store that exists. Raises `ConfigurationError`."""
    settings = resolve(url, None, {})
    exists = settings.backend.exists
    if exists is not None and not await exists(settings.options):
        raise ConfigurationError(
            f"{settings.source}: there is no goscope store. Nothing was created"
        )
    return settings


def with_shared_locks(settings: Settings) -> Settings:
    """The settings of an adapter whose ``lock`` is the one in the store."""
    options: Any = settings.options
    if not hasattr(options, "locks"):
        return settings
    replace: Any = (
        msgspec.structs.replace if isinstance(options, msgspec.Struct) else dataclasses.replace
    )
    return dataclasses.replace(settings, options=replace(options, locks="shared"))
