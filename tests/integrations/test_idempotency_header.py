"""The Idempotency-Key header, as the IETF draft has it, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from .libraries import require

require("starlette", "uvicorn", "httpx")

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from goscope import BackendFull, Scope
from goscope.integrations.asgi import IdempotencyMiddleware, header
from goscope.integrations.starlette import lifespan
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .serving import served


class Shop:
    """An application that counts its calls and answers as its requests say."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.gs = Scope(persistence=MemoryAdapter(clock=self.clock))
        self.calls = 0
        self.background = 0
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        middleware = Middleware(
            IdempotencyMiddleware, gs=self.gs, caller=header("authorization"), **settings
        )
        self.app = Starlette(
            routes=[
                Route("/orders", self.order, methods=["GET", "POST", "PATCH", "PUT"]),
                Route("/fail/{status:int}", self.fail, methods=["POST"]),
                Route("/raise", self.raise_error, methods=["POST"]),
                Route("/stream/{chunks:int}", self.stream, methods=["POST"]),
                Route("/file", self.file, methods=["POST"]),
                Route("/background", self.in_background, methods=["POST"]),
            ],
            middleware=[middleware],
            lifespan=lifespan(self.gs),
        )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[httpx.AsyncClient]:
        async with served(self.app, log_config=None) as client:
            client.headers["authorization"] = "ada"
            yield client

    async def order(self, request: Request) -> Response:
        self.calls += 1
        self.entered.set()
        await self.go_on.wait()
        body = (await request.body()).decode()
        answer = JSONResponse({"call": self.calls, "body": body}, 201)
        answer.headers["location"] = f"/orders/{self.calls}"
        answer.headers["x-trace"] = "1"
        answer.set_cookie("session", "secret")
        return answer

    async def fail(self, request: Request) -> Response:
        self.calls += 1
        return JSONResponse({"call": self.calls}, request.path_params["status"])

    async def raise_error(self, request: Request) -> Response:
        self.calls += 1
        raise KeyError("mistake")

    async def stream(self, request: Request) -> Response:
        self.calls += 1

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(request.path_params["chunks"]):
                yield b"x" * 100
                await self.go_on.wait()

        return StreamingResponse(chunks(), media_type="text/plain")

    async def file(self, request: Request) -> Response:
        self.calls += 1
        return FileResponse(Path(__file__))

    async def in_background(self, request: Request) -> Response:
        self.calls += 1

        async def work() -> None:
            await self.go_on.wait()
            self.background += 1

        return Response("accepted", 202, background=BackgroundTask(work))


def key(value: str = '"k-1"') -> dict[str, str]:
    return {"idempotency-key": value}


@pytest.mark.asyncio
async def test_a_repeated_request_gets_the_first_answer_marked_as_replayed() -> None:
    shop = Shop()
    async with shop.open() as client:
        first = await client.post("/orders", content="tea", headers=key())
        second = await client.post("/orders", content="tea", headers=key())
    assert shop.calls == 1
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


@pytest.mark.asyncio
async def test_only_headers_on_the_list_are_replayed() -> None:
    shop = Shop(replay_headers=["Location", "X-Trace"])
    async with shop.open() as client:
        first = await client.post("/orders", headers=key())
        client.cookies.clear()
        second = await client.post("/orders", headers=key())
    assert "session" in first.headers["set-cookie"]
    assert second.headers.keys() == {
        *("content-length", "content-type"),
        *("location", "x-trace", "idempotency-replayed"),
    }


@pytest.mark.asyncio
async def test_a_missing_key_is_refused_where_it_is_required() -> None:
    shop = Shop(required=True, docs_url="https://shop.example/idempotency")
    async with shop.open() as client:
        refused = await client.post("/orders")
        assert (await client.get("/orders")).status_code == 201
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "https://shop.example/idempotency",
        "title": "This request needs an Idempotency-Key header.",
        "status": 400,
    }


@pytest.mark.asyncio
async def test_a_missing_key_is_no_error_elsewhere() -> None:
    shop = Shop()
    async with shop.open() as client:
        answers = [(await client.post("/orders")).status_code for _ in range(2)]
    assert answers == [201, 201]
    assert shop.calls == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["", '""', '"open', "a b", '"a" "b"', '"tab\\t"'])
async def test_a_malformed_key_is_refused(value: str) -> None:
    shop = Shop()
    async with shop.open() as client:
        assert (await client.post("/orders", headers=key(value))).status_code == 400
    assert shop.calls == 0


