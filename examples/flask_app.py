"""Synchronous code: each request runs in a thread, one event loop serves them all."""

import atexit
import time

from flask import Flask

import goscope
from goscope.integrations.blocking import BlockingScope

gs = goscope.Scope("sqlite:///flask.db?locks=shared")


@gs.cached("5m", key="square:{number}")
async def square(number: int) -> int:
    return number * number


app = Flask(__name__)
blocking = BlockingScope(gs)
blocking.open()  # in each worker process, and not before it is forked
atexit.register(blocking.close)


@app.get("/square/<int:number>")
def show(number: int) -> dict[str, int]:
    return {"square": blocking.call(square, number)}


@app.post("/count")
def count() -> dict[str, int]:
    with blocking.lock("count", ttl="10s"):
        number = blocking.call(gs.cache.get, "count", 0, type=int)
        time.sleep(0.01)  # without the lock, two requests would read one number
        blocking.call(gs.cache.set, "count", number + 1)
    return {"count": number + 1}
