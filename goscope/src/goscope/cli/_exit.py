"""The exit codes of the command, and the errors that end it with one of them."""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""The store failed, or a check found something to do."""
EXIT_USAGE: Final = 2
"""A wrong invocation, a missing package, or a store that cannot be opened. Nothing was changed."""
EXIT_NOT_FOUND: Final = 3
"""There is no such lock, circuit, task, entry or result."""
EXIT_REFUSED: Final = 4
"""Nothing was changed: it has changed since it was shown, is in use, or the answer was no."""
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""


class CommandError(Exception):
    """Ends the command with a line on standard error and an exit code."""

    exit_code: ClassVar[int] = EXIT_FAILED


class UsageError(CommandError):
    """The command was called in a way that cannot work."""

    exit_code = EXIT_USAGE


class NotFound(CommandError):
    """What the command is about does not exist."""

    exit_code = EXIT_NOT_FOUND


class Refused(CommandError):
    """The command must not do, or was told not to do, what it was called for."""

    exit_code = EXIT_REFUSED
