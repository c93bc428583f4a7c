"""Durations: their forms, and bare numbers, which are never taken for seconds."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

# Private: every duration of a scope's API goes through these.
from goscope._tools.duration import strict_milliseconds, wait_milliseconds
from goscope.backend import milliseconds

STRINGS = {
    "250ms": 250,
    "30s": 30_000,
    "5m": 300_000,
    "2h": 7_200_000,
    "7d": 604_800_000,
    "1h30m": 5_400_000,
    "1m500ms": 60_500,
    "0.5s": 500,
    "0.035s": 35,  # 0.035 * 1000 is a little more than 35
    "0.1ms": 1,
    "36600d": 36_600 * 86_400_000,
}

INVALID: list[Any] = [
    0,
    -1,
    0.0,
    -0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    False,
    10**30,
    "",
    " ",
    "5",
    "s",
    "5 s",
    " 5s",
    "5s ",
    "5s\n",
    "-5s",
    "+5s",
    "0s",
    "0ms0s",
    "5S",
    "5sec",
    "1e3ms",
    ".5s",
    "5.s",
    "\u0665s",  # an Arabic five
    "1h30",
    "36601d",
    "9" * 400 + "s",
    timedelta(0),
    timedelta(days=-1),
    timedelta.max,
]


class Ttl(enum.StrEnum):
    SHORT = "30s"


@pytest.mark.parametrize(("text", "ms"), STRINGS.items())
def test_strings_are_numbers_with_units(text: str, ms: int) -> None:
    assert milliseconds(text) == strict_milliseconds(text) == ms


@pytest.mark.parametrize(
    ("delta", "ms"),
    [
        (timedelta(milliseconds=35), 35),
        (timedelta(microseconds=1), 1),
        (timedelta(milliseconds=1, microseconds=1), 2),
        (timedelta(days=1), 86_400_000),
    ],
)
def test_timedeltas_are_rounded_up(delta: timedelta, ms: int) -> None:
    """A duration never becomes shorter than requested, and never zero."""
    assert milliseconds(delta) == strict_milliseconds(delta) == ms


@pytest.mark.parametrize(("number", "ms"), [(1, 1), (5_000, 5_000), (1.5, 2), (1e-9, 1)])
def test_provider_methods_take_milliseconds(number: float, ms: int) -> None:
    assert milliseconds(number) == ms


def test_subclasses_of_str_are_strings() -> None:
    assert milliseconds(Ttl.SHORT) == 30_000


@pytest.mark.parametrize("value", INVALID)
def test_an_invalid_duration_is_a_value_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(ValueError, match="stale"):
        milliseconds(value, "stale")


@pytest.mark.parametrize("value", [None, [], b"5s", 1j, object()])
def test_other_types_are_a_type_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(TypeError, match="stale"):
        milliseconds(value, "stale")


@pytest.mark.parametrize("number", [5, 2.5])
def test_a_bare_number_is_refused_with_both_readings(number: Any) -> None:
    with pytest.raises(TypeError) as caught:
        strict_milliseconds(number, "ttl")
    assert f"'{number}s'" in str(caught.value)
    assert f"'{number}ms'" in str(caught.value)


@pytest.mark.parametrize("number", [0, -5, float("nan")])
def test_a_number_that_is_no_duration_in_any_unit_is_refused_without_readings(number: Any) -> None:
    with pytest.raises(TypeError, match="write a positive duration, such as '30s'"):
        strict_milliseconds(number, "ttl")


@pytest.mark.parametrize("value", [True, "0s", "5", timedelta(0), timedelta(-1)])
def test_strict_durations_refuse_other_invalid_ones_too(value: Any) -> None:
    with pytest.raises(ValueError, match="ttl"):
        strict_milliseconds(value, "ttl")


@pytest.mark.parametrize(("wait", "ms"), [(None, None), (0, 0), (timedelta(0), 0), ("5s", 5_000)])
def test_a_wait_may_be_zero_or_without_limit(wait: Any, ms: int | None) -> None:
    assert wait_milliseconds(wait) == ms


@pytest.mark.parametrize(
    ("wait", "error"),
    [(5, TypeError), (0.0, TypeError), (False, ValueError), (True, ValueError), ("0s", ValueError)],
)
def test_other_waits_are_strict_durations(wait: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="wait"):
        wait_milliseconds(wait)


@given(st.integers(1, 86_400_000))
def test_whole_milliseconds_are_kept_exactly(ms: int) -> None:
    assert milliseconds(ms) == ms
    assert milliseconds(float(ms)) == ms
    assert milliseconds(f"{ms}ms") == ms
    assert milliseconds(timedelta(milliseconds=ms)) == ms
    assert milliseconds(f"{ms // 1000}.{ms % 1000:03}s") == ms
