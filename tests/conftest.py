"""Settings of all tests."""

from __future__ import annotations

import os
import shutil
import subprocess

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


@pytest.fixture(scope="session")
def unshare() -> list[str]:
    """The beginning of a command line that runs in a new pid namespace; options may follow.

    Without the program the tests are skipped, or fail in continuous integration.
    """
    program = shutil.which("unshare")
    if program is None:
        reason = "unshare, which creates pid namespaces, is not installed: it is in util-linux"
        if os.environ.get("GOSCOPE_CI") or os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    for privilege in ([], ["--user", "--map-root-user"]):
        command = [program, *privilege, "--pid", "--fork", "--kill-child"]
        tried = [*command, "--mount-proc", "true"]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("this machine does not allow a new pid namespace")
