"""The data set of the demo, its shards, and the plan of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from goscope.cli.commands.demo import _records
from goscope.cli.commands.demo._plan import Folder, Plan


def test_the_data_set_has_20_000_distinct_records() -> None:
    records = _records.load(_records.count_all())
    assert len(records) >= 20_000
    assert len({record.icao for record in records}) == len(records)


@pytest.mark.parametrize("count", [100, 601, 28_298])
def test_shards_partition_the_records_and_hold_several_batches(count: int) -> None:
    records = _records.load(count)
    shards = _records.split(records)
    assert [record for shard in shards for record in shard.records] == records
    assert min(shard.size for shard in shards) >= 5 * Plan("", count, 1).batch


def test_random_choices_repeat_with_the_seed() -> None:
    one, same, other = (Plan("", 100, seed).rng("order").random() for seed in (1, 1, 2))
    assert one == same != other


def test_a_plan_is_loaded_until_its_folder_is_removed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "demo"))
    plan = folder.load_or_create_plan(200, None)
    folder.write(plan)
    assert folder.load_or_create_plan(None, None) == plan
    folder.remove()
    assert not folder.path.exists()


def test_the_default_seed_is_random(tmp_path: Path) -> None:
    seeds = {Folder(str(tmp_path)).load_or_create_plan(None, None).seed for _ in range(4)}
    assert len(seeds) > 1
