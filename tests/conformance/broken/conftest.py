"""Of the tests that run for every operation, a broken backend runs those of its provider."""

from __future__ import annotations

import re

import pytest
from hypothesis import Phase, settings

# A failing history is enough here; shrinking it takes most of the time.
settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _concerns(item)]


def _concerns(item: pytest.Item) -> bool:
    provider: str = getattr(getattr(item, "cls", None), "provider", "any")
    called = re.search(r"^test_(?:fence|loop)_\w+\[(\w+?)(?:_breaker)?\.", item.name)
    if provider == "any" or called is None:
        return True
    return provider == ("lock" if called[1] in ("lease", "handle") else called[1])
