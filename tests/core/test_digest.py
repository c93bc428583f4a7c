"""Digests for keys: different values have different ones, equal ones the same everywhere."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import itertools
import pathlib
import subprocess
import sys
import uuid
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

# Private: every default key and fingerprint is made with it.
from goscope._tools.digest import digest
from goscope.errors import SerializationError

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)


class Color(enum.Enum):
    RED = "red"
    ONE = 1


class Shade(enum.Enum):
    RED = "red"


class Name(enum.StrEnum):
    ADA = "ada"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: int
    right: int


@dataclasses.dataclass
class Hidden:
    x: int
    y: int = dataclasses.field(default=0, repr=False, compare=False)
    z: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class HiddenToo(Hidden):
    pass


@dataclasses.dataclass
class Hashed:
    user: str
    password: dataclasses.InitVar[str]

    def __post_init__(self, password: str) -> None:
        self.hash = f"hash of {password}"


class Struct(msgspec.Struct, omit_defaults=True):
    x: int
    y: int = 0


@attrs.define
class Attrs:
    x: int
    _y: int = attrs.field(default=0, repr=False, eq=False)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    user: str = "ada"
    password: pydantic.SecretStr = pydantic.SecretStr("a")
    tenant: str = pydantic.Field("a", exclude=True)
    _session: str = pydantic.PrivateAttr("a")

    def of(self, session: str) -> Model:
        self._session = session
        return self


def counted(count: int) -> Hidden:
    found = Hidden(1)
    found.z = count
    return found


def different_values() -> list[Any]:
    return [
        1, True, 1.0, "1", decimal.Decimal(1),
        decimal.Decimal("1.0"), b"1", bytearray(b"1"), [1], (1,),
        {1}, frozenset({1}), {1: 1}, {"1": 1}, {1: "1"}, Color.ONE, np.int64(1), np.float64(1),
        Text("1"),
        0, False, None, 0.0, "", b"", [], (), {}, set(), "None", [None], [[]], [[1], 2], [1, [2]],
        2**70, -(2**70), str(2**70), "red", Color.RED, Shade.RED, "ada", Name.ADA,
        Right.READ, Right.WRITE, Right.READ | Right.WRITE, (1, 2), Pair(1, 2), [1, 2],
        Hidden(1), Hidden(1, 2), counted(3), HiddenToo(1), {"x": 1, "y": 0, "z": 0},
        Hashed("ada", "a"), Hashed("ada", "b"), Struct(1), Struct(1, 2), Attrs(1), Attrs(1, 2),
        Model(), Model(password="b"), Model(tenant="b"), Model(extra="b"), Model().of("b"),  # type: ignore[arg-type, call-arg]  # as pydantic converts
        pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), "a", uuid.UUID(int=1),
        str(uuid.UUID(int=1)), dt.date(2026, 1, 1), "2026-01-01", dt.datetime(2026, 1, 1),  # noqa: DTZ001  # naive ones differ, too
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=BERLIN),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        NIGHT, NIGHT.replace(fold=1), dt.time(1), dt.timedelta(1), "1 day, 0:00:00",
        collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2},
        collections.defaultdict(int, a=1, b=2), collections.Counter("abb"),
    ]  # fmt: skip


DIFFERENT = different_values()


def test_different_values_have_different_digests() -> None:
    digests = [digest(value) for value in DIFFERENT]
    for (one, its), (other, others) in itertools.combinations(
        zip(DIFFERENT, digests, strict=True), 2
    ):
        assert its != others, f"{one!r} and {other!r} share a digest"


def test_nested_values_differ_as_they_do_alone() -> None:
    assert len({digest([value]) for value in DIFFERENT}) == len(DIFFERENT)
    assert len({digest((value,)) for value in DIFFERENT}) == len(DIFFERENT)
    assert len({digest({"key": value}) for value in DIFFERENT}) == len(DIFFERENT)


def test_the_order_of_dicts_and_sets_does_not_count() -> None:
    assert digest({"a": 1, "b": {"x", "y"}}) == digest({"b": {"y", "x"}, "a": 1})
    assert digest({1: "a", "1": "b"}) == digest({"1": "b", 1: "a"})


def test_a_cached_property_does_not_count() -> None:
    @dataclasses.dataclass
    class Square:
        side: int

        @functools.cached_property
        def area(self) -> int:
            return self.side**2

    square = Square(2)
    before = digest(square)
    assert square.area == 4
    assert digest(square) == before


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    )
)
def test_equal_values_have_equal_digests(value: Any) -> None:
    copied = msgspec.json.decode(msgspec.json.encode(value))
    assert digest(copied) == digest(value)


REFUSED: list[Any] = [
    float("nan"), float("inf"), object(), len, lambda: 1, Color, dt, "\ud800", 1j, range(3),
    iter([1]), np.array([1, 2]), [object()], {"a": {1j}}, Hidden(object()),  # type: ignore[arg-type]  # wrong on purpose
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_has_no_stable_content_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError):
        digest(value)


def test_an_endless_value_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError):
        digest(endless)


def test_digests_are_the_same_in_every_process() -> None:
    code = (
        "from goscope._tools.digest import digest\n"
        "print(digest([{'a', 'b', 'c'}, {'x': frozenset('abc'), 'y': b'z'}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert found == {digest([{"a", "b", "c"}, {"x": frozenset("abc"), "y": b"z"}]) + "\n"}
