"""Every method of a backend, called with a text that an attacker would choose."""

from __future__ import annotations

from typing import Any, Final

from goscope import Scope
from goscope.providers import Checkpoint, CircuitBreakerState

HOSTILE: Final = "canary'\\'\"; DROP TABLE go_goscope_cache; --"


async def call_every_method(gs: Scope, adapter: Any, text: str) -> None:
    """Use the text as key, value, tag, pattern, owner, id and fingerprint."""
    for it in (adapter.cache, adapter.cache.collection("name")):
        await it.set(text, text, "1h", tags=[text], stale_for="1h")
        assert await it.get(text) == text
        await it.add(text, text)
        await it.touch(text, "1h")
        await it.get_entry(text)
        await it.set_many({text: text, "other": 1})
        await it.get_many([text, "other"])
        await it.keys(f"{text}*")
        await it.has(text)
        await it.increment(f"{text}:count")
        await it.delete_by_tag(text)
        await it.delete_many([text, "other"])
        await it.clear(f"*{text}*")
        await it.prune()
        await it.stats()
    await gs.cache.get_or_set(text, lambda: text)
    lock = await adapter.lock.acquire(text, "1h", text)
    assert lock is not None
    await adapter.lock.extend(text, "1h", text)
    await adapter.cache.set(text, 1, fence=lock)
    await adapter.lock.holder(text)
    assert await adapter.lock.acquire(text, "1h", text) is None
    await lock.release()
    await adapter.lock.force_release(text)
    await adapter.circuit_breaker.set_state(text, CircuitBreakerState())
    await adapter.circuit_breaker.record_failure(text, 1)
    await adapter.circuit_breaker.record_success(text)
    await adapter.circuit_breaker.get_state(text)
    saved = Checkpoint(id=text, task_id=text, sequence=1, timestamp=1, data=text)
    await adapter.checkpoint.save(saved)
    await adapter.checkpoint.load(text)
    await adapter.checkpoint.load_latest(text)
    await adapter.checkpoint.list(text)
    await adapter.checkpoint.cleanup(text, 1)
    await adapter.checkpoint.delete_all(text)
    await gs.idempotency.run(text, lambda: text, fingerprint=text)
    await gs.idempotency.get(text)
    await gs.idempotency.delete(text)
    for listing in ("leases", "circuits", "tasks", "results", "entries", "waiters"):
        async for _ in getattr(adapter.inspection, listing)(f"*{text}*"):
            pass
