"""What a program uses a scope for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from goscope import Scope


async def do_nothing() -> None: ...


USES: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "lock": lambda gs: gs.lock("key").acquire(),
    "entered lock": lambda gs: gs.lock("key").__aenter__(),
    "try_acquire": lambda gs: gs.lock("key").try_acquire(),
    "cache.get": lambda gs: gs.cache.get("key"),
    "cache.get_or_set": lambda gs: gs.cache.get_or_set("key", do_nothing),
    "breaker": lambda gs: gs.circuit_breaker("key").call(do_nothing),
    "entered breaker": lambda gs: gs.circuit_breaker("key").__aenter__(),
    "tasks.run": lambda gs: gs.tasks.run("key", lambda task: do_nothing()),
    "idempotency.run": lambda gs: gs.idempotency.run("key", do_nothing),
    "idempotency.get": lambda gs: gs.idempotency.get("key"),
    "cached": lambda gs: gs.cached("5m", key="key")(do_nothing)(),
    "idempotent": lambda gs: gs.idempotent("key")(do_nothing)(),
}


PROVIDERS: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "lock": USES["lock"],
    "cache": USES["cache.get"],
    "circuit_breaker": USES["breaker"],
    "checkpoint": USES["tasks.run"],
    "idempotency": USES["idempotency.run"],
}
