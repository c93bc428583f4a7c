"""``goscope backends``: which backends are installed, and whether they can be used."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

from ..._plugins import find_backend, installed_backends
from ...errors import ConfigurationError
from .._arguments import add_json
from .._exit import EXIT_FAILED, EXIT_OK
from .._output import print_listing
from .._records import InstalledBackend

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    List the installed backends, what this command can do with each of their stores, and why a
    broken one cannot be used. The exit code is 1 if one is broken.
"""
EXTRA = "cli"
PACKAGES = ()

_ABILITIES = ("exists", "diagnose", "restore")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the backends, and return the exit code."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    backends = [_describe(name) for name in installed_backends()]

    async def listed() -> AsyncIterator[InstalledBackend]:
        for backend in backends:
            yield backend

    await print_listing(
        listed(),
        {
            "NAME": lambda it: it.name,
            "STATE": lambda it: "broken" if it.problem else "usable",
            "COMMANDS": lambda it: ", ".join(it.abilities) or None,
            "SUMMARY": lambda it: it.problem or it.summary,
        },
        as_json=arguments.json,
    )
    return EXIT_FAILED if any(backend.problem for backend in backends) else EXIT_OK


def _describe(name: str) -> InstalledBackend:
    try:
        backend = find_backend(name)
    except ConfigurationError as exc:
        return InstalledBackend(name=name, summary="", abilities=(), problem=str(exc))
    abilities = [ability for ability in _ABILITIES if getattr(backend, ability) is not None]
    return InstalledBackend(name=name, summary=backend.summary, abilities=abilities, problem="")
