"""Who may read and change the store through the page."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Mapping
from typing import Final

from ..._exit import UsageError

VARIABLE: Final = "GOSCOPE_WEB_TOKEN"
MIN_TOKEN_LENGTH: Final = 16

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with no-referrer a browser hides the origin of a form
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every answer: no script runs, nothing is framed, nothing is kept."""


def read_token() -> str | None:
    """The password from the environment, None without one. Raises `UsageError`."""
    token = os.environ.get(VARIABLE)
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise UsageError(f"{VARIABLE} must have at least {MIN_TOKEN_LENGTH} characters")
    return token


class Security:
    """The checks of each request. ``form_token`` is what a form of the page proves itself with."""

    def __init__(self, host: str, token: str | None) -> None:
        self._hosts = {"localhost", host, f"[{host}]"}
        self._token = token
        self.form_token: Final = secrets.token_urlsafe(32)

    def refuses_host(self, host: str) -> bool:
        """Whether a page of another site asks, whose name was made to lead here.

        With a token its browser has no password to send.
        """
        name, _, port = host.rpartition(":")
        return self._token is None and (name if port.isdecimal() and name else host) not in (
            self._hosts
        )

    def refuses_login(self, authorization: str) -> bool:
        """Whether the password is missing or wrong, in constant time."""
        if self._token is None:
            return False
        scheme, _, encoded = authorization.partition(" ")
        try:
            login = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return True
        password = login.partition(b":")[2]
        is_right = secrets.compare_digest(password, self._token.encode())
        return scheme.lower() != "basic" or not is_right

    def refuses_form(self, form_token: str, headers: Mapping[str, str]) -> bool:
        """Whether a change comes from anything but a form of the page."""
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return True
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return True
        return not secrets.compare_digest(form_token.encode(), self.form_token.encode())
