"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A deadline measures the machine, not the code; examples are not kept between runs.
settings.register_profile("goscope", deadline=None, database=None)
settings.load_profile("goscope")


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell configures is not what the tests test."""
    for variable in ("GOSCOPE_PLUGINS", "GOSCOPE_URL"):
        monkeypatch.delenv(variable, raising=False)
