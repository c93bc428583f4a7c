"""The kit itself: each broken backend fails exactly the tests that detect its bug."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

CAUGHT_BY = {
    "TestRevivedLease": {
        "test_lock_extend_is_false_once_expired",
    },
    "TestStealingRenewal": {
        "test_lock_renew_never_takes_from_a_later_grant",
    },
    "TestForeignRelease": {
        "test_lock_release_never_frees_a_later_grant",
        "test_lock_release_reports_whether_the_grant_was_current",
    },
    "TestReusedToken": {
        "test_lock_tokens_grow_over_force_release",
        "test_lock_tokens_grow_over_release",
        "test_shared_tokens_grow_across_adapters",
        "test_shared_tokens_grow_over_reopening",
    },
    "TestLockTtlFloor": {
        "test_lock_a_taken_over_handle_extends_nothing",
        "test_lock_an_expired_lock_is_free",
        "test_lock_extend_is_false_once_expired",
        "test_lock_release_never_frees_a_later_grant",
        "test_lock_release_reports_whether_the_grant_was_current",
        "test_lock_renew_never_takes_from_a_later_grant",
        "test_lock_the_handle_of_an_expired_lease_is_lost",
        "test_lock_tokens_grow_over_expiry",
        "test_shared_a_takeover_by_another_adapter_rejects_the_write",
    },
    "TestReentrantLock": {
        "test_lock_acquire_is_none_for_the_same_owner",
    },
    "TestGrantKeptAfterCancelledAcquire": {
        "test_lock_a_cancelled_acquire_leaves_the_lock_free",
        "test_loop_a_cancelled_acquire_keeps_no_lease",
    },
    "TestOneNamespace": {
        "test_lock_and_lease_have_different_stored_keys",
        "test_features_idempotency_keys_may_look_like_stored_ones",
        "test_lock_and_lease_are_separate_namespaces",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
    },
    "TestLostUpdate": {
        "test_cache_concurrent_increments_all_count",
        "test_cache_one_of_many_concurrent_adds_wins",
        "test_shared_adds_and_increments_are_atomic_across_adapters",
    },
    "TestNonAtomicAdd": {
        "test_cache_one_of_many_concurrent_adds_wins",
        "test_fence_the_adapters_own_locks_fence_or_are_rejected",
        "test_shared_adds_and_increments_are_atomic_across_adapters",
    },
    "TestCacheTtlFloor": {
        "test_cache_a_ttl_under_a_second_is_honoured",
        "test_cache_touch_counts_from_now",
    },
    "TestNoneAsMiss": {
        "test_cache_a_stored_none_is_a_hit",
        "test_cache_returns_values_unchanged",
    },
    "TestLikeWildcard": {
        "test_cache_star_is_the_only_wildcard",
        "test_shared_prefixes_do_not_clear_one_another",
    },
    "TestKeysOutOfOrder": {
        "test_cache_keys_and_scan_are_sorted",
        "test_cache_keys_are_distinct",
        "test_cache_star_is_the_only_wildcard",
        "test_cache_scan_yields_every_key_once",
        "test_cache_scan_continues_during_writes",
        "test_cache_handles_thousands_of_keys_in_one_call",
    },
    "TestPartialBatch": {
        "test_cache_a_cancelled_set_many_is_atomic",
    },
    "TestBlockingCall": {
        "test_loop_is_never_blocked",
    },
    "TestErrorSwallowed": {
        "test_fence_a_write_after_a_forced_release_is_rejected",
        "test_fence_a_write_after_a_takeover_is_rejected",
        "test_fence_a_write_after_the_release_is_rejected",
        "test_fence_a_write_after_the_takeover_ended_is_rejected",
        "test_fence_the_adapters_own_locks_fence_or_are_rejected",
    },
    "TestForcedOpenCircuitDated": {
        "test_circuit_a_failure_does_not_date_a_forced_open_circuit",
    },
    "TestUnfencedWrite": {
        "test_fence_a_write_after_a_forced_release_is_rejected",
        "test_fence_a_write_after_a_takeover_is_rejected",
        "test_fence_a_write_after_the_release_is_rejected",
        "test_fence_a_write_after_the_takeover_ended_is_rejected",
        "test_fence_the_adapters_own_locks_fence_or_are_rejected",
    },
    "TestStaleOwnerSave": {
        "test_checkpoint_a_conflict_has_task_and_sequences",
        "test_checkpoint_a_sequence_that_is_not_higher_is_a_conflict",
        "test_checkpoint_one_of_concurrent_saves_wins",
        "test_checkpoint_cleanup_does_not_free_sequences",
        "test_shared_checkpoints_conflict_across_adapters",
    },
    "TestWrongOrderOfList": {
        "test_checkpoint_an_id_belongs_to_one_checkpoint",
        "test_checkpoint_cleanup_keeps_the_latest",
        "test_checkpoint_list_is_in_the_order_of_the_sequence",
        "test_checkpoint_saving_the_latest_again_replaces_it",
        "test_checkpoint_cleanup_does_not_free_sequences",
    },
    "TestPrefixLeak": {
        "test_shared_prefixes_do_not_share_results",
    },
    "TestLeaseNotEnded": {
        "test_idempotency_a_call_cannot_be_completed_twice",
        "test_idempotency_set_ends_the_lease_of_its_call",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
    },
    "TestLeakedTransactionOnCancel": {
        "test_idempotency_a_cancelled_set_is_atomic",
        "test_loop_a_call_can_be_cancelled_at_every_await",
    },
    "TestCancellationSwallowed": {
        "test_loop_a_call_can_be_cancelled_at_every_await",
    },
    "TestStoredKeyOfOneGrant": {
        "test_lock_a_handle_has_the_stored_key_of_its_lock",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
        "test_shared_a_lease_fences_writes_of_other_adapters",
    },
    "TestStoredKeyWithoutNamespace": {
        "test_lock_and_lease_have_different_stored_keys",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
        "test_shared_a_lease_fences_writes_of_other_adapters",
        "test_shared_prefixes_have_different_stored_keys",
    },
    "TestRawReencoded": {
        "test_cache_stores_raw_text_unchanged",
    },
    "TestRawEntryDecoded": {
        "test_cache_reads_of_raw_return_the_stored_text",
    },
    "TestStateMerged": {
        "test_circuit_set_state_replaces_any_state",
    },
    "TestResultTypeIgnored": {
        "test_idempotency_a_value_of_another_type_raises",
        "test_idempotency_type_decodes_the_value",
    },
    "TestRawResultAsBytes": {
        "test_idempotency_read_of_raw_returns_the_stored_text",
    },
    "TestRawResultReencoded": {
        "test_idempotency_stores_raw_text_unchanged",
    },
    "TestOtherClock": {
        "test_adapter_has_the_clock_of_its_store",
    },
    "TestOtherDefaultTtl": {
        "test_adapter_default_lock_ttl_is_that_of_its_locks",
    },
    "TestOneStoreId": {
        "test_lock_a_lease_of_another_store_has_another_store_id",
    },
    "TestStoreIdOfTheAdapter": {
        "test_shared_a_lease_fences_writes_of_other_adapters",
        "test_shared_adapters_have_one_store_id",
        "test_shared_prefixes_have_different_stored_keys",
    },
}
"""The tests that fail for each broken backend. Other tests pass, except those of a model."""

MODEL = "_matches_its_model"
"""Which bugs the tests of this name detect depends on the histories that hypothesis generates."""


RUN_SIZE = 4
"""How many broken backends one run of pytest tests, so that no run takes minutes."""


def batches(nodes: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The nodes in tuples of at most ``RUN_SIZE``."""
    remaining = iter(nodes)
    while batch := tuple(itertools.islice(remaining, RUN_SIZE)):
        yield batch


