"""The ``goscope`` command. Each subcommand is a module or package in `commands`."""

from ._main import main

__all__ = ["main"]
