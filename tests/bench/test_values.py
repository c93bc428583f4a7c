"""Stored values have their documented size, and differ from each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bench.values import large, small


@pytest.mark.parametrize(("make", "size"), [(small, 1_000), (large, 10_000)])
def test_a_value_has_its_documented_size_and_depends_on_its_number(
    make: Callable[[int], dict[str, Any]], size: int
) -> None:
    assert 0.9 * size < len(msgspec.json.encode(make(12345))) < 1.1 * size


@pytest.mark.parametrize("make", [small, large])
def test_values_of_different_numbers_differ(make: Callable[[int], dict[str, Any]]) -> None:
    assert make(1) != make(2)
