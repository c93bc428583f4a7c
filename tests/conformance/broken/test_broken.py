"""The kit itself: each broken backend fails exactly the tests that are meant for its mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

CAUGHT_BY = {
    "TestRevivedLease": {
        "test_lock_extend_is_false_once_expired",
    },
    "TestForeignRelease": {
        "test_lock_release_never_frees_a_later_grant",
    },
    "TestTokenGoesBack": {
        "test_lock_it_answers_as_a_plain_model_does",
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
        "test_lock_the_handle_of_an_expired_lease_is_lost",
        "test_lock_tokens_grow_over_expiry",
        "test_shared_a_takeover_by_another_adapter_refuses_the_write",
    },
    "TestReentrantLock": {
        "test_lock_acquire_is_none_for_the_same_owner",
        "test_lock_it_answers_as_a_plain_model_does",
    },
    "TestGrantKeptAfterCancelledAcquire": {
        "test_lock_a_cancelled_acquire_leaves_nothing_behind",
        "test_loop_an_acquire_cancelled_at_any_await_keeps_nothing",
    },
    "TestOneNamespace": {
        "test_features_idempotency_keys_may_look_like_stored_ones",
        "test_lock_lock_and_lease_are_two_namespaces",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
    },
    "TestLostUpdate": {
        "test_cache_concurrent_increments_all_count",
        "test_cache_one_of_many_concurrent_adds_wins",
        "test_shared_adds_and_increments_are_atomic_across_adapters",
    },
    "TestNonAtomicAdd": {
        "test_cache_one_of_many_concurrent_adds_wins",
        "test_fence_the_adapters_own_locks_fence_or_are_refused",
        "test_shared_adds_and_increments_are_atomic_across_adapters",
    },
    "TestCacheTtlFloor": {
        "test_cache_a_ttl_under_a_second_is_honoured",
        "test_cache_touch_counts_from_now",
    },
    "TestNoneAsMiss": {
        "test_cache_a_stored_none_is_a_hit",
        "test_cache_it_answers_as_a_plain_model_does",
        "test_cache_values_come_back_as_they_were",
    },
    "TestLikeWildcard": {
        "test_cache_patterns",
        "test_shared_prefixes_do_not_clear_one_another",
    },
    "TestKeysOutOfOrder": {
        "test_cache_it_answers_as_a_plain_model_does",
        "test_cache_keys_and_scan_are_sorted",
        "test_cache_keys_are_told_apart",
        "test_cache_patterns",
        "test_cache_scan_crosses_pages",
        "test_cache_scan_survives_writes",
        "test_cache_thousands_at_a_time",
    },
    "TestHalfABatch": {
        "test_cache_a_cancelled_set_many_happens_whole_or_not",
    },
    "TestBlockingCall": {
        "test_loop_no_call_blocks_it",
    },
    "TestErrorSwallowed": {
        "test_fence_a_write_after_a_forced_release_is_refused",
        "test_fence_a_write_after_a_takeover_is_refused",
        "test_fence_a_write_after_the_release_is_refused",
        "test_fence_a_write_after_the_takeover_ended_is_refused",
        "test_fence_the_adapters_own_locks_fence_or_are_refused",
    },
    "TestHeldCircuitDated": {
        "test_circuit_a_failure_does_not_date_a_circuit_held_open",
    },
    "TestUnfencedWrite": {
        "test_fence_a_write_after_a_forced_release_is_refused",
        "test_fence_a_write_after_a_takeover_is_refused",
        "test_fence_a_write_after_the_release_is_refused",
        "test_fence_a_write_after_the_takeover_ended_is_refused",
        "test_fence_the_adapters_own_locks_fence_or_are_refused",
    },
    "TestStaleOwnerSave": {
        "test_checkpoint_a_conflict_says_what_was_found",
        "test_checkpoint_a_sequence_that_is_not_above_is_a_conflict",
        "test_checkpoint_of_concurrent_saves_one_wins",
        "test_checkpoint_the_sequence_goes_on_after_cleanup",
        "test_shared_checkpoints_conflict_across_adapters",
    },
    "TestWrongOrderOfList": {
        "test_checkpoint_an_id_belongs_to_one_checkpoint",
        "test_checkpoint_cleanup_keeps_the_latest",
        "test_checkpoint_it_answers_as_a_plain_model_does",
        "test_checkpoint_list_is_in_the_order_of_the_sequence",
        "test_checkpoint_saving_the_latest_again_replaces_it",
        "test_checkpoint_the_sequence_goes_on_after_cleanup",
    },
    "TestPrefixLeak": {
        "test_shared_prefixes_do_not_share_results",
    },
    "TestLeaseNotEnded": {
        "test_idempotency_a_call_is_completed_once",
        "test_idempotency_it_answers_as_a_plain_model_does",
        "test_idempotency_set_ends_the_lease_of_its_call",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
    },
    "TestLeakedTransactionOnCancel": {
        "test_idempotency_a_cancelled_set_happens_whole_or_not",
        "test_loop_a_call_can_be_cancelled_at_every_await",
    },
    "TestCancellationSwallowed": {
        "test_loop_a_call_can_be_cancelled_at_every_await",
    },
}
"""Of each broken backend the tests that fail. Every other test of the kit passes on it."""

MODEL = "_it_answers_as_a_plain_model_does"
"""What else it sees depends on the histories that the installed hypothesis makes up."""


@pytest.fixture(scope="module")
def failed() -> dict[str, set[str]]:
    """The tests that failed, by their class, in one run over all broken backends."""
    return failures("backends.py")


def failures(*arguments: str) -> dict[str, set[str]]:
    """The tests that failed in a run of pytest in this folder, by their class."""
    options = ["-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile=unshrunk"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert re.search(r"\d (passed|failed)", done.stdout), done.stdout + done.stderr
    found: defaultdict[str, set[str]] = defaultdict(set)
    for case, name in re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found[case].add(name)
    return found


def test_what_they_are_built_on_is_sound(failed: dict[str, set[str]]) -> None:
    assert failed.get("TestSound", set()) == set()


@pytest.mark.parametrize("case", CAUGHT_BY)
def test_each_mistake_is_caught_by_the_tests_meant_for_it(
    failed: dict[str, set[str]], case: str
) -> None:
    missed = CAUGHT_BY[case] - failed[case]
    others = {name for name in failed[case] - CAUGHT_BY[case] if not name.endswith(MODEL)}
    assert (missed, others) == (set(), set())


def test_every_broken_backend_is_in_the_table(failed: dict[str, set[str]]) -> None:
    assert set(failed) <= set(CAUGHT_BY)
    assert len(CAUGHT_BY) >= 15


def test_only_processes_show_that_a_store_is_not_locked_among_them() -> None:
    """All adapters of one process agree, so every other claim about sharing passes."""
    increments = "test_process_increments_all_count"
    failed = failures("unlocked.py", "-k", f"test_shared or test_lock or {increments}")
    assert failed == {"TestUnlocked": {increments}}
