"""The JSON codec: the JSON form of values, refused values, and typed decoding."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections import Counter, OrderedDict, deque
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

# Private: every stored value goes through these.
from goscope._tools.codec import convert, decode
from goscope.backend import DecodeError, encode
from goscope.errors import ConfigurationError, SerializationError

NAN = math.nan
NOON = dt.datetime(2024, 1, 2, 12, 0, 0, 6)  # noqa: DTZ001  # naive ones have a JSON form, too


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


class Box(msgspec.Struct):
    points: list[Point]
    name: str = ""


class Row(TypedDict):
    id: int
    tags: list[str]


class Pair(NamedTuple):
    left: int
    right: str


class User(pydantic.BaseModel):
    id: int
    seen: dt.datetime | None = None
    score: float = 0.0


class Nested(msgspec.Struct):
    user: User
    pair: Pair


class Plain:
    """A class that has no JSON form."""


JSON_FORMS: list[tuple[object, object]] = [
    ((1, "a"), [1, "a"]),
    ({1}, [1]),
    (frozenset({1}), [1]),
    (NOON, "2024-01-02T12:00:00.000006"),
    (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02T00:00:00Z"),
    (dt.date(2024, 1, 2), "2024-01-02"),
    (dt.time(1, 2, 3), "01:02:03"),
    (dt.timedelta(seconds=5), "PT5S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.10"), "1.10"),
    (b"ab", "YWI="),
    (bytearray(b"ab"), "YWI="),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    ({1: "one", 2: "two"}, {"1": "one", "2": "two"}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (Pair(1, "b"), [1, "b"]),
    (Point(1, 2.5), {"x": 1, "y": 2.5}),
    (Box([Point(1)]), {"points": [{"x": 1, "y": None}], "name": ""}),
    (Row(id=1, tags=["a"]), {"id": 1, "tags": ["a"]}),
    (User(id=1), {"id": 1, "seen": None, "score": 0.0}),
    ([User(id=1, score=1.5)], [{"id": 1, "seen": None, "score": 1.5}]),
    (2**70, 2**70),
    (-0.0, -0.0),
]

ROUND_TRIPS: list[tuple[object, Any]] = [
    ((1, "a"), tuple[int, str]),
    ({1, 2}, set[int]),
    (frozenset({1}), frozenset[int]),
    (NOON, dt.datetime),
    (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.datetime),
    (dt.timedelta(days=1, microseconds=1), dt.timedelta),
    (uuid.UUID(int=1), uuid.UUID),
    (decimal.Decimal("1.10"), decimal.Decimal),
    (b"\xff\0", bytes),
    (Color.RED, Color),
    (Level.HIGH, Level),
    ({1: "one"}, dict[int, str]),
    (Pair(1, "b"), Pair),
    (Point(1, 2.5), Point),
    (Box([Point(1)], "b"), Box),
    (Row(id=1, tags=["a"]), Row),
    (User(id=1, seen=NOON), User),
    ([User(id=1)], list[User]),
    (None, User | None),
    ({"a": User(id=1)}, dict[str, User]),
    (Nested(User(id=1), Pair(2, "r")), Nested),
    (7, Annotated[int, []]),
    ("a", Literal["a", "b"]),
    (1, Any),
    ([1, 2], list),
]

REFUSED: list[object] = [
    NAN,
    math.inf,
    -math.inf,
    [NAN],
    [None, NAN],
    {"a": {"b": (1, {"c": NAN})}},
    {NAN, 1.0},
    Point(1, NAN),
    Box([Point(1), Point(2, math.inf)]),
    Pair(NAN, "b"),  # type: ignore[arg-type]  # as an untyped caller may write
    User(id=1, score=NAN),
    "\ud800",
    {"\ud800": 1},
    object(),
    Plain(),
    Plain,
    len,
    1j,
    range(3),
    deque([1]),
    {(1, 2): 3},
    {None: 1},
    iter([1]),
]


@pytest.mark.parametrize(("value", "form"), JSON_FORMS)
def test_each_value_has_its_json_form(value: object, form: object) -> None:
    """As the table in the documentation lists them."""
    found = decode(encode(value))
    assert found == form
    assert type(found) is type(form)


@pytest.mark.parametrize(("value", "type_"), ROUND_TRIPS)
def test_decoding_to_a_type_restores_the_value(value: object, type_: Any) -> None:
    found = decode(encode(value), type_)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("value", "type_"), ROUND_TRIPS)
def test_convert_and_decode_build_equal_values(value: object, type_: Any) -> None:
    text = encode(value)
    assert convert(json.loads(text), type_) == decode(text, type_)


@pytest.mark.parametrize("value", REFUSED)
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(SerializationError, match=f"type {type(value).__name__}"):
        encode(value)


def test_an_endlessly_nested_value_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError):
        encode(endless)


def test_null_is_distinguished_from_nan() -> None:
    """Also where msgspec writes null for both."""
    assert decode(encode([None, "null", {"null": None}])) == [None, "null", {"null": None}]
    assert decode(encode({NAN: None})) == {"nan": None}, "keys become strings"


def test_text_is_compact_and_unescaped() -> None:
    """As other programs write the format."""
    assert encode({"k": [1, "ключ 🔑"]}) == '{"k":[1,"ключ 🔑"]}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_json_value_is_restored_or_refused(value: Any) -> None:
    """As by the standard library."""
    try:
        text = encode(value)
    except SerializationError:
        with pytest.raises(ValueError, match=r"Out of range|surrogates"):
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return
    assert decode(text) == value
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "1 2", "nul", "NaN", '{"a": NaN}', "Infinity", "'a'", "[" * 100_000, b'"\xff"'],
)
def test_text_that_is_not_json_is_a_decode_error(text: str | bytes) -> None:
    with pytest.raises(DecodeError):
        decode(text)


@pytest.mark.parametrize("column", [None, 5, 1.5])
def test_a_column_that_holds_no_text_is_a_decode_error(column: Any) -> None:
    """SQLite columns may hold anything, whatever their declared type."""
    with pytest.raises(DecodeError):
        decode(column)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("1", str),
        ("1.0", int),
        ("true", int),
        ('"1"', int),
        ("{}", Point),
        ('{"x": "1"}', Point),
        ('{"x": "\\ud800"}', Point),
        ('{"id": "no"}', User),
        ("[]", User),
        ("1", User | None),
        ('[{"id": null}]', list[User]),
        ('"blue"', Color),
        ('"c"', Literal["a", "b"]),
        ("null", int),
    ],
)
def test_text_that_does_not_fit_the_type_is_a_decode_error(text: str, type_: Any) -> None:
    with pytest.raises(DecodeError):
        decode(text, type_)


@pytest.mark.parametrize("type_", [Plain, complex, deque, list[Plain], "Point", 5, Point | Box])
def test_a_type_without_decoding_is_a_configuration_error(type_: Any) -> None:
    """As a miss, the mistake in the program would go unnoticed."""
    with pytest.raises(ConfigurationError, match="JSON cannot be decoded to"):
        decode('[{"x": 1}]' if type_ == list[Plain] else '{"x": 1}', type_)


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ('"\\ud800"', None, "\ud800"),
        ('{"x": "a\\udfff"}', None, {"x": "a\udfff"}),
        ('{"x": "\\ud800"}', dict[str, str], {"x": "\ud800"}),
        ('{"id": 1, "tags": ["\\ud800"]}', Row, {"id": 1, "tags": ["\ud800"]}),
        ('{"x": 1, "z": "\\ud800"}', Point, Point(1)),
    ],
)
def test_text_that_only_javascript_accepts_is_decoded(text: str, type_: Any, value: object) -> None:
    """JavaScript writes lone surrogates as escapes."""
    assert decode(text, type_) == value


def test_text_from_javascript_may_not_hold_nan() -> None:
    with pytest.raises(DecodeError):
        decode('["\\ud800", NaN]')


@pytest.mark.parametrize("text", ["null", '[1, "a"]', '{"a": null}'])
def test_raw_text_passes_through(text: str) -> None:
    """Neither encoding nor decoding builds the value behind it."""
    assert encode(msgspec.Raw(text)) == text
    assert bytes(decode(text, msgspec.Raw)).decode() == text


def test_raw_text_may_hold_a_lone_surrogate_escape() -> None:
    assert bytes(decode('"\\ud800"', msgspec.Raw)) == b'"\\ud800"'


@pytest.mark.parametrize("text", [b"", b"[null", b"NaN", b"1 2", b'"\xff"'])
def test_raw_text_that_is_not_valid_json_is_refused(text: bytes) -> None:
    with pytest.raises(SerializationError, match="Raw"):
        encode(msgspec.Raw(text))


def test_a_none_costs_no_walk_through_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk takes ten times as long as the encoding, and is needed for a NaN only."""

    def walk(_: object) -> None:
        raise AssertionError("walked")

    monkeypatch.setattr("goscope._tools.codec._non_finite", walk)
    rows = [{"id": number, "name": "x", "score": number / 7} for number in range(1000)]
    assert encode([*rows, None]).endswith(",null]")
    with pytest.raises(AssertionError, match="walked"):
        encode([*rows, None, math.inf])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_found_beside_a_none(bad: float) -> None:
    values: list[object] = [
        [None, bad],
        {"a": {"b": [1, bad]}, "n": None},
        [None, "é" * 100, 2**64 - 1, bad],
        (None, bad),
    ]
    for value in values:
        with pytest.raises(SerializationError, match="cannot carry"):
            encode(value)