RUN_OF = {
    case: run
    for path in sorted(FOLDER.glob("broken_*.py"))
    for run in batches(
        f"{path.name}::{case}"
        for case in re.findall(r"^class (Test\w+)\(Broken\)", path.read_text(), re.MULTILINE)
    )
    for case in (node.partition("::")[2] for node in run)
}
"""The run in which each broken backend is tested."""


@cache
def failures(*arguments: str) -> dict[str, set[str]]:
    """The tests that failed in a run of pytest in this folder, by class."""
    options = ["-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile=unshrunk"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert re.search(r"\d (passed|failed)", done.stdout), done.stdout + done.stderr
    found: defaultdict[str, set[str]] = defaultdict(set)
    for case, name in re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found[case].add(name)
    return dict(found)


def failures_of(case: str) -> set[str]:
    """The tests that failed for one broken backend."""
    return failures(*RUN_OF[case]).get(case, set())


def test_the_backend_without_a_bug_passes() -> None:
    assert failures_of("TestCorrect") == set()


@pytest.mark.parametrize("case", [case for case in RUN_OF if case in CAUGHT_BY])
def test_each_bug_is_detected_by_exactly_its_tests(case: str) -> None:
    failed = failures_of(case)
    missed = CAUGHT_BY[case] - failed
    others = {name for name in failed - CAUGHT_BY[case] if not name.endswith(MODEL)}
    assert (missed, others) == (set(), set())


@pytest.mark.parametrize("part", ["lock", "cache", "circuit", "checkpoint", "idempotency"])
def test_each_model_detects_a_bug(part: str) -> None:
    assert any(f"test_{part}{MODEL}" in failures_of(case) for case in CAUGHT_BY)


def test_every_broken_backend_is_in_the_table() -> None:
    assert {*RUN_OF} == {*CAUGHT_BY, "TestCorrect"}
    assert len(CAUGHT_BY) >= 35


def test_only_process_tests_detect_a_store_without_locking() -> None:
    """The adapters of one process do not interleave, so every other test of sharing passes."""
    increments = "test_process_concurrent_increments_all_count"
    failed = failures("unlocked.py", "-k", f"test_shared or test_lock or {increments}")
    assert failed == {"TestUnlocked": {increments}}
