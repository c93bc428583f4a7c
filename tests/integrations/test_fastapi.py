"""A scope in a FastAPI application, over HTTP."""

from __future__ import annotations

import pytest

from .libraries import require

require("fastapi", "uvicorn", "httpx")

from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from goscope import Scope
from goscope.integrations.fastapi import (
    ScopeDependency,
    exception_handlers,
    get_scope,
    health,
    lifespan,
)

from .serving import served


def application(gs: Scope) -> FastAPI:
    app = FastAPI(lifespan=lifespan(gs), exception_handlers=exception_handlers())
    app.add_api_route("/health", health)

    @app.get("/locked")
    async def locked(gs: ScopeDependency) -> str:
        async with gs.lock("stock", wait=0):
            return "done"

    return app


@pytest.mark.asyncio
async def test_a_dependency_gives_the_scope_and_errors_become_answers() -> None:
    gs = Scope(backend="memory")
    async with served(application(gs)) as client:
        assert (await client.get("/locked")).json() == "done"
        async with gs.lock("stock"):
            refused = await client.get("/locked")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/openapi.json")).status_code == 200


@pytest.mark.asyncio
async def test_the_dependency_can_be_overridden() -> None:
    app = application(Scope(backend="memory"))
    async with Scope(backend="memory") as other, served(app) as client, other.lock("stock"):
        app.dependency_overrides[get_scope] = lambda: other
        assert (await client.get("/locked")).status_code == 503


def test_a_websocket_finds_the_scope_too() -> None:
    app = FastAPI(lifespan=lifespan(Scope(backend="memory")))

    @app.websocket("/count")
    async def count(socket: WebSocket, gs: ScopeDependency) -> None:
        await socket.accept()
        await socket.send_json(await gs.cache.increment("count"))
        await socket.close()

    with TestClient(app) as client, client.websocket_connect("/count") as session:
        assert session.receive_json() == 1
