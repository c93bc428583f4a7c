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
from ._tables import BAD_KEYS, ODD_KEYS, UNSTORABLE, VALUES, refuses, same, turns

Checkpoints = CheckpointProvider


def checkpoint(
    sequence: int, task_id: str = "task", data: Any = None, *, id: str | None = None
) -> Checkpoint:
    """Make a checkpoint whose id follows from its task and sequence."""
    return Checkpoint(
        id=f"{task_id}#{sequence}" if id is None else id,
        task_id=task_id,
        sequence=sequence,
        timestamp=1_700_000_000_000 + sequence,
        data={"step": sequence} if data is None else data,
    )


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
    """Saved states of tasks, whose sequence only ever moves on."""

    @asynccontextmanager
    async def open_checkpoints(self, tmp_path: Path) -> AsyncGenerator[CheckpointProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield checkpoints_of(adapter)

    # --- save and load -----------------------------------------------------------------------

    async def test_checkpoint_nothing_is_saved_at_first(self, tmp_path: Path) -> None:
        """An unknown task has no checkpoints, an unknown id no checkpoint."""
        async with self.open_checkpoints(tmp_path) as store:
            assert await store.load("task#1") is None
            assert await store.load_latest("task") is None
            assert list(await store.list("task")) == []

    @pytest.mark.parametrize("prefix", [None, "shop:"])
    async def test_checkpoint_a_checkpoint_comes_back_as_it_was(
        self, tmp_path: Path, prefix: str | None
    ) -> None:
        """Every field is kept, by whichever method it is loaded, and no prefix is seen."""
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
        """None is not 0."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence, eta in enumerate([None, 0]):
                await store.save(replace(checkpoint(sequence), estimated_time_remaining=eta))
                latest = await latest_of(store, "task")
                assert latest.estimated_time_remaining == eta, "None and 0 were mixed up"

    async def test_checkpoint_data_comes_back_as_it_was(self, tmp_path: Path) -> None:
        """Whatever JSON carries comes back equal and of the same type, None included."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence, value in enumerate(VALUES):
                await store.save(replace(checkpoint(sequence), data=value))
                found = (await latest_of(store, "task")).data
                assert same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_checkpoint_every_reader_gets_a_copy_of_its_own(self, tmp_path: Path) -> None:
        """Neither the saver's object nor another reader's is handed out."""
        async with self.open_checkpoints(tmp_path) as store:
            data = {"list": [1]}
            await store.save(checkpoint(1, data=data))
            data["list"].append(2)
            (await latest_of(store, "task")).data["list"].append(3)
            assert (await latest_of(store, "task")).data == {"list": [1]}

    async def test_checkpoint_data_that_json_cannot_carry_is_refused(self, tmp_path: Path) -> None:
        """NaN, infinities and objects without JSON form are errors, and nothing is saved."""
        async with self.open_checkpoints(tmp_path) as store:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await store.save(checkpoint(1, data=value))
            assert await store.load_latest("task") is None, "a refused checkpoint was saved"

    @pytest.mark.parametrize("progress", [float("nan"), float("inf")])
    async def test_checkpoint_progress_is_finite(self, tmp_path: Path, progress: float) -> None:
        """Progress that is no number of percent is a ValueError."""
        async with self.open_checkpoints(tmp_path) as store:
            with pytest.raises(ValueError, match="progress"):
                await store.save(replace(checkpoint(1), progress=progress))
            assert await store.load_latest("task") is None

    @pytest.mark.parametrize("sequence", [-1, True, 1.0, "1", None])
    async def test_checkpoint_sequence_is_a_natural_number(
        self, tmp_path: Path, sequence: Any
    ) -> None:
        """Any other sequence is a ValueError; 0 is allowed."""
        async with self.open_checkpoints(tmp_path) as store:
            with pytest.raises(ValueError, match="sequence"):
                await store.save(replace(checkpoint(1), sequence=sequence))
            assert await store.load_latest("task") is None
            await store.save(checkpoint(0))

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_checkpoint_bad_ids_are_refused(self, tmp_path: Path, method: str) -> None:
        """Task ids and checkpoint ids are keys, and each method refuses what is none."""
        async with self.open_checkpoints(tmp_path) as store:
            call = METHODS_WITH_KEYS[method]
            await refuses(f"checkpoint.{method}", lambda key: call(store, key), BAD_KEYS)

    async def test_checkpoint_tasks_are_told_apart(self, tmp_path: Path) -> None:
        """Task ids that differ in anything, case and spaces included, are different tasks."""
        async with self.open_checkpoints(tmp_path) as store:
            for number, key in enumerate(ODD_KEYS):
                await store.save(checkpoint(number, key, id=key))
            for number, key in enumerate(ODD_KEYS):
                for found in (await store.load_latest(key), await store.load(key)):
                    assert found is not None, f"{key[:40]!r} was not saved"
                    assert found.sequence == number, f"{key[:40]!r} was taken for another id"

    # --- the sequence ------------------------------------------------------------------------

    async def test_checkpoint_the_latest_has_the_highest_sequence(self, tmp_path: Path) -> None:
        """Each save moves the task on; sequences may have gaps."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (0, 1, 9, 10, 100):
                await store.save(checkpoint(sequence))
                assert (await latest_of(store, "task")).sequence == sequence

    async def test_checkpoint_list_is_in_the_order_of_the_sequence(self, tmp_path: Path) -> None:
        """The lowest sequence comes first, as numbers, not as text."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (2, 9, 10, 100):
                await store.save(replace(checkpoint(sequence), timestamp=1_000 - sequence))
                await store.save(checkpoint(sequence, "other task"))
            assert [it.sequence for it in await store.list("task")] == [2, 9, 10, 100]

    @pytest.mark.parametrize("sequence", [1, 4, 5])
    async def test_checkpoint_a_sequence_that_is_not_above_is_a_conflict(
        self, tmp_path: Path, sequence: int
    ) -> None:
        """Another checkpoint at or below the highest sequence is refused and not saved."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(3))
            await store.save(checkpoint(5))
            before = list(await store.list("task"))
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(sequence, id="new"))
            assert list(await store.list("task")) == before, "a refused checkpoint was saved"
            assert await store.load("new") is None, "a refused checkpoint was saved"

    async def test_checkpoint_a_conflict_says_what_was_found(self, tmp_path: Path) -> None:
        """The error carries the task's id without prefix, the sequence, and the highest one."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            store = checkpoints_of(adapter)
            await store.save(checkpoint(5))
            with pytest.raises(CheckpointConflict) as caught:
                await store.save(checkpoint(4, id="new"))
            error = caught.value
            assert (error.task_id, error.sequence, error.highest) == ("task", 4, 5)

    async def test_checkpoint_saving_the_latest_again_replaces_it(self, tmp_path: Path) -> None:
        """The latest one's own id and sequence update it in place."""
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
        """Saving an older one's id and sequence again is a conflict."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            await store.save(checkpoint(2))
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(1, data="new"))
            assert await store.load("task#1") == checkpoint(1), "an older one was replaced"

    @pytest.mark.parametrize("sequence", [1, 2, 3, 4])
    async def test_checkpoint_an_id_belongs_to_one_checkpoint(
        self, tmp_path: Path, sequence: int
    ) -> None:
        """An id that was saved with another sequence is a conflict, higher or lower."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(2))
            await store.save(checkpoint(3))
            taken = "task#2" if sequence != 2 else "task#3"
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(sequence, id=taken))
            assert list(await store.list("task")) == [checkpoint(2), checkpoint(3)]

    async def test_checkpoint_an_id_belongs_to_one_task(self, tmp_path: Path) -> None:
        """An id that another task used is a conflict, and that task keeps its checkpoint."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1, "mine", id="id"))
            with pytest.raises(CheckpointConflict) as caught:
                await store.save(checkpoint(1, "yours", id="id"))
            assert caught.value.task_id == "yours"
            assert await store.load("id") == checkpoint(1, "mine", id="id")
            assert await store.load_latest("yours") is None

    async def test_checkpoint_of_concurrent_saves_one_wins(self, tmp_path: Path) -> None:
        """Of concurrent saves of one sequence exactly one succeeds, the others conflict."""
        async with self.open_checkpoints(tmp_path) as store:
            saves = (store.save(checkpoint(1, id=f"id{n}", data=n)) for n in range(20))
            results = await asyncio.gather(*saves, return_exceptions=True)
            won = [number for number, result in enumerate(results) if result is None]
            lost = [result for result in results if isinstance(result, CheckpointConflict)]
            assert (len(won), len(lost)) == (1, 19), f"{len(won)} of 20 saves won"
            assert (await latest_of(store, "task")).data == won[0]

    async def test_checkpoint_a_cancelled_save_happens_whole_or_not(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, a checkpoint is there or not, and the store goes on."""
        async with self.open_checkpoints(tmp_path) as store:
            for count in range(10):
                task = asyncio.create_task(store.save(checkpoint(count)))
                await turns(count)
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
        """The given number of the highest sequences stays, of this task only."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (2, 9, 10):
                await store.save(checkpoint(sequence))
                await store.save(checkpoint(sequence, "other task"))
            await store.cleanup("task", keep)
            assert [it.sequence for it in await store.list("task")] == left
            assert len(await store.list("other task")) == 3, "another task lost checkpoints"
            for sequence in (2, 9, 10):
                found = await store.load(f"task#{sequence}") is not None
                assert found == (sequence in left), "load() and list() disagree after cleanup()"

    async def test_checkpoint_cleanup_of_fewer_than_it_keeps_does_nothing(
        self, tmp_path: Path
    ) -> None:
        """Keeping more than there are is no error, and neither is an unknown task."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            await store.cleanup("task", 10)
            await store.cleanup("unknown", 10)
            assert list(await store.list("task")) == [checkpoint(1)]

    @pytest.mark.parametrize("keep", [-1, True, 1.0, "1", None])
    async def test_checkpoint_keep_count_is_a_natural_number(
        self, tmp_path: Path, keep: Any
    ) -> None:
        """Any other number is a ValueError, and nothing is removed."""
        async with self.open_checkpoints(tmp_path) as store:
            await store.save(checkpoint(1))
            with pytest.raises(ValueError, match="keep_count"):
                await store.cleanup("task", keep)
            assert len(await store.list("task")) == 1

    async def test_checkpoint_the_sequence_goes_on_after_cleanup(self, tmp_path: Path) -> None:
        """What is kept still bars lower sequences; what went may not be saved again."""
        async with self.open_checkpoints(tmp_path) as store:
            for sequence in (1, 2, 3):
                await store.save(checkpoint(sequence))
            await store.cleanup("task", 1)
            with pytest.raises(CheckpointConflict):
                await store.save(checkpoint(2))
            await store.save(checkpoint(4))
            assert [it.sequence for it in await store.list("task")] == [3, 4]

    async def test_checkpoint_delete_all_forgets_the_task(self, tmp_path: Path) -> None:
        """All checkpoints go, of this task only, and it may start over with the same ids."""
        async with self.open_checkpoints(tmp_path) as store:
            for task_id in ("task", "task2", "tas_", "Task"):
                await store.save(checkpoint(5, task_id))
            await store.delete_all("task")
            await store.delete_all("tas%")
            await store.delete_all("t*")
            assert await store.load_latest("task") is None
            assert await store.load("task#5") is None, "load() found a deleted checkpoint"
            for task_id in ("task2", "tas_", "Task"):
                assert await store.load_latest(task_id), f"{task_id!r} went with another task"
            await store.save(checkpoint(5))
            await store.delete_all("unknown")

    async def test_checkpoint_it_answers_as_a_plain_model_does(self, tmp_path: Path) -> None:
        """Whatever the history of calls; hypothesis shows the shortest bad one."""
        from .machines.checkpoint import CheckpointMachine  # hypothesis takes long to import

        await CheckpointMachine.compare(self, tmp_path)


async def latest_of(store: CheckpointProvider, task_id: str) -> Checkpoint:
    """The latest checkpoint of a task that must have one."""
    latest = await store.load_latest(task_id)
    assert latest is not None, f"task {task_id!r} has checkpoints, but load_latest() is None"
    assert isinstance(latest, Checkpoint), "load_latest() must return a goscope.Checkpoint"
    return latest
