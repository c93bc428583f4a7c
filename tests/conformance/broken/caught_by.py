"""Which tests of the kit detect the bug of each broken backend."""

from __future__ import annotations

from typing import Final

CAUGHT_BY: Final = {
    "TestRevivedLease": {
        "test_lock_extend_is_false_once_expired",
    },
    "TestStealingRenewal": {
        "test_lock_renew_never_takes_from_a_later_grant",
    },
    "TestForeignRelease": {
        "test_lock_release_never_frees_a_later_grant",
        "test_lock_release_reports_whether_the_grant_was_current",
        "test_lock_revoke_ends_one_grant_alone",
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
        "test_shared_a_write_ends_computations_of_other_adapters",
        "test_wait_returns_when_a_write_ends_the_computation",
    },
    "TestLostUpdate": {
        "test_cache_concurrent_increments_all_count",
        "test_cache_one_of_many_concurrent_adds_wins",
        "test_cache_other_calls_leave_the_refresh_of_an_entry_in_force",
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
        "test_cache_a_collection_has_the_methods_of_the_cache",
        "test_cache_a_stored_none_is_a_hit",
        "test_cache_returns_values_unchanged",
    },
    "TestLikeWildcard": {
        "test_cache_star_is_the_only_wildcard",
        "test_shared_prefixes_do_not_clear_one_another",
    },
    "TestEscapedStarAsWildcard": {
        "test_cache_an_escaped_star_stands_for_itself",
    },
    "TestComputationNotEnded": {
        "test_cache_writes_end_computations_of_their_own_collection_alone",
        "test_cache_a_write_ends_the_computation_it_supersedes",
        "test_cache_removing_ends_the_computation_beside_an_entry",
        "test_cache_a_fence_of_another_lease_supersedes_a_computation",
        "test_cache_each_tag_of_a_computation_ends_it",
        "test_shared_a_write_ends_computations_of_other_adapters",
    },
    "TestTagsOfComputationsIgnored": {
        "test_cache_writes_end_computations_of_their_own_collection_alone",
        "test_cache_a_write_ends_the_computation_it_supersedes",
        "test_cache_each_tag_of_a_computation_ends_it",
        "test_shared_a_write_ends_computations_of_other_adapters",
    },
    "TestAnyTagEndsComputations": {
        "test_cache_other_calls_leave_a_computation_in_force",
    },
    "TestTouchEndsComputations": {
        "test_cache_other_calls_leave_a_computation_in_force",
        "test_cache_other_calls_leave_the_refresh_of_an_entry_in_force",
    },
    "TestOwnComputationEnded": {
        "test_cache_a_computation_stores_its_value_under_its_own_lease",
    },
    "TestKeysOutOfOrder": {
        "test_cache_an_escaped_star_stands_for_itself",
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
    "TestCollectionsCleared": {
        "test_cache_calls_leave_collections_alone",
        "test_cache_calls_on_a_collection_leave_everything_else_alone",
        "test_shared_no_prefix_and_a_prefix_do_not_share_cache_entries",
        "test_shared_prefixes_do_not_share_collections",
    },
    "TestTagsOfCollections": {
        "test_cache_calls_leave_collections_alone",
        "test_shared_prefixes_do_not_share_collections",
    },
    "TestCollectionsMiss": {
        "test_cache_a_collection_loses_no_value_that_does_not_fit",
    },
    "TestCollectionsNotListed": {
        "test_inspection_lists_collections_apart_from_the_cache",
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
        "test_shared_prefixes_do_not_end_one_anothers_computations",
    },
    "TestStoredKeyWithoutNamespace": {
        "test_lock_and_lease_have_different_stored_keys",
        "test_shared_a_completion_ends_the_lease_for_all_adapters",
        "test_shared_a_lease_fences_writes_of_other_adapters",
        "test_shared_prefixes_do_not_end_one_anothers_computations",
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
    "TestUsableWhenClosed": {
        "test_adapter_refuses_calls_after_disconnect",
    },
    "TestFreeWhenClosed": {
        "test_adapter_ends_waits_at_disconnect",
    },
    "TestOneStoreId": {
        "test_lock_a_lease_of_another_store_has_another_store_id",
    },
    "TestStoreIdOfTheAdapter": {
        "test_shared_a_lease_fences_writes_of_other_adapters",
        "test_shared_adapters_have_one_store_id",
        "test_shared_prefixes_have_different_stored_keys",
    },
    "TestOffsetPages": {
        "test_inspection_ends_while_records_are_removed",
    },
    "TestOnePage": {
        "test_inspection_lists_every_record_of_many",
    },
    "TestUnderscoreIsWild": {
        "test_inspection_star_is_the_only_wildcard",
        "test_inspection_sees_its_prefix_alone",
    },
    "TestTtlForTimeLeft": {
        "test_inspection_lists_an_expired_lease_as_expired",
    },
    "TestSizeInCharacters": {
        "test_inspection_lists_collections_apart_from_the_cache",
        "test_inspection_lists_size_and_expiry_of_entries",
        "test_inspection_totals_count_what_is_listed",
    },
}
"""The tests that fail for each broken backend. Other tests pass, except those of a model."""

MODEL: Final = "_matches_its_model"
"""Which bugs the tests of this name detect depends on the histories that hypothesis generates."""

COMPARED_WITH_MODEL: Final = {
    "lock": "TestReentrantLock",
    "cache": "TestKeysOutOfOrder",
    "circuit": "TestStateMerged",
    "checkpoint": "TestStaleOwnerSave",
    "idempotency": "TestLeaseNotEnded",
}
"""One broken backend for each part of the contract that the model of the part detects."""
