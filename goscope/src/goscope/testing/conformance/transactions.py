"""The contract of `goscope.providers.SupportsTransactions`, an optional ability of an adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ...errors import CheckpointConflict, ConfigurationError, LeaseLost
from ...providers import PersistenceAdapter, SupportsTransactions, TransactionProvider
from ._base import Conformance, cache_of, checkpoints_of, idempotency_of, locks_of
from ._checks import run_ticks
from ._locks import granted
from ._samples import checkpoint

CANCELLED_CALLS = 25
"""Each is cancelled one tick of the event loop later than the one before."""


class TransactionsConformance(Conformance, abstract=True):
    """The user's statements are committed together with goscope's record, or neither is.

    A test class overrides ``work``, and ``create`` if the store commits each CREATE TABLE.
    """

    def work(self, *statements: str, error: BaseException | None = None) -> Callable[[Any], Any]:
        """Work that executes the statements, raises the error, else returns the last rows.

        The rows are a list of tuples. ``{account}`` in a statement stands for a table, which has
        one column ``owner``, a text and the primary key.
        """
        raise NotImplementedError

    async def create(self, adapter: PersistenceAdapter, statement: str) -> None:
        """Create a table of the user."""
        await transactions_of(adapter).run(self.work(statement))

    async def _create(self, adapter: PersistenceAdapter) -> TransactionProvider:
        await self.create(adapter, "CREATE TABLE {account} (owner VARCHAR(80) PRIMARY KEY)")
        return transactions_of(adapter)

    def _insert(self, owner: str, error: BaseException | None = None) -> Callable[[Any], Any]:
        return self.work(f"INSERT INTO {{account}} VALUES ('{owner}')", error=error)

    async def _owners(self, adapter: PersistenceAdapter) -> list[str]:
        work = self.work("SELECT owner FROM {account} ORDER BY owner")
        return [row[0] for row in await transactions_of(adapter).run(work)]

    # --- the work alone ----------------------------------------------------------------------

    async def test_transactions_return_the_result_committed(self, tmp_path: Path) -> None:
        """Another adapter sees the rows when run() returns."""
        async with self.open_adapter(tmp_path) as adapter:
            run = (await self._create(adapter)).run
            work = self.work("INSERT INTO {account} VALUES ('ada')", "SELECT * FROM {account}")
            assert await run(work) == [("ada",)]
            assert await self._owners(adapter) == ["ada"]

    async def test_transactions_roll_back_what_raises(self, tmp_path: Path) -> None:
        """The exception of the work reaches the caller itself, and no row is left."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions = await self._create(adapter)
            error = LookupError("mine")
            with pytest.raises(LookupError) as caught:
                await transactions.run(self._insert("ada", error))
            assert caught.value is error, "the exception must be the one of the work"
            assert await self._owners(adapter) == []

    async def test_transactions_refuse_the_other_kind_of_function(self, tmp_path: Path) -> None:
        """A coroutine function where a plain one is called, or the reverse, is a TypeError."""

        async def coroutine_function(_: Any) -> None: ...

        def function(_: Any) -> None: ...

        async with self.open_adapter(tmp_path) as adapter:
            transactions, refused = transactions_of(adapter), 0
            for work in (coroutine_function, function):
                try:
                    await transactions.run(work)
                except TypeError:
                    refused += 1
            assert refused == 1, "exactly one kind of function can use the driver"

    async def test_transactions_report_work_that_ends_them(self, tmp_path: Path) -> None:
        """COMMIT and ROLLBACK in the work raise `ConfigurationError`, and no record is stored."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions = await self._create(adapter)
            for number, end in enumerate(["COMMIT", "ROLLBACK"]):
                with pytest.raises(ConfigurationError):
                    await transactions.run(self.work(end))
                with pytest.raises(ConfigurationError):
                    await transactions.save(checkpoint(number), self.work(end))
                with pytest.raises(ConfigurationError):
                    await transactions.set("key", 1, None, self.work(end))
            assert await checkpoints_of(adapter).list("task") == []
            assert await idempotency_of(adapter).get("key") is None
            await transactions.run(self._insert("ada"))
            assert await self._owners(adapter) == ["ada"], "the adapter must still work"

    async def test_transactions_do_not_harm_others(self, tmp_path: Path) -> None:
        """Writes that run beside transactions that fail are all applied."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions, cache = await self._create(adapter), cache_of(adapter)
            calls: list[Awaitable[object]] = []
            for number in range(10):
                calls.append(cache.set(f"key{number}", number))
                calls.append(transactions.run(self._insert(f"bad{number}", LookupError())))
                calls.append(transactions.run(self._insert(f"good{number}")))
            results = await asyncio.gather(*calls, return_exceptions=True)
            failures = [result for result in results if isinstance(result, BaseException)]
            assert [type(failure) for failure in failures] == [LookupError] * 10
            assert len(await cache.keys()) == 10
            assert await self._owners(adapter) == [f"good{number}" for number in range(10)]

    async def test_transactions_do_not_lose_updates(self, tmp_path: Path) -> None:
        """Concurrent transactions that change one row count each time."""
        async with self.open_adapter(tmp_path) as adapter:
            await self.create(adapter, "CREATE TABLE {account} (owner INTEGER)")
            run = transactions_of(adapter).run
            await run(self.work("INSERT INTO {account} VALUES (0)"))
            add = self.work("UPDATE {account} SET owner = owner + 1")
            await asyncio.gather(*(run(add) for _ in range(20)))
            assert await run(self.work("SELECT owner FROM {account}")) == [(20,)]

    # --- fences ------------------------------------------------------------------------------

    async def test_transactions_are_fenced(self, tmp_path: Path) -> None:
        """A current lease permits the write; a lost one refuses it whole."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions = await self._create(adapter)
            lease = await granted(locks_of(adapter), "guard")
            await transactions.run(self._insert("ada"), fence=lease)
            await transactions.save(checkpoint(1), self._insert("bob"), fence=lease)
            await transactions.set("key", 1, None, self._insert("eve"), fence=lease)
            await lease.release()
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: transactions.run(self._insert("late1"), fence=lease),
                lambda: transactions.save(checkpoint(2), self._insert("late2"), fence=lease),
                lambda: transactions.set("late", 1, None, self._insert("late3"), fence=lease),
            ]
            for call in calls:
                with pytest.raises(LeaseLost):
                    await call()
            assert await self._owners(adapter) == ["ada", "bob", "eve"]
            assert len(await checkpoints_of(adapter).list("task")) == 1
            assert await idempotency_of(adapter).get("late") is None

    async def test_transactions_reject_the_fence_of_another_store(self, tmp_path: Path) -> None:
        """A token of another store is a `ConfigurationError`, before the work is called."""
        other_path = tmp_path / "other"
        other_path.mkdir()
        async with self.open_adapter(tmp_path) as adapter, self.open_adapter(other_path) as other:
            transactions = await self._create(adapter)
            foreign = await granted(locks_of(other), "guard")
            with pytest.raises(ConfigurationError):
                await transactions.run(self._insert("ada"), fence=foreign)
            assert await self._owners(adapter) == []

    # --- with a record -----------------------------------------------------------------------

    async def test_transactions_save_a_checkpoint_with_the_rows(self, tmp_path: Path) -> None:
        """Rows and checkpoint are there together; after an error or a conflict neither is."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions, checkpoints = await self._create(adapter), checkpoints_of(adapter)
            await transactions.save(checkpoint(1), self._insert("ada"))
            with pytest.raises(LookupError):
                await transactions.save(checkpoint(2), self._insert("bob", LookupError()))
            with pytest.raises(CheckpointConflict):
                await transactions.save(checkpoint(1, id="other"), self._insert("eve"))
            assert [saved.sequence for saved in await checkpoints.list("task")] == [1]
            assert await self._owners(adapter) == ["ada"]
            await transactions.save(checkpoint(2), self._insert("bob"))
            assert [saved.sequence for saved in await checkpoints.list("task")] == [1, 2]

    async def test_transactions_store_a_result_with_the_rows(self, tmp_path: Path) -> None:
        """The lease of the call ends with them; after an error it is still held."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions, results = await self._create(adapter), idempotency_of(adapter)
            lease = await granted(locks_of(adapter), "idempotency:key")
            with pytest.raises(LookupError):
                await transactions.set(
                    "key", 1, "1h", self._insert("ada", LookupError()), fence=lease
                )
            assert await results.get("key") is None
            assert await lease.is_valid()
            await transactions.set(
                "key", 2, "1h", self._insert("ada"), fingerprint="same", fence=lease
            )
            record = await results.get("key")
            assert record is not None
            assert (record.value, record.fingerprint) == (2, "same")
            assert not await lease.is_valid()
            assert await self._owners(adapter) == ["ada"]

    async def test_transactions_are_atomic_when_they_are_cancelled(self, tmp_path: Path) -> None:
        """Wherever the caller is cancelled, rows and record are both there, or neither is."""
        async with self.open_adapter(tmp_path) as adapter:
            transactions, results = await self._create(adapter), idempotency_of(adapter)
            for ticks in range(CANCELLED_CALLS):
                key = f"key{ticks}"
                call = transactions.set(key, 1, None, self._insert(key))
                task = asyncio.ensure_future(call)
                await run_ticks(ticks)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            stored = [f"key{ticks}" for ticks in range(CANCELLED_CALLS)]
            stored = [key for key in stored if await results.get(key) is not None]
            assert await self._owners(adapter) == sorted(stored)


def transactions_of(adapter: PersistenceAdapter) -> TransactionProvider:
    assert isinstance(adapter, SupportsTransactions), "the adapter has no transactions"
    return adapter.transactions
