"""Settings of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Deadlines would depend on the speed of the machine; no examples are kept between runs.
settings.register_profile("goscope", deadline=None, database=None)
settings.load_profile("goscope")


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore what the developer's shell configures."""
    for variable in ("GOSCOPE_PLUGINS", "GOSCOPE_URL"):
        monkeypatch.delenv(variable, raising=False)
