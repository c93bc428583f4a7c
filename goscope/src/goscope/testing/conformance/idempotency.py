"""The contract of `goscope.IdempotencyProvider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ...errors import LeaseLost, SerializationError
from ...providers import IdempotencyProvider, IdempotencyRecord
from ._base import Conformance, idempotency_of, locks_of
from ._tables import BAD_DURATIONS, BAD_KEYS, ODD_KEYS, UNSTORABLE, VALUES, refuses, same, turns
from .lock import granted

Results = IdempotencyProvider

METHODS_WITH_KEYS: Final[dict[str, Callable[[Results, Any], Awaitable[object]]]] = {
    "get": lambda results, key: results.get(key),
    "set": lambda results, key: results.set(key, 1),
    "delete": lambda results, key: results.delete(key),
}


class IdempotencyConformance(Conformance, abstract=True):
    """Results of calls that must happen once, stored in one step with the end of their lease."""

    @asynccontextmanager
    async def open_results(self, tmp_path: Path) -> AsyncGenerator[IdempotencyProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield idempotency_of(adapter)

    # --- results -----------------------------------------------------------------------------

    async def test_idempotency_an_unknown_key_has_no_record(self, tmp_path: Path) -> None:
        """There is no record of a call that did not happen."""
        async with self.open_results(tmp_path) as results:
            assert await results.get("key") is None

    async def test_idempotency_values_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Whatever JSON carries comes back equal and of the same type, None included."""
        async with self.open_results(tmp_path) as results:
            for value in VALUES:
                await results.set("key", value)
                found = (await record_of(results, "key")).value
                assert same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_idempotency_every_reader_gets_a_copy_of_its_own(self, tmp_path: Path) -> None:
        """Neither the caller's object nor another reader's is handed out."""
        async with self.open_results(tmp_path) as results:
            value = {"list": [1]}
            await results.set("key", value)
            value["list"].append(2)
            (await record_of(results, "key")).value["list"].append(3)
            assert (await record_of(results, "key")).value == {"list": [1]}

    async def test_idempotency_values_that_json_cannot_carry_are_refused(
        self, tmp_path: Path
    ) -> None:
        """NaN, infinities and objects without JSON form are errors, and nothing is stored."""
        async with self.open_results(tmp_path) as results:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await results.set("key", value)
            assert await results.get("key") is None, "a refused value was stored"

    async def test_idempotency_a_fingerprint_is_kept(self, tmp_path: Path) -> None:
        """The record shows the fingerprint it was stored with, or None."""
        async with self.open_results(tmp_path) as results:
            await results.set("with", 1, fingerprint="sha256:äöü")
            await results.set("without", 1)
            assert (await record_of(results, "with")).fingerprint == "sha256:äöü"
            assert (await record_of(results, "without")).fingerprint is None

    async def test_idempotency_set_replaces_everything(self, tmp_path: Path) -> None:
        """A new result replaces value, expiry and fingerprint, also with the same value."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", 1, "1h", fingerprint="old")
            await results.set("key", 1)
            fresh = IdempotencyRecord(value=1, expires_at=None, fingerprint=None)
            assert await results.get("key") == fresh, "the old expiry or fingerprint was kept"

    async def test_idempotency_delete_forgets_the_result(self, tmp_path: Path) -> None:
        """A deleted result is gone with its fingerprint; deleting it again is False."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", None, fingerprint="old")
            assert await results.delete("key") is True
            assert await results.get("key") is None
            assert await results.delete("key") is False
            await results.set("key", None)
            assert (await record_of(results, "key")).fingerprint is None, "it outlived its record"

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_idempotency_bad_keys_are_refused(self, tmp_path: Path, method: str) -> None:
        """Each method refuses what is no key."""
        async with self.open_results(tmp_path) as results:
            call = METHODS_WITH_KEYS[method]
            await refuses(f"idempotency.{method}", lambda key: call(results, key), BAD_KEYS)

    async def test_idempotency_keys_are_told_apart(self, tmp_path: Path) -> None:
        """Keys that differ in anything, case and spaces included, are different calls."""
        async with self.open_results(tmp_path) as results:
            for number, key in enumerate(ODD_KEYS):
                await results.set(key, number)
            for number, key in enumerate(ODD_KEYS):
                record = await record_of(results, key)
                assert record.value == number, f"{key[:40]!r} was taken for another key"

    async def test_idempotency_a_cancelled_set_happens_whole_or_not(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, value and fingerprint belong together."""
        async with self.open_results(tmp_path) as results:
            for count in range(10):
                storing = results.set("key", count, fingerprint=str(count))
                task = asyncio.ensure_future(storing)
                await turns(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                record = await results.get("key")
                assert record is None or record.fingerprint == str(record.value), f"{record}"
            await results.set("after", 1)
            assert (await record_of(results, "after")).value == 1

    # --- expiry ------------------------------------------------------------------------------

    async def test_idempotency_an_expired_result_is_forgotten(self, tmp_path: Path) -> None:
        """Past its ttl a result is absent, swept or not."""
        async with self.open_adapter(tmp_path) as adapter:
            results = idempotency_of(adapter)
            await results.set("key", 1, "500ms")
            await self.advance(adapter, "600ms")
            assert await results.get("key") is None, "an expired result was replayed"
            assert not await results.delete("key"), "delete() counted an expired result"

    async def test_idempotency_a_ttl_under_a_second_is_honoured(self, tmp_path: Path) -> None:
        """A result with a ttl of half a second is there at first."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", 1, "500ms")
            assert await results.get("key"), "a ttl under a second was rounded to zero"

    async def test_idempotency_a_result_lives_until_its_expiry(self, tmp_path: Path) -> None:
        """A result is not dropped early by rounding to whole seconds."""
        async with self.open_adapter(tmp_path) as adapter:
            results = idempotency_of(adapter)
            await results.set("key", 1, "2s")
            await self.advance(adapter, "1s")
            assert await results.get("key"), "the result expired a second too early"

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_idempotency_ttl_units(
        self, tmp_path: Path, ttl: timedelta | str | float
    ) -> None:
        """A ttl is a timedelta, a string with units, or a number of milliseconds."""
        async with self.open_results(tmp_path) as results:
            await results.set("reference", 1, "1s")
            await results.set("key", 1, ttl)
            reference = (await record_of(results, "reference")).expires_at
            found = (await record_of(results, "key")).expires_at
            assert type(reference) is int, "expires_at is not an int"
            assert type(found) is int, "expires_at is not an int"
            assert reference > 1_500_000_000_000, "expires_at is not epoch milliseconds"
            assert 59_000 <= found - reference < 69_000, f"ttl={ttl!r} is not 60000 ms"

    async def test_idempotency_bad_ttls_are_refused(self, tmp_path: Path) -> None:
        """A ttl that is no duration is refused and nothing is stored."""
        async with self.open_results(tmp_path) as results:
            await refuses("idempotency.set", lambda it: results.set("key", 1, it), BAD_DURATIONS)
            assert await results.get("key") is None, "a refused result was stored"

    # --- the lease of the call ---------------------------------------------------------------

    async def test_idempotency_set_ends_the_lease_of_its_call(self, tmp_path: Path) -> None:
        """Storing the result under the call's own lease releases it in the same step."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            lease = await granted(leases, "idempotency:key")
            await results.set("key", "done", fence=lease)
            assert (await record_of(results, "key")).value == "done"
            assert await leases.holder("idempotency:key") is None, "the lease was not released"
            assert not await lease.is_valid(), "the handle of the ended lease is still valid"

    async def test_idempotency_a_call_is_completed_once(self, tmp_path: Path) -> None:
        """The second completion under one lease is refused: the first one ended it."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            lease = await granted(leases, "idempotency:key")
            await results.set("key", "first", fence=lease)
            with pytest.raises(LeaseLost):
                await results.set("key", "second", fence=lease)
            assert (await record_of(results, "key")).value == "first"

    async def test_idempotency_set_ends_no_other_lease(self, tmp_path: Path) -> None:
        """A fence that is not the call's own lease stays in force."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            for name in ("idempotency:other", "key", "idempotency:key2"):
                lease = await granted(leases, name)
                await results.set("key", 1, fence=lease)
                assert await lease.is_valid(), f"storing 'key' ended the lease {name!r}"

    async def test_idempotency_a_set_without_fence_ends_no_lease(self, tmp_path: Path) -> None:
        """Storing without a fence leaves the call's lease to whoever holds it."""
        async with self.open_adapter(tmp_path) as adapter:
            lease = await granted(locks_of(adapter), "idempotency:key")
            await idempotency_of(adapter).set("key", 1)
            assert await lease.is_valid(), "a set without fence released the lease"

    async def test_idempotency_a_refused_completion_ends_no_lease(self, tmp_path: Path) -> None:
        """A late completion leaves the lease alone that was granted to another meanwhile."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            late = await granted(leases, "idempotency:key")
            await leases.force_release("idempotency:key")
            current = await granted(leases, "idempotency:key")
            with pytest.raises(LeaseLost):
                await results.set("key", "late", fence=late)
            assert await results.get("key") is None, "a late completion was stored"
            assert await current.is_valid(), "a late completion ended another's lease"

    async def test_idempotency_it_answers_as_a_plain_model_does(self, tmp_path: Path) -> None:
        """Whatever the history of calls; hypothesis shows the shortest bad one."""
        from .machines.idempotency import IdempotencyMachine  # hypothesis takes long to import

        await IdempotencyMachine.compare(self, tmp_path)


async def record_of(results: IdempotencyProvider, key: str) -> IdempotencyRecord:
    """The record of a key that must have one."""
    record = await results.get(key)
    assert record is not None, f"{key[:40]!r} has a result, but get() is None"
    assert isinstance(record, IdempotencyRecord), "get() must return a goscope record"
    return record
