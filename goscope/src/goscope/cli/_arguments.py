"""The parser of the command line, and the arguments that several commands take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

from .. import Scope
from .._tools.key import check_collection, check_key, check_pattern

Handler: TypeAlias = Callable[[Scope, argparse.Namespace], Awaitable[int]]
"""What a command does with an open store; returns the exit code."""

_LOGIN: Final = re.compile(r"(?<=://)[^\s'\"]*@")


def without_passwords(text: str) -> str:
    """The text, without the user and the password of each URL in it."""
    return _LOGIN.sub("***@", text)


class Parser(argparse.ArgumentParser):
    """A parser whose errors do not quote a password, as that of a mistyped option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        super().error(without_passwords(message))


def add_store(parser: argparse.ArgumentParser, handler: Handler) -> None:
    """Let the parser take the URL of a store that exists, and call the handler with it."""
    add_url(parser)
    parser.set_defaults(handler=handler)


def add_url(parser: argparse.ArgumentParser) -> None:
    """Let the parser take the URL of a store."""
    parser.add_argument(
        "--url",
        help="the store; default: GOSCOPE_URL, else goscope.toml or pyproject.toml in this folder. "
        "A password belongs in those: other users can see the command line",
    )
    parser.set_defaults(prog=parser.prog)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let the parser take ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, for scripts"
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Let the parser take ``--yes``."""
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def add_key(parser: argparse.ArgumentParser, name: str = "key") -> None:
    """Let the parser take a key."""
    parser.add_argument(name, metavar=name.upper(), type=_checked(check_key))


def add_collection(parser: argparse.ArgumentParser) -> None:
    """Let the parser take the name of a collection."""
    parser.add_argument(
        "--collection",
        type=_checked(check_collection),
        metavar="NAME",
        help="the entries of gs.store(NAME) instead of those of the cache",
    )


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            return check(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return checked


def add_pattern(parser: argparse.ArgumentParser) -> None:
    """Let the parser take the pattern of a listing."""
    parser.add_argument(
        "pattern",
        nargs="?",
        type=_checked(check_pattern),
        metavar="PATTERN",
        help="only matching keys; * is any run of text",
    )


class Group:
    """The subcommands of a command, such as ``locks list``."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._subparsers = parser.add_subparsers(metavar="ACTION", required=True)

    def listing(self, name: str, handler: Handler, summary: str) -> argparse.ArgumentParser:
        """Add a subcommand that prints what it reads."""
        parser = self._add(name, handler, summary)
        add_json(parser)
        return parser

    def change(self, name: str, handler: Handler, summary: str) -> argparse.ArgumentParser:
        """Add a subcommand that changes the store, and asks before."""
        parser = self._add(name, handler, summary)
        add_yes(parser)
        return parser

    def _add(self, name: str, handler: Handler, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        add_store(parser, handler)
        return parser
