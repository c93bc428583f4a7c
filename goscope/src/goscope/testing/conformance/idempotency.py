"""The contract of `goscope.IdempotencyProvider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ...errors import CorruptValue, LeaseLost, SerializationError
from ...providers import IdempotencyProvider, IdempotencyRecord
from ._base import Conformance, idempotency_of, locks_of
from ._checks import is_same, rejects, run_ticks
from ._locks import granted
from ._samples import BAD_DURATIONS, BAD_KEYS, ODD_KEYS, RAW_TEXT, UNSTORABLE, VALUES, Point

Results = IdempotencyProvider

METHODS_WITH_KEYS: Final[dict[str, Callable[[Results, Any], Awaitable[object]]]] = {
    "get": lambda results, key: results.get(key),
    "set": lambda results, key: results.set(key, 1),
    "delete": lambda results, key: results.delete(key),
}


class IdempotencyConformance(Conformance, abstract=True):
    """Results of calls that must not be repeated; storing one ends the lease of its call."""

    @asynccontextmanager
    async def open_results(self, tmp_path: Path) -> AsyncGenerator[IdempotencyProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield idempotency_of(adapter)

    # --- results -----------------------------------------------------------------------------

    async def test_idempotency_an_unknown_key_has_no_record(self, tmp_path: Path) -> None:
        """get() of an unknown key returns None."""
        async with self.open_results(tmp_path) as results:
            assert await results.get("key") is None

    async def test_idempotency_returns_values_unchanged(self, tmp_path: Path) -> None:
        """Every JSON value comes back equal and of the same type, also None."""
        async with self.open_results(tmp_path) as results:
            for value in VALUES:
                await results.set("key", value)
                found = (await record_of(results, "key")).value
                assert is_same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_idempotency_gives_every_reader_a_separate_copy(self, tmp_path: Path) -> None:
        """Changing a value that was stored or read does not change what is read next."""
        async with self.open_results(tmp_path) as results:
            value = {"list": [1]}
            await results.set("key", value)
            value["list"].append(2)
            (await record_of(results, "key")).value["list"].append(3)
            assert (await record_of(results, "key")).value == {"list": [1]}

    async def test_idempotency_rejects_values_that_json_cannot_represent(
        self, tmp_path: Path
    ) -> None:
        """NaN, infinities and objects without a JSON form raise, and nothing is stored."""
        async with self.open_results(tmp_path) as results:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await results.set("key", value)
            assert await results.get("key") is None, "a rejected value was stored"

    async def test_idempotency_a_fingerprint_is_kept(self, tmp_path: Path) -> None:
        """The record has the fingerprint that was stored, or None."""
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

    async def test_idempotency_delete_removes_the_result(self, tmp_path: Path) -> None:
        """delete() removes the result and its fingerprint, and returns False the second time."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", None, fingerprint="old")
            assert await results.delete("key") is True
            assert await results.get("key") is None
            assert await results.delete("key") is False
            await results.set("key", None)
            assert (await record_of(results, "key")).fingerprint is None, "it outlived its result"

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_idempotency_rejects_invalid_keys(self, tmp_path: Path, method: str) -> None:
        """Each method rejects invalid keys."""
        async with self.open_results(tmp_path) as results:
            call = METHODS_WITH_KEYS[method]
            await rejects(f"idempotency.{method}", lambda key: call(results, key), BAD_KEYS)

    async def test_idempotency_keys_are_distinct(self, tmp_path: Path) -> None:
        """Keys that differ at all, even in case or spaces, are separate calls."""
        async with self.open_results(tmp_path) as results:
            for number, key in enumerate(ODD_KEYS):
                await results.set(key, number)
            for number, key in enumerate(ODD_KEYS):
                record = await record_of(results, key)
                assert record.value == number, f"{key[:40]!r} was mistaken for another"

    async def test_idempotency_a_cancelled_set_is_atomic(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, value and fingerprint are of the same call."""
        async with self.open_results(tmp_path) as results:
            for count in range(10):
                storing = results.set("key", count, fingerprint=str(count))
                task = asyncio.ensure_future(storing)
                await run_ticks(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                record = await results.get("key")
                assert record is None or record.fingerprint == str(record.value), f"{record}"
            await results.set("after", 1)
            assert (await record_of(results, "after")).value == 1

    # --- types and raw text ------------------------------------------------------------------

    async def test_idempotency_type_decodes_the_value(self, tmp_path: Path) -> None:
        """get() decodes the value to ``type``."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", Point(1, 2), "1h", fingerprint="print")
            assert (await record_of(results, "key")).value == {"x": 1, "y": 2}
            record = await results.get("key", type=Point)
            assert record is not None, "get(type=...) returned None for a live result"
            assert record.value == Point(1, 2), f"get(type=...) returned {record.value!r}"
            assert record.fingerprint == "print"

    async def test_idempotency_a_value_of_another_type_raises(self, tmp_path: Path) -> None:
        """A value that does not decode to ``type`` raises CorruptValue and stays stored."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", "text")
            with pytest.raises(CorruptValue) as caught:
                await results.get("key", type=Point)
            assert caught.value.key == "key", "the error must have the key without its prefix"
            assert (await record_of(results, "key")).value == "text"

    async def test_idempotency_read_of_raw_returns_the_stored_text(self, tmp_path: Path) -> None:
        """With ``type=msgspec.Raw`` the value is the stored JSON text, not decoded."""
        async with self.open_results(tmp_path) as results:
            for value in VALUES:
                await results.set("key", value)
                record = await results.get("key", type=msgspec.Raw)
                assert record is not None
                assert type(record.value) is msgspec.Raw, f"{record.value!r:.60} is not a Raw"
                decoded = msgspec.json.decode(record.value)
                assert is_same(decoded, value), f"{value!r:.60} was stored as {decoded!r:.60}"

    async def test_idempotency_stores_raw_text_unchanged(self, tmp_path: Path) -> None:
        """A ``msgspec.Raw`` is stored as the text it holds."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", msgspec.Raw(RAW_TEXT))
            assert (await record_of(results, "key")).value == {"b": 1, "a": [2.0]}
            record = await results.get("key", type=msgspec.Raw)
            assert record is not None
            text = bytes(record.value)
            assert text == RAW_TEXT, f"{RAW_TEXT!r} was stored as {text!r}"

    # --- expiry ------------------------------------------------------------------------------

    async def test_idempotency_an_expired_result_is_absent(self, tmp_path: Path) -> None:
        """Past its ttl a result is absent, swept or not."""
        async with self.open_adapter(tmp_path) as adapter:
            results = idempotency_of(adapter)
            await results.set("key", 1, "500ms")
            await self.advance(adapter, "600ms")
            assert await results.get("key") is None, "get() returned an expired result"
            assert not await results.delete("key"), "delete() counted an expired result"

    async def test_idempotency_a_ttl_under_a_second_is_honoured(self, tmp_path: Path) -> None:
        """A result with a ttl of half a second is live at first."""
        async with self.open_results(tmp_path) as results:
            await results.set("key", 1, "500ms")
            assert await results.get("key"), "a ttl under a second was rounded to zero"

    async def test_idempotency_a_result_lives_until_its_expiry(self, tmp_path: Path) -> None:
        """A result does not expire early because its ttl was rounded to whole seconds."""
        async with self.open_adapter(tmp_path) as adapter:
            results = idempotency_of(adapter)
            await results.set("key", 1, "2s")
            await self.advance(adapter, "1s")
            assert await results.get("key"), "the result expired a second too early"

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_idempotency_ttl_units(
        self, tmp_path: Path, ttl: timedelta | str | float
    ) -> None:
        """A ttl is a timedelta, a string with a unit, or a number of milliseconds."""
        async with self.open_results(tmp_path) as results:
            await results.set("reference", 1, "1s")
            await results.set("key", 1, ttl)
            reference = (await record_of(results, "reference")).expires_at
            found = (await record_of(results, "key")).expires_at
            assert type(reference) is int, "expires_at is not an int"
            assert type(found) is int, "expires_at is not an int"
            assert reference > 1_500_000_000_000, "expires_at is not epoch milliseconds"
            assert 59_000 <= found - reference < 69_000, f"ttl={ttl!r} is not 60000 ms"

    async def test_idempotency_rejects_invalid_ttls(self, tmp_path: Path) -> None:
        """An invalid ttl is rejected and nothing is stored."""
        async with self.open_results(tmp_path) as results:
            await rejects("idempotency.set", lambda it: results.set("key", 1, it), BAD_DURATIONS)
            assert await results.get("key") is None, "a rejected result was stored"

    # --- the lease of the call ---------------------------------------------------------------

    async def test_idempotency_set_ends_the_lease_of_its_call(self, tmp_path: Path) -> None:
        """Storing the result under the lease of its call releases the lease atomically."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            lease = await granted(leases, "idempotency:key")
            await results.set("key", "done", fence=lease)
            assert (await record_of(results, "key")).value == "done"
            assert await leases.holder("idempotency:key") is None, "the lease was not released"
            assert not await lease.is_valid(), "the handle of the ended lease is still valid"

    async def test_idempotency_a_call_cannot_be_completed_twice(self, tmp_path: Path) -> None:
        """The first completion ends the lease, so a second one under it is rejected."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            lease = await granted(leases, "idempotency:key")
            await results.set("key", "first", fence=lease)
            with pytest.raises(LeaseLost):
                await results.set("key", "second", fence=lease)
            assert (await record_of(results, "key")).value == "first"

    async def test_idempotency_set_ends_no_other_lease(self, tmp_path: Path) -> None:
        """A fence that is not the lease of the call stays current."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            for name in ("idempotency:other", "key", "idempotency:key2"):
                lease = await granted(leases, name)
                await results.set("key", 1, fence=lease)
                assert await lease.is_valid(), f"storing 'key' ended the lease {name!r}"

    async def test_idempotency_a_set_without_fence_ends_no_lease(self, tmp_path: Path) -> None:
        """Storing a result without a fence does not release the lease of the call."""
        async with self.open_adapter(tmp_path) as adapter:
            lease = await granted(locks_of(adapter), "idempotency:key")
            await idempotency_of(adapter).set("key", 1)
            assert await lease.is_valid(), "a set without fence released the lease"

    async def test_idempotency_a_rejected_completion_ends_no_lease(self, tmp_path: Path) -> None:
        """A late completion does not end the lease that another owner has acquired."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, results = locks_of(adapter), idempotency_of(adapter)
            late = await granted(leases, "idempotency:key")
            await leases.force_release("idempotency:key")
            current = await granted(leases, "idempotency:key")
            with pytest.raises(LeaseLost):
                await results.set("key", "late", fence=late)
            assert await results.get("key") is None, "a late completion was stored"
            assert await current.is_valid(), "a late completion ended the lease of another owner"

    async def test_idempotency_matches_its_model(self, tmp_path: Path) -> None:
        """The provider returns what the model returns, for any history of calls."""
        from .machines.idempotency import IdempotencyMachine  # importing hypothesis takes long

        await IdempotencyMachine.compare(self, tmp_path)


async def record_of(results: IdempotencyProvider, key: str) -> IdempotencyRecord:
    """The record of a key that must have one."""
    record = await results.get(key)
    assert record is not None, f"{key[:40]!r} has a result, but get() is None"
    assert isinstance(record, IdempotencyRecord), "get() must return a goscope.IdempotencyRecord"
    return record
