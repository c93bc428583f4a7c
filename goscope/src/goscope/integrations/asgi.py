"""An ASGI middleware for the ``Idempotency-Key`` header. Needs no extra.

It follows the IETF draft "The Idempotency-Key HTTP Header Field": 400 for a missing or malformed
key, 409 for one in flight, 422 for one that was used for another request, else the first answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from typing import Final

from .._scope import Scope
from .._tools.duration import Duration
from .._tools.key import check_pattern, pattern_regex
from ..errors import BackendError, GoscopeError, ResultNotStored
from ._exchange import BODY_HEADERS, Answer, ASGIApp, ASGIScope, Exchange, Receive, Send
from ._problem import Problem, problem_of, send_problem

REPLAYED: Final = "idempotency-replayed"
"""The header that marks a replayed answer; its value is ``true``."""

REPLAY_HEADERS: Final = frozenset({"content-language", "etag", "last-modified", "link", "location"})
"""Headers that are stored and replayed, by default, beside those that describe the body."""

_TRY_AGAIN: Final = frozenset({401, 403, 408, 409, 423, 425, 429})

_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)" *(?:;.*)?')
_BARE: Final = re.compile(r"[!#-~]+")

_MISSING = Problem(400, "This request needs an Idempotency-Key header.")
_MALFORMED = Problem(400, "The Idempotency-Key header must be one string that is not empty.")
_TOO_LARGE = Problem(413, "The body is too large for a request with an idempotency key.")
_NOT_KEPT = Problem(409, "The request was completed; its answer could not be kept for a replay.")
_NO_STORE = Problem(503, "The store of this service failed.", retry=True)


def is_final(status: int) -> bool:
    """Whether an answer holds for a repeated request, too.

    An error of the server, a missing login or a rate limit does not: the request had no effect.
    """
    return status < 500 and status not in _TRY_AGAIN


def header(name: str) -> Callable[[ASGIScope], str | None]:
    """A ``caller`` that is the value of a request header, such as ``"authorization"``."""
    wanted = name.lower().encode("latin-1")

    def value(scope: ASGIScope) -> str | None:
        return next((v.decode("latin-1") for n, v in scope["headers"] if n == wanted), None)

    return value


class IdempotencyMiddleware:
    """Runs a request once per ``Idempotency-Key`` of a caller, and replays its answer.

    ``caller`` returns who sends a request, as a string: keys of two callers are two keys. The
    middleware leaves a request alone for which it returns None. Add the middleware inside the one
    that authenticates, or use the credentials themselves: ``caller=header("authorization")``.

    It handles ``methods`` on ``paths`` (``*`` stands for any run of characters), and with
    ``required`` refuses those without a key. Bodies of requests over ``max_request`` bytes are
    refused (413). An answer over ``max_response`` bytes is sent, and not stored: a repeated request
    is told so (409) and not run again. ``remembers(status)`` is false for answers after which a
    repeated request runs again. ``wait`` is how long it waits for a request in flight.
    """

    def __init__(
        self,
        app: ASGIApp,
        gs: Scope,
        *,
        caller: Callable[[ASGIScope], str | None],
        methods: Collection[str] = ("POST", "PATCH"),
        paths: Collection[str] = ("*",),
        required: bool = False,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = 0,
        max_request: int = 1 << 20,
        max_response: int = 1 << 20,
        replay_headers: Collection[str] = REPLAY_HEADERS,
        remembers: Callable[[int], bool] = is_final,
        docs_url: str = "about:blank",
    ) -> None:
        self._app = app
        self._gs = gs
        self._caller = caller
        self._methods = frozenset(map(str.upper, methods))
        self._paths = [pattern_regex(check_pattern(path)) for path in paths]
        self._required = required
        self._ttl = ttl
        self._wait = wait
        self._max_request = max_request
        self._max_response = max_response
        self._headers = BODY_HEADERS | {name.lower() for name in replay_headers}
        self._remembers = remembers
        self._docs_url = docs_url

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        caller = self._caller(scope) if self._handles(scope) else None
        values = [v for n, v in scope.get("headers", ()) if n == b"idempotency-key"]
        if caller is None or (not values and not self._required):
            await self._app(scope, receive, send)
            return
        key = _parse(values[0].decode("latin-1")) if len(values) == 1 else None
        if key is None:
            await self._refuse(send, _MALFORMED if values else _MISSING)
            return
        try:
            body = await _read(scope, receive, self._max_request)
        except _TooLarge:
            await self._refuse(send, _TOO_LARGE)
        except _Disconnected:
            pass  # nobody waits for an answer, and nothing has happened
        else:
            exchange = Exchange(
                self._app, scope, body, receive, send, self._max_response, self._headers
            )
            try:
                await self._run(exchange, _digest(caller, key), _fingerprint(scope, body), send)
            except BaseException:
                await exchange.abort()
                raise

    def _handles(self, scope: ASGIScope) -> bool:
        return (
            scope["type"] == "http"
            and scope["method"] in self._methods
            and any(path.fullmatch(scope["path"]) for path in self._paths)
        )

    async def _run(self, exchange: Exchange, key: str, fingerprint: str, send: Send) -> None:
        try:
            result = await self._gs.idempotency.run_detailed(
                key,
                exchange.run,
                ttl=self._ttl,
                wait=self._wait,
                when=lambda answer: self._remembers(answer.status),
                fingerprint=fingerprint,
                type=Answer,
            )
        except ResultNotStored as exc:
            if exchange.is_complete:  # it is not run again, so its caller gets the answer
                await exchange.finish()
            else:
                await self._refuse(send, _NOT_KEPT, exc)
        except GoscopeError as exc:
            problem = problem_of(exc) or (_NO_STORE if isinstance(exc, BackendError) else None)
            if problem is None or exchange.is_streaming:
                raise
            await exchange.abort()
            await self._refuse(send, problem, exc)
        else:
            if not result.replayed:
                await exchange.finish()
            elif result.value.body is None:
                await self._refuse(send, _NOT_KEPT)
            else:
                await _replay(result.value, result.value.body, send)

    async def _refuse(self, send: Send, problem: Problem, exc: Exception | None = None) -> None:
        await send_problem(send, problem, exc, self._docs_url)


class _TooLarge(Exception):
    """The body of the request is over the limit."""


class _Disconnected(Exception):
    """The client left before it had sent the whole body."""


async def _read(scope: ASGIScope, receive: Receive, limit: int) -> bytes:
    """The body of the request, which its fingerprint needs as a whole."""
    length = header("content-length")(scope)
    if length is not None and length.isdecimal() and int(length) > limit:
        raise _TooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message.get("body", b"")
        if len(body) > limit:
            raise _TooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _parse(value: str) -> str | None:
    """The key in a header: a string of structured fields, or one without quotes."""
    value = value.strip()
    quoted = _STRING.fullmatch(value)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    return value if _BARE.fullmatch(value) else None


def _digest(caller: str, key: str) -> str:
    """The key of the store, whatever the length of the client's key."""
    text = f"{len(caller)}:{caller}{key}".encode(errors="surrogatepass")
    return f"http:{hashlib.sha256(text).hexdigest()}"


def _fingerprint(scope: ASGIScope, body: bytes) -> str:
    """What makes two requests the same: the method, the path, the query and the body."""
    digest = hashlib.sha256()
    path = scope["path"].encode(errors="surrogatepass")
    for part in (scope["method"].encode(), path, scope.get("query_string", b""), body):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


async def _replay(answer: Answer, body: bytes, send: Send) -> None:
    headers = [*answer.headers, (REPLAYED, "true")]
    if answer.status not in (204, 304):  # which have no body, and so no length of one
        headers.append(("content-length", str(len(body))))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