@pytest.mark.asyncio
async def test_two_keys_in_one_request_are_refused() -> None:
    shop = Shop()
    async with shop.open() as client:
        headers = [("idempotency-key", '"a"'), ("idempotency-key", '"b"')]
        assert (await client.post("/orders", headers=headers)).status_code == 400


@pytest.mark.asyncio
async def test_a_key_is_the_same_with_and_without_quotes_and_parameters() -> None:
    shop = Shop()
    async with shop.open() as client:
        for value in ("k-1", '"k-1"', '"k-1"; version=2', r'"k\"1"', r'"k\\1"'):
            assert (await client.post("/orders", headers=key(value))).status_code == 201
    assert shop.calls == 3


@pytest.mark.asyncio
async def test_a_key_may_be_long() -> None:
    shop = Shop()
    async with shop.open() as client:
        for end in "aab":
            await client.post("/orders", headers=key(f'"{"k" * 10_000}{end}"'))
        assert all(len(it.key) < 100 for it in [r async for r in shop.gs.inspect.results()])
    assert shop.calls == 2


@pytest.mark.asyncio
async def test_a_key_in_flight_is_a_conflict() -> None:
    shop = Shop()
    shop.go_on.clear()
    async with shop.open() as client:
        first = asyncio.create_task(client.post("/orders", headers=key()))
        await shop.entered.wait()
        second = await client.post("/orders", headers=key())
        shop.go_on.set()
        assert (await first).status_code == 201
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert shop.calls == 1


@pytest.mark.asyncio
async def test_a_duplicate_may_wait_instead() -> None:
    shop = Shop(wait=None)
    shop.go_on.clear()
    async with shop.open() as client:
        first = asyncio.create_task(client.post("/orders", headers=key()))
        await shop.entered.wait()
        second = asyncio.create_task(client.post("/orders", headers=key()))
        shop.go_on.set()
        assert (await first).content == (await second).content
    assert shop.calls == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/orders", "coffee"), ("POST", "/orders?x=1", "tea"), ("PATCH", "/orders", "tea")],
)
async def test_a_key_of_another_request_is_refused(method: str, path: str, body: str) -> None:
    shop = Shop()
    async with shop.open() as client:
        await client.post("/orders", content="tea", headers=key())
        other = await client.request(method, path, content=body, headers=key())
    assert other.status_code == 422
    assert shop.calls == 1


@pytest.mark.asyncio
async def test_keys_of_two_callers_are_two_keys() -> None:
    shop = Shop()
    async with shop.open() as client:
        await client.post("/orders", headers=key())
        bob = await client.post("/orders", headers={**key(), "authorization": "bob"})
    assert "idempotency-replayed" not in bob.headers
    assert shop.calls == 2


@pytest.mark.asyncio
async def test_a_request_of_nobody_is_left_alone() -> None:
    shop = Shop(required=True)
    async with shop.open() as client:
        del client.headers["authorization"]
        for _ in range(2):
            assert (await client.post("/orders", headers=key())).status_code == 201
    assert shop.calls == 2


@pytest.mark.asyncio
async def test_only_the_methods_and_paths_that_are_named() -> None:
    shop = Shop(paths=["/ord*"], methods=["put"])
    async with shop.open() as client:
        for method in ("PUT", "PUT", "POST", "POST"):
            await client.request(method, "/orders", headers=key())
        for _ in range(2):
            await client.post("/fail/200", headers=key())
    assert shop.calls == 1 + 2 + 2


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "calls"), [(500, 2), (503, 2), (429, 2), (401, 2), (404, 1)])
async def test_answers_that_say_try_again_are_not_remembered(status: int, calls: int) -> None:
    shop = Shop()
    async with shop.open() as client:
        for _ in range(2):
            answer = await client.post(f"/fail/{status}", headers=key())
            assert answer.status_code == status
    assert shop.calls == calls


@pytest.mark.asyncio
async def test_an_exception_is_not_remembered() -> None:
    shop = Shop()
    async with shop.open() as client:
        for _ in range(2):
            answer = await client.post("/raise", headers={**key(), "connection": "close"})
            assert answer.status_code == 500
    assert shop.calls == 2


