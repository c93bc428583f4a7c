"""A scope in a Starlette application, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from .libraries import require

require("starlette", "uvicorn", "httpx")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import goscope
from goscope import Scope
from goscope.integrations.starlette import exception_handlers, get_scope, health, lifespan

from .serving import served

ERRORS = {
    "circuit": (goscope.CircuitOpen("secret", 12.3), 503, "13"),
    "soon": (goscope.CircuitOpen("secret", 0.0), 503, "1"),
    "forced": (goscope.CircuitOpen("secret", None), 503, None),
    "timeout": (goscope.LockTimeout("secret", 10, None, None), 503, "1"),
    "lost": (goscope.LeaseLost("secret", "it expired"), 503, "1"),
    "busy": (goscope.BackendBusy("secret"), 503, "1"),
    "down": (goscope.BackendUnavailable("secret"), 503, "1"),
    "in-flight": (goscope.OperationInProgress("secret"), 409, "1"),
    "running": (goscope.TaskAlreadyRunning("secret", None), 409, "1"),
    "mismatch": (goscope.FingerprintMismatch("secret"), 422, None),
    "mistake": (goscope.ConfigurationError("secret"), 500, None),
}


async def fail(request: Request) -> PlainTextResponse:
    raise ERRORS[request.path_params["error"]][0]


async def owner(request: Request) -> PlainTextResponse:
    gs = get_scope(request)
    async with gs.lock("stock") as handle:
        return PlainTextResponse(f"{handle.key} {getattr(request.state, 'more', '')}")


def application(gs: Scope) -> Starlette:
    return Starlette(
        routes=[
            Route("/fail/{error}", fail),
            Route("/owner", owner),
            Route("/health", health),
        ],
        lifespan=lifespan(gs),
        exception_handlers=exception_handlers(),
    )


@pytest.mark.asyncio
async def test_errors_become_answers_without_their_texts() -> None:
    async with served(application(Scope(backend="memory")), log_config=None) as client:
        for name, (_, status, retry_after) in ERRORS.items():
            answer = await client.get(f"/fail/{name}", headers={"connection": "close"})
            assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
            assert "secret" not in answer.text
            if status != 500:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == status


@pytest.mark.asyncio
async def test_requests_find_the_scope() -> None:
    gs = Scope(backend="memory")
    async with served(application(gs)) as client:
        assert gs.is_open
        assert (await client.get("/owner")).text == "stock "
    assert not gs.is_open


@pytest.mark.asyncio
async def test_the_lifespan_of_the_application_runs_inside() -> None:
    gs = Scope(backend="memory")
    seen: list[bool] = []

    @asynccontextmanager
    async def inner(app: Starlette) -> AsyncGenerator[dict[str, str]]:
        seen.append(gs.is_open)
        yield {"more": "state"}
        seen.append(gs.is_open)

    app = Starlette(routes=[Route("/owner", owner)], lifespan=lifespan(gs, inner))
    async with served(app) as client:
        assert (await client.get("/owner")).text == "stock state"
    assert seen == [True, True]


@pytest.mark.asyncio
async def test_health_asks_the_store(caplog: pytest.LogCaptureFixture) -> None:
    gs = Scope(backend="memory")
    async with served(application(gs)) as client:
        well = await client.get("/health")
        await gs.close()
        ill = await client.get("/health")
    assert (well.status_code, well.json()) == (200, {"status": "ok"})
    assert (ill.status_code, ill.json()) == (503, {"status": "unavailable"})


def test_an_application_without_the_lifespan_is_told() -> None:
    request = Request({"type": "http", "headers": [], "state": {}})
    with pytest.raises(RuntimeError, match=r"lifespan=lifespan\(gs\)"):
        get_scope(request)
