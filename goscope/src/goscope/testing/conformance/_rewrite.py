"""Lets pytest show what a failed assertion of the contract compared.

pytest rewrites the assertions of test files by itself, and of other modules only if they are
registered before they are imported.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__package__}.{module}"
        for module in (
            "adapter",
            "cache",
            "checkpoint",
            "circuit_breaker",
            "event_loop",
            "events",
            "features",
            "fence",
            "idempotency",
            "inspection",
            "lock",
            "machines",
            "private_store",
            "processes",
            "shared_store",
            "wait",
        )
    )
)
