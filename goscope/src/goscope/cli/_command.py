"""What a module in `goscope.cli.commands` defines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol


class Command(Protocol):
    """One subcommand.

    Its module imports only the standard library and goscope. `run` imports the packages of the
    extra, so that ``goscope --help`` works without them.
    """

    @property
    def SUMMARY(self) -> str:
        """One line for ``goscope --help``."""
        ...

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
        """Execute the command and return the exit code. May raise `ConfigurationError`."""
        ...
