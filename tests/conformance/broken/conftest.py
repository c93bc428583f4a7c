"""Of the tests that run for every operation, a broken backend runs those of its provider."""

from __future__ import annotations

import re

import pytest
from hypothesis import Phase, settings

from goscope.testing.conformance import wait

# A failing history is enough here; shrinking it takes most of the time.
settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])


@pytest.fixture(autouse=True)
def _hang_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less long for a wait that a bug keeps from ending: nothing else happens meanwhile."""
    monkeypatch.setattr(wait, "HANG_S", 10.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _concerns(item)]


def _concerns(item: pytest.Item) -> bool:
    provider: str = getattr(getattr(item, "cls", None), "provider", "any")
    called = re.search(r"^test_(?:fence|loop)_\w+\[(\w+?)(?:_breaker)?\.", item.name)
    if provider == "any" or called is None:
        return True
    return provider == ("lock" if called[1] in ("lease", "handle") else called[1])
