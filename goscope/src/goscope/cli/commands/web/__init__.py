"""``goscope web``: the status screen as a web page, with the same actions."""

from __future__ import annotations

import argparse
import ipaddress

from ... import _arguments, _exit

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    Serve the status screen as a web page, by default to this machine alone and read-only. The
    environment variable GOSCOPE_WEB_TOKEN is the password that a browser asks for; without it only
    an address of this machine is served. Put a proxy with TLS before it on a network.
"""
EXTRA = "web"
PACKAGES = ("starlette", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    _arguments.add_url(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", type=_address, help="IP address (default: 127.0.0.1)")
    add("--port", default=8377, type=int, help="port (default: 8377; 0: any)")
    add("--allow-changes", action="store_true", help="let the page change the store")


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError as exc:
        raise argparse.ArgumentTypeError("must be an IP address") from exc


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C, and return the exit code."""
    from ._security import Security, read_token

    token = read_token()
    if token is None and not ipaddress.ip_address(arguments.host).is_loopback:
        raise _exit.UsageError(
            f"{arguments.host} is reachable from other machines: set GOSCOPE_WEB_TOKEN to a long "
            f"random password"
        )
    from ._server import serve  # imports the packages of the extra

    return serve(arguments, Security(arguments.host, token))
