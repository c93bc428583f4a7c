"""The commands by name. Each is a module or package in `commands`, imported when it is needed."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

COMMANDS: Final[Mapping[str, str]] = {
    "status": "show what a store holds and who uses it, on one screen",
    "locks": "list and release locks, and the leases of features",
    "circuits": "list, open, close and reset circuit breakers",
    "tasks": "list tasks and their checkpoints, and delete half-done ones",
    "cache": "read and change entries of the cache and of collections",
    "idempotency": "list the results of idempotent calls, and forget them",
    "web": "serve the status screen as a web page",
    "doctor": "check a store, and say what to do about each problem",
    "prune": "remove everything that has expired",
    "vacuum": "return unused space to the file system",
    "backup": "copy a store to a file while it is used",
    "restore": "replace a store with a backup",
    "migrate": "move everything that a store holds to another store",
    "backends": "list the installed backends",
    "completion": "print the script that completes this command in a shell",
    "demo": "import the world's airports with several processes while one of them is killed",
}
"""Their names, and what ``goscope --help`` says of each."""


class Command(Protocol):
    """One subcommand.

    Its module imports only the standard library and goscope. `run` imports the packages of the
    extra, so that the help works without them.
    """

    @property
    def DESCRIPTION(self) -> str:
        """The text above the options in the command's own ``--help``."""
        ...

    @property
    def EXTRA(self) -> str:
        """The extra of goscope that installs `PACKAGES`."""
        ...

    @property
    def PACKAGES(self) -> Sequence[str]:
        """The packages that `run` imports."""
        ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Execute the command and return the exit code.

        May raise `GoscopeError` and `CommandError`.
        """
        ...


def load(name: str) -> Command:
    """Import the module of a command."""
    return cast(Command, importlib.import_module(f".commands.{name}", __package__))
