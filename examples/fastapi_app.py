"""A shop: a cached price, stock behind a lock, orders that a client may send twice."""

import asyncio
import logging
import os
from dataclasses import dataclass

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import goscope
from goscope.integrations.asgi import IdempotencyMiddleware, header
from goscope.integrations.fastapi import ScopeDependency, exception_handlers, health, lifespan
from goscope.integrations.logging import log_events
from goscope.integrations.prometheus import measure_events

logging.basicConfig(level=logging.INFO)

gs = goscope.Scope(
    "sqlite:///shop.db?locks=shared", name="shop", observers=[log_events(), measure_events()]
)
app = FastAPI(lifespan=lifespan(gs), exception_handlers=exception_handlers())
app.add_middleware(
    IdempotencyMiddleware,
    gs=gs,
    caller=header("authorization"),
    paths=["/orders"],
    required=True,
)
app.add_api_route("/health", health)


@dataclass
class Price:
    article: str
    cents: int
    computed_by: int


@gs.cached("5m", key="price:{article}")
async def price_of(article: str) -> Price:
    await asyncio.sleep(0.1)  # a slow service
    return Price(article, 100 * len(article), os.getpid())


@app.get("/prices/{article}")
async def price(article: str) -> Price:
    return await price_of(article)


@app.post("/orders", status_code=201)
async def order(article: str, gs: ScopeDependency) -> dict[str, int]:
    async with gs.lock(f"stock:{article}", ttl="10s", wait="5s"):
        ordered = await gs.cache.get(f"ordered:{article}", 0, type=int)
        await asyncio.sleep(0.01)  # without the lock, two orders would read one number
        await gs.cache.set(f"ordered:{article}", ordered + 1)
    return {"number": ordered + 1}


@app.get("/metrics")
def metrics() -> Response:
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # set it if there are several workers
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
