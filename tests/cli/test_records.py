"""The data set, its shards, and the plan of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from goscope.cli.commands.demo import _records
from goscope.cli.commands.demo._plan import Folder, Plan


def test_the_data_set_has_at_least_twenty_thousand_records_each_once() -> None:
    records = _records.load(_records.count_all())
    assert len(records) >= 20_000
    assert len({record.icao for record in records}) == len(records)


@pytest.mark.parametrize("count", [100, 601, 28_298])
def test_shards_hold_every_record_once_and_several_batches(count: int) -> None:
    records = _records.load(count)
    shards = _records.split(records)
    assert [record for shard in shards for record in shard.records] == records
    assert min(shard.size for shard in shards) >= 5 * Plan("", count, 1).batch


def test_chance_repeats_with_its_seed() -> None:
    one, same, other = (Plan("", 100, seed).chance("order").random() for seed in (1, 1, 2))
    assert one == same != other


def test_a_plan_is_found_again_until_its_folder_is_removed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "demo"))
    plan = folder.settle(200, None)
    folder.write(plan)
    assert folder.settle(None, None) == plan
    folder.remove()
    assert not folder.path.exists()


def test_a_seed_is_drawn_when_none_is_given(tmp_path: Path) -> None:
    seeds = {Folder(str(tmp_path)).settle(None, None).seed for _ in range(4)}
    assert len(seeds) > 1