@pytest.mark.asyncio
async def test_an_answer_is_forgotten_after_its_ttl() -> None:
    shop = Shop(ttl="1h")
    async with shop.open() as client:
        await client.post("/orders", headers=key())
        await shop.clock.advance("61m")
        await client.post("/orders", headers=key())
    assert shop.calls == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 300

    shop = Shop(max_request=1000)
    async with shop.open() as client:
        content: Any = chunks() if chunked else b"x" * 1200
        headers = {**key(), "connection": "close"}
        assert (await client.post("/orders", content=content, headers=headers)).status_code == 413
    assert shop.calls == 0


@pytest.mark.asyncio
async def test_an_answer_is_streamed_while_it_is_made() -> None:
    shop = Shop()
    shop.go_on.clear()
    async with shop.open() as client:
        async with client.stream("POST", "/stream/3", headers=key()) as answer:
            parts = answer.aiter_bytes()
            assert await anext(parts) == b"x" * 100  # the application has not gone on yet
            shop.go_on.set()
            assert b"".join([part async for part in parts]) == b"x" * 200
        again = await client.post("/stream/3", headers=key())
    assert again.text == "x" * 300
    assert again.headers["idempotency-replayed"] == "true"
    assert shop.calls == 1


@pytest.mark.asyncio
async def test_an_answer_over_the_limit_is_sent_and_not_made_again() -> None:
    shop = Shop(max_response=1000)
    async with shop.open() as client:
        whole = await client.post("/stream/20", headers=key())
        again = await client.post("/stream/20", headers=key())
    assert len(whole.content) == 2000
    assert again.status_code == 409
    assert "could not be kept" in again.json()["title"]
    assert shop.calls == 1


@pytest.mark.asyncio
async def test_background_work_does_not_delay_the_answer() -> None:
    shop = Shop()
    shop.go_on.clear()
    async with shop.open() as client:
        first = await client.post("/background", headers=key())
        again = await client.post("/background", headers=key())
        assert shop.background == 0
        shop.go_on.set()
    assert (first.text, again.text) == ("accepted", "accepted")
    assert (shop.calls, shop.background) == (1, 1)


@pytest.mark.asyncio
async def test_a_client_that_leaves_early_gets_the_answer_later() -> None:
    shop = Shop()
    shop.go_on.clear()
    async with shop.open() as client:
        impatient = asyncio.create_task(client.post("/orders", content="tea", headers=key()))
        await shop.entered.wait()
        impatient.cancel()
        await asyncio.wait([impatient])
        shop.go_on.set()
        async with asyncio.timeout(10):
            while (await client.post("/orders", content="tea", headers=key())).status_code == 409:
                pass
    assert shop.calls == 1


@pytest.mark.asyncio
async def test_a_store_that_fails_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    async with shop.open() as client:

        async def full(*args: object, **kwargs: object) -> None:
            raise BackendFull("the disk of the secret host is full")

        monkeypatch.setattr(shop.gs.persistence.idempotency, "get", full)
        refused = await client.post("/orders", headers=key())
    assert refused.status_code == 503
    assert "secret" not in refused.text
    assert shop.calls == 0


@pytest.mark.asyncio
async def test_a_client_sees_no_end_of_an_answer_that_was_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    async with shop.open() as client:

        async def full(*args: object, **kwargs: object) -> None:
            raise BackendFull("full")

        monkeypatch.setattr(shop.gs.persistence.idempotency, "set", full)
        assert (await client.post("/orders", headers=key())).status_code == 503
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/stream/2", headers=key("streamed"))


@pytest.mark.asyncio
async def test_a_cancelled_request_ends_its_application_before_another_may_run() -> None:
    """Its lease is held until then."""
    in_flight: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # as a cleanup does that takes a while
            in_flight.append(len([lease async for lease in gs.inspect.calls_in_flight()]))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        raise AssertionError("there is no answer")

    entered = asyncio.Event()
    headers = [(b"idempotency-key", b"k-1")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    async with Scope(backend="memory") as gs:
        app = IdempotencyMiddleware(application, gs, caller=lambda scope: "ada")
        request = asyncio.create_task(app(scope, receive, send))
        await entered.wait()
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
        assert in_flight == [1]
        assert [lease async for lease in gs.inspect.calls_in_flight()] == []


@pytest.mark.asyncio
async def test_a_file_is_stored_as_it_is_sent(tmp_path: Path) -> None:
    shop = Shop()
    async with shop.open() as client:
        first = await client.post("/file", headers=key())
        again = await client.post("/file", headers=key())
    assert first.content == again.content != b""
    assert shop.calls == 1
