"""Serving the pages over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ....errors import GoscopeError
from ..._arguments import without_passwords
from ..._exit import EXIT_OK, CommandError
from ..._find import first_records
from ..._store import find_store, open_store
from ..idempotency import listed_calls
from ..status import LISTED, read_status
from . import _pages
from ._actions import ACTIONS
from ._listings import read_cache
from ._security import HEADERS, Security
from ._style import STYLE

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

MAX_FORM_BYTES: Final = 65_536


def serve(arguments: argparse.Namespace, security: Security) -> int:
    """Serve until Ctrl-C."""
    return asyncio.run(_serve(arguments, security))


async def _serve(arguments: argparse.Namespace, security: Security) -> int:
    settings = await find_store(arguments.url)
    app = application(arguments.url, security, allow_changes=arguments.allow_changes)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off"
        )
    )
    is_v6 = ":" in arguments.host
    with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((arguments.host, arguments.port))
        listening.listen()
        host = f"[{arguments.host}]" if is_v6 else arguments.host
        mode = "with changes" if arguments.allow_changes else "read-only"
        url = f"http://{host}:{listening.getsockname()[1]}/"
        print(f"Serving {settings.name} at {url}, {mode}. Ctrl-C ends it.", flush=True)
        await server.serve(sockets=[listening])
    return EXIT_OK


def application(url: str | None, security: Security, *, allow_changes: bool) -> Starlette:
    """The application on the store of a URL."""
    site = _Site(url, security, allow_changes)
    return Starlette(
        routes=[
            Route("/", site.guarded(site.status), methods=["GET"]),
            Route("/cache", site.guarded(site.cache), methods=["GET"]),
            Route("/calls", site.guarded(site.calls), methods=["GET"]),
            Route("/style.css", site.guarded(site.style), methods=["GET"]),
            Route("/confirm/{name}", site.guarded(site.confirm), methods=["GET"]),
            Route("/do/{name}", site.guarded(site.change), methods=["POST"]),
        ]
    )


class _Site:
    """The handlers of the pages. Each opens the store for its request."""

    def __init__(self, url: str | None, security: Security, allow_changes: bool) -> None:
        self._url = url
        self._security = security
        self._allow_changes = allow_changes

    def guarded(self, handler: Handler) -> Handler:
        """The handler, called only for those who may, and with its errors as pages."""

        async def handle(request: Request) -> Response:
            response = await _answer(handler, request, self._security)
            response.headers.update(HEADERS)
            return response

        return handle

    async def status(self, request: Request) -> Response:
        async with open_store(self._url) as gs:
            status = await read_status(gs)
        return self._page(_pages.status_page, status, request)

    async def cache(self, request: Request) -> Response:
        collection, pattern = (request.query_params.get(it) for it in ("collection", "pattern"))
        async with open_store(self._url) as gs:
            listing = await read_cache(gs, collection or None, pattern or None)
        return self._page(_pages.cache_page, listing, request)

    async def calls(self, request: Request) -> Response:
        async with open_store(self._url) as gs:
            listed = await first_records(listed_calls(gs), LISTED)
        return self._page(_pages.calls_page, listed, request)

    async def style(self, _: Request) -> Response:
        return PlainTextResponse(STYLE, media_type="text/css")

    async def confirm(self, request: Request) -> Response:
        name = request.path_params["name"]
        action = ACTIONS.get(name)
        shown = action and _decoded(request.query_params.get("shown", ""), action.linked)
        if action is None or shown is None or not self._allow_changes:
            return _message(404, "Not found", "There is no such page, or changes are not allowed.")
        if action.read is not None:
            async with open_store(self._url) as gs:
                shown = await action.read(gs, shown)
        return HTMLResponse(_pages.confirm_page(name, shown, self._security.form_token))

    async def change(self, request: Request) -> Response:
        name, form = request.path_params["name"], await _form(request)
        is_refused = self._security.refuses_form(form.get("token", ""), request.headers)
        if is_refused or not self._allow_changes:
            return _message(403, "Refused", "Nothing was changed: use the form of this page.")
        action = ACTIONS.get(name)
        shown = action and _decoded(form.get("shown", ""), action.record)
        if action is None or shown is None:
            return _message(404, "Not found", "Nothing was changed: there is no such change.")
        async with open_store(self._url) as gs:
            await action.change(gs, shown)
        page = URL(action.page(shown)).include_query_params(done=name)
        return RedirectResponse(str(page), status_code=303)

    def _page(self, page: Callable[..., str], records: object, request: Request) -> Response:
        done = request.query_params.get("done")
        return HTMLResponse(page(records, allow_changes=self._allow_changes, done=done))


async def _answer(handler: Handler, request: Request, security: Security) -> Response:
    if security.refuses_host(request.headers.get("host", "")):
        return _message(403, "Refused", "Use the address that the server was started on.")
    if security.refuses_login(request.headers.get("authorization", "")):
        response = _message(401, "Password", "The password is GOSCOPE_WEB_TOKEN of the server.")
        response.headers["WWW-Authenticate"] = 'Basic realm="goscope", charset="UTF-8"'
        return response
    try:
        return await handler(request)
    except CommandError as exc:
        return _message(409, "Not done", without_passwords(str(exc)))
    except GoscopeError as exc:
        return _message(503, "The store failed", without_passwords(str(exc)))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none if it is too large or not text."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    try:
        return {name: values[0] for name, values in parse_qs(body.decode()).items()}
    except ValueError:
        return {}


def _decoded(text: str, record: type[Any]) -> Any:
    """The record in a form or a link, None if it is none."""
    try:
        return msgspec.json.decode(text, type=record)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _message(status: int, title: str, text: str) -> Response:
    return HTMLResponse(_pages.message_page(title, text), status_code=status)
