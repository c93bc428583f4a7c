"""What is lost between a value and what JSON gives back for it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

# Private: results and checkpoints go through these before they are stored.
from goscope._tools.codec import encode_as
from goscope._tools.round_trip import difference
from goscope.errors import SerializationError


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: Any
    right: Any


class Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    user_id: int
    full_name: str = ""


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None

    @functools.cached_property
    def far(self) -> bool:
        return bool(self.x)


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


class ById:
    """A class that takes objects with one id for equal."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]  # not needed


class Model(pydantic.BaseModel):
    value: Any = None


def far(point: Point) -> Point:
    assert isinstance(point.far, bool)
    return point


SAME: list[tuple[Any, Any]] = [
    ((1, 2), [1, 2]),
    ({1}, [1]),
    ({1: "a"}, {"1": "a"}),
    (1, 1.0),
    (Color.RED, "red"),
    (dt.date(2026, 1, 1), "2026-01-01"),
    (b"a", "YQ=="),
    (bytearray(b"a"), b"a"),
    (Pair(1, (2, 3)), Pair(1, [2, 3])),
    ([1, 2], (1, 2)),
    (Point(1), {"x": 1, "y": None}),
    (Struct(1), {"userId": 1}),
    ({"x": 1, "more": 2}, Point(1)),
    (far(Point(1)), Point(1)),
    (Point([(1,)]), Point([[1]])),
    (Model(value=Point(1)), Model(value={"x": 1, "y": None})),
]

LOST: list[tuple[Any, Any, str]] = [
    (Point3(1), Point(1), "the value: a Point3 comes back as a Point"),
    ([Point(1), Point3(1)], [Point(1), Point(1)], "[1]: a Point3 comes back as a Point"),
    ({"a": Point3(1)}, {"a": Point(1)}, "['a']: a Point3 comes back as a Point"),
    (Point(Point3(1)), Point(Point(1)), ".x: a Point3 comes back as a Point"),
    (Point(1, 2), Point(1), ".y: a int comes back as a NoneType"),
    ({"a": 1, "b": 2}, {"a": 1}, "the value lost 'b'"),
    ({1: 1, "1": 2}, {"1": 2}, "the value lost 1"),
    ([1, 2], [1], "the value had 2 items and came back with 1"),
    ("secret", "***", "the value: a str comes back as another one"),
    (pydantic.SecretStr("a"), "***", "the value: a SecretStr comes back as a str"),
    (Model(value=pydantic.SecretStr("a")), Model(value="***"), ".value: a SecretStr comes"),
    (Model(value=Point(pydantic.SecretStr("a"))), Model(value={"x": "***", "y": None}), ".value.x"),
    (Model(value=Point(1)), Model(value={"x": 1}), ".value.y is lost"),
    (dt.time(1), dt.time(2), "the value: a time comes back as another one"),
]


@pytest.mark.parametrize(("sent", "got"), SAME)
def test_nothing_is_lost(sent: Any, got: Any) -> None:
    assert difference(sent, got) is None


@pytest.mark.parametrize(("sent", "got", "what"), LOST)
def test_what_is_lost_is_named(sent: Any, got: Any, what: str) -> None:
    found = difference(sent, got)
    assert found is not None
    assert found.startswith(what)


def test_an_attribute_beside_the_fields_is_lost() -> None:
    point: Any = Point(1)
    point.label = "here"
    with pytest.raises(SerializationError, match=r"\.label is lost"):
        encode_as(point, Point)


def test_keys_that_hide_one_another_are_refused_however_deep() -> None:
    with pytest.raises(SerializationError, match="two keys that are one string"):
        encode_as({"rows": [{1: "a", "1": "b"}]}, None)
    assert encode_as({"rows": [{1: "a", "2": "b"}]}, None)[1] == {"rows": [{"1": "a", "2": "b"}]}


def test_the_error_names_the_types_and_what_to_do() -> None:
    with pytest.raises(SerializationError, match="list does not come back from JSON as list") as it:
        encode_as([Point3(1)], list[Point])
    assert "[0]: a Point3 comes back as a Point" in str(it.value)
    assert "change the annotation" in str(it.value)
