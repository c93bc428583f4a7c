"""What is stored has the size the tables speak of, and is never the same twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bench.value import large, small


@pytest.mark.parametrize(("make", "size"), [(small, 1_000), (large, 10_000)])
def test_the_size_is_about_right(make: Callable[[int], dict[str, Any]], size: int) -> None:
    assert 0.9 * size < len(msgspec.json.encode(make(12345))) < 1.1 * size
    assert make(1) != make(2)
