"""The contract of `goscope.CheckpointProvider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from ...errors import CheckpointConflict, SerializationError
from ...providers import Checkpoint, CheckpointProvider
from ._base import Conformance, checkpoints_of
from ._checks import is_same, rejects, run_ticks
from ._samples import BAD_KEYS, ODD_KEYS, UNSTORABLE, VALUES, checkpoint

Checkpoints = CheckpointProvider


METHODS_WITH_KEYS: Final[dict[str, Callable[[Checkpoints, Any], Awaitable[object]]]] = {
    "save(id)": lambda store, key: store.save(replace(checkpoint(1), id=key)),
    "save(task_id)": lambda store, key: store.save(replace(checkpoint(1), task_id=key)),
    "load": lambda store, key: store.load(key),
    "load_latest": lambda store, key: store.load_latest(key),
    "list": lambda store, key: store.list(key),
    "cleanup": lambda store, key: store.cleanup(key, 1),
    "delete_all": lambda store, key: store.delete_all(key),
}


class CheckpointConformance(Conformance, abstract=True):
    """Saved states of tasks, whose sequence only grows."""

    @asynccontextmanager
    async def open_checkpoints(self, tmp_path: Path) -> AsyncGenerator[CheckpointProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield checkpoints_of(adapter)

    # --- save and load -----------------------------------------------------------------------

    async def test_checkpoint_an_unknown_task_has_none(self, tmp_path: Path) -> None:
        """An unknown task has no checkpoints, and an unknown id loads None."""
        async with self.open_checkpoints(tmp_path) as store:
            assert await store.load("task#1") is None
            assert await store.load_latest("task") is None
            assert list(await store.list("task")) == []

    @pytest.mark.parametrize("prefix", [None, "shop:"])
    async def test_checkpoint_is_loaded_as_it_was_saved(
        self, tmp_path: Path, prefix: str | None
    ) -> None:
        """Each loading method returns every field, and no prefix."""
        async with self.open_adapter(tmp_path, key_prefix=prefix) as adapter:
            store = checkpoints_of(adapter)
            saved = Checkpoint(
                id="some id",
                task_id="some task",
                sequence=2**40,
                timestamp=1_700_000_000_123,
                data={"rows": [1, 2]},
                progress=33.25,
                estimated_time_remaining=1_234_567,
            )
            await store.save(saved)
            assert await store.load("some id") == saved
            assert await store.load_latest("some task") == saved
            assert list(await store.list("some task")) == [saved]

    async def test_checkpoint_an_unknown_remaining_time_stays_unknown(self, tmp_path: Path) -> None:
        """An unknown remaining time is None, not 0."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence, eta in enumerate([None, 0]):
                await store.save(replace(checkpoint(sequence), estimated_time_remaining=eta))
                latest = await latest_of(store, "task")
                assert latest.estimated_time_remaining == eta, "None and 0 are confused"

    async def test_checkpoint_returns_data_unchanged(self, tmp_path: Path) -> None:
        """Every JSON value comes back equal and of the same type, also None."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence, value in enumerate(VALUES):
                await store.save(replace(checkpoint(sequence), data=value))
                found = (await latest_of(store, "task")).data
                assert is_same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_checkpoint_gives_every_reader_a_separate_copy(self, tmp_path: Path) -> None:
        """Changing the data that was saved or loaded does not change what is loaded next."""
        async with self.open_checkpoints(tmp_path) as store:
            data = {"list": [1]}
            await store.save(checkpoint(1, data=data))
            data["list"].append(2)
            (await latest_of(store, "task")).data["list"].append(3)
            assert (await latest_of(store, "task")).data == {"list": [1]}

    async def test_checkpoint_rejects_data_that_json_cannot_represent(self, tmp_path: Path) -> None:
        """NaN, infinities and objects without a JSON form raise, and nothing is saved."""
        async with self.open_checkpoints(tmp_path) as store:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await store.save(checkpoint(1, data=value))
            assert await store.load_latest("task") is None, "a rejected checkpoint was saved"

    @pytest.mark.parametrize("progress", [float("nan"), float("inf")])
    async def test_checkpoint_progress_is_finite(self, tmp_path: Path, progress: float) -> None:
        """Progress that is not finite raises ValueError."""
        async with self.open_checkpoints(tmp_path) as store:
            with pytest.raises(ValueError, match="progress"):
                await store.save(replace(checkpoint(1), progress=progress))
            assert await store.load_latest("task") is None

    @pytest.mark.parametrize("sequence", [-1, True, 1.0, "1", None])
    async def test_checkpoint_sequence_is_a_natural_number(
        self, tmp_path: Path, sequence: Any
    ) -> None:
        """Any other sequence raises ValueError; 0 is valid."""
        async with self.open_checkpoints(tmp_path) as store:
            with pytest.raises(ValueError, match="sequence"):
                await store.save(replace(checkpoint(1), sequence=sequence))
            assert await store.load_latest("task") is None
            await store.save(checkpoint(0))

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_checkpoint_rejects_invalid_ids(self, tmp_path: Path, method: str) -> None:
        """Task ids and checkpoint ids must be valid keys, for each method."""
        async with self.open_checkpoints(tmp_path) as store:
            call = METHODS_WITH_KEYS[method]
            await rejects(f"checkpoint.{method}", lambda key: call(store, key), BAD_KEYS)

    async def test_checkpoint_tasks_are_distinct(self, tmp_path: Path) -> None:
        """Task ids that differ at all, even in case or spaces, are separate tasks."""
        async with self.open_checkpoints(tmp_path) as store:
            for number, key in enumerate(ODD_KEYS):
                await store.save(checkpoint(number, key, id=key))
            for number, key in enumerate(ODD_KEYS):
                for found in (await store.load_latest(key), await store.load(key)):
                    assert found is not None, f"{key[:40]!r} was not saved"
                    assert found.sequence == number, f"{key[:40]!r} was mistaken for another"

    # --- the sequence ------------------------------------------------------------------------

    async def test_checkpoint_the_latest_has_the_highest_sequence(self, tmp_path: Path) -> None:
        """load_latest() returns the highest sequence; sequences may have gaps."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (0, 1, 9, 10, 100):
                await store.save(checkpoint(sequence))
                assert (await latest_of(store, "task")).sequence == sequence

    async def test_checkpoint_list_is_in_the_order_of_the_sequence(self, tmp_path: Path) -> None:
        """The lowest sequence comes first, compared as numbers, not as text."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (2, 9, 10, 100):
                await store.save(replace(checkpoint(sequence), timestamp=1_000 - sequence))
                await store.save(checkpoint(sequence, "other task"))
            assert [it.sequence for it in await store.list("task")] == [2, 9, 10, 100]

    @pytest.mark.parametrize("sequence", [1, 4, 5])
    async def test_checkpoint_a_sequence_that_is_not_higher_is_a_conflict(
        self, tmp_path: Path, sequence: int
    ) -> None:
        """A new checkpoint at or below the highest sequence is rejected and not saved."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(3))
            await store.save(checkpoint(5))
            before = list(await store.list("task"))
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(sequence, id="new"))
            assert list(await store.list("task")) == before, "a rejected checkpoint was saved"
            assert await store.load("new") is None, "a rejected checkpoint was saved"

    async def test_checkpoint_a_conflict_has_task_and_sequences(self, tmp_path: Path) -> None:
        """The error has the task id without its prefix, the sequence and the highest one."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            store = checkpoints_of(adapter)
            await store.save(checkpoint(5))
            with pytest.raises(CheckpointConflict) as caught:
                await store.save(checkpoint(4, id="new"))
            error = caught.value
            assert (error.task_id, error.sequence, error.highest) == ("task", 4, 5)

    async def test_checkpoint_saving_the_latest_again_replaces_it(self, tmp_path: Path) -> None:
        """A save with the id and sequence of the latest checkpoint replaces it."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            await store.save(checkpoint(2))
            updated = replace(
                checkpoint(2), data="new", progress=50.0, timestamp=1, estimated_time_remaining=2
            )
            await store.save(updated)
            assert list(await store.list("task")) == [checkpoint(1), updated]
            assert await store.load(updated.id) == updated, "load() found the old version"

    async def test_checkpoint_only_the_latest_can_be_replaced(self, tmp_path: Path) -> None:
        """A save with the id and sequence of an older checkpoint is a conflict."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            await store.save(checkpoint(2))
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(1, data="new"))
            assert await store.load("task#1") == checkpoint(1), "an older checkpoint was replaced"

    @pytest.mark.parametrize("sequence", [1, 2, 3, 4])
    async def test_checkpoint_an_id_belongs_to_one_checkpoint(
        self, tmp_path: Path, sequence: int
    ) -> None:
        """An id that was saved with another sequence, higher or lower, is a conflict."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(2))
            await store.save(checkpoint(3))
            taken = "task#2" if sequence != 2 else "task#3"
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(sequence, id=taken))
            assert list(await store.list("task")) == [checkpoint(2), checkpoint(3)]

    async def test_checkpoint_an_id_belongs_to_one_task(self, tmp_path: Path) -> None:
        """An id of another task is a conflict, and that task keeps its checkpoint."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1, "mine", id="id"))
            with pytest.raises(CheckpointConflict) as caught:
                await store.save(checkpoint(1, "yours", id="id"))
            assert caught.value.task_id == "yours"
            assert await store.load("id") == checkpoint(1, "mine", id="id")
            assert await store.load_latest("yours") is None

    async def test_checkpoint_one_of_concurrent_saves_wins(self, tmp_path: Path) -> None:
        """Of concurrent saves of one sequence exactly one succeeds; the others conflict."""
        async with self.open_checkpoints(tmp_path) as store:
            saves = (store.save(checkpoint(1, id=f"id{n}", data=n)) for n in range(20))
            results = await asyncio.gather(*saves, return_exceptions=True)
            won = [number for number, result in enumerate(results) if result is None]
            lost = [result for result in results if isinstance(result, CheckpointConflict)]
            assert (len(won), len(lost)) == (1, 19), f"{len(won)} of 20 saves won"
            assert (await latest_of(store, "task")).data == won[0]

    async def test_checkpoint_a_cancelled_save_is_atomic(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, the checkpoint is saved or not, and the store still works."""
        async with self.open_checkpoints(tmp_path) as store:
            for count in range(10):
                task = asyncio.create_task(store.save(checkpoint(count)))
                await run_ticks(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await store.load(f"task#{count}") in (None, checkpoint(count))
            await store.save(checkpoint(100))
            assert await latest_of(store, "task") == checkpoint(100)

    # --- removal -----------------------------------------------------------------------------

    @pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [10]), (2, [9, 10]), (3, [2, 9, 10])])
    async def test_checkpoint_cleanup_keeps_the_latest(
        self, tmp_path: Path, keep: int, left: list[int]
    ) -> None:
        """cleanup() keeps the given number of highest sequences, and affects no other task."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (2, 9, 10):
                await store.save(checkpoint(sequence))
                await store.save(checkpoint(sequence, "other task"))
            await store.cleanup("task", keep)
            assert [it.sequence for it in await store.list("task")] == left
            assert len(await store.list("other task")) == 3, "another task lost checkpoints"
            for sequence in (2, 9, 10):
                found = await store.load(f"task#{sequence}") is not None
                assert found == (sequence in left), "load() and list() differ after cleanup()"

    async def test_checkpoint_cleanup_of_fewer_than_it_keeps_does_nothing(
        self, tmp_path: Path
    ) -> None:
        """Neither a count above the number of checkpoints nor an unknown task is an error."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            await store.cleanup("task", 10)
            await store.cleanup("unknown", 10)
            assert list(await store.list("task")) == [checkpoint(1)]

    @pytest.mark.parametrize("keep", [-1, True, 1.0, "1", None])
    async def test_checkpoint_keep_count_is_a_natural_number(
        self, tmp_path: Path, keep: Any
    ) -> None:
        """Any other number raises ValueError, and nothing is removed."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            with pytest.raises(ValueError, match="keep_count"):
                await store.cleanup("task", keep)
            assert len(await store.list("task")) == 1

    async def test_checkpoint_cleanup_does_not_free_sequences(self, tmp_path: Path) -> None:
        """A removed sequence cannot be saved again while a higher one is kept."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (1, 2, 3):
                await store.save(checkpoint(sequence))
            await store.cleanup("task", 1)
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(2))
            await store.save(checkpoint(4))
            assert [it.sequence for it in await store.list("task")] == [3, 4]

    async def test_checkpoint_delete_all_removes_the_task(self, tmp_path: Path) -> None:
        """delete_all() removes only this task, which can then reuse its ids."""
        async with self.open_checkpoints(tmp_path) as store:
            for task_id in ("task", "task2", "tas_", "Task"):
                await store.save(checkpoint(5, task_id))
            await store.delete_all("task")
            await store.delete_all("tas%")
            await store.delete_all("t*")
            assert await store.load_latest("task") is None
            assert await store.load("task#5") is None, "load() found a deleted checkpoint"
            for task_id in ("task2", "tas_", "Task"):
                assert await store.load_latest(task_id), f"{task_id!r} was removed too"
            await store.save(checkpoint(5))
            await store.delete_all("unknown")

    async def test_checkpoint_matches_its_model(self, tmp_path: Path) -> None:
        """The provider returns what the model returns, for any history of calls."""
        from .machines.checkpoint import CheckpointMachine  # importing hypothesis takes long

        await CheckpointMachine.compare(self, tmp_path)


async def latest_of(store: CheckpointProvider, task_id: str) -> Checkpoint:
    """The latest checkpoint of a task that must have one."""
    latest = await store.load_latest(task_id)
    assert latest is not None, f"task {task_id!r} has checkpoints, but load_latest() is None"
    assert isinstance(latest, Checkpoint), "load_latest() must return a goscope.Checkpoint"
    return latest
