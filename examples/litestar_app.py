"""A counter for each visitor: sessions and a rate limit that all workers share."""

from litestar import Litestar, Request, get
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig

import goscope
from goscope.integrations.litestar import stores

gs = goscope.Scope("sqlite:///visits.db")


@get("/health", sync_to_thread=False)
def health() -> str:
    return "ok"


@get("/")
async def visit(request: Request) -> dict[str, int]:
    visits = request.session.get("visits", 0) + 1
    request.set_session({"visits": visits})
    return {"visits": visits}


app = Litestar(
    [visit, health],
    lifespan=[gs],
    stores=stores(gs),
    middleware=[
        ServerSideSessionConfig(store="sessions").middleware,
        RateLimitConfig(("minute", 20), exclude=["/health"], store="limits").middleware,
    ],
)
