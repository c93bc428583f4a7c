"""A proxy for a weather service that fails: a circuit breaker spares it, a cache hides it."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import goscope
from goscope.integrations.starlette import exception_handlers, health, lifespan

gs = goscope.Scope("sqlite:///weather.db?locks=shared")
breaker = gs.circuit_breaker("weather", failure_threshold=3, reset_timeout="30s")


@gs.cached("10m", key="weather:{city}", stale_for="1h")
@breaker
async def weather(city: str) -> str:
    if city == "atlantis":
        raise ConnectionError("the weather service does not answer")
    return f"{city}: sunny"


async def show(request: Request) -> Response:
    return JSONResponse({"weather": await weather(request.path_params["city"])})


async def unreachable(request: Request, exc: Exception) -> Response:
    return JSONResponse({"error": "the weather service does not answer"}, 502)


app = Starlette(
    routes=[Route("/weather/{city}", show), Route("/health", health)],
    lifespan=lifespan(gs),
    exception_handlers={**exception_handlers(), ConnectionError: unreachable},
)
