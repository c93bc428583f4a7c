"""What a test does without a program or a server that it needs."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test, or the module that is imported, with the reason.

    In continuous integration, which has everything, it fails instead.
    """
    if os.environ.get("GOSCOPE_CI") or os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
