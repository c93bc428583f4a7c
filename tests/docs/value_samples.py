"""The rows of the table in docs/values.md: values, and the type that a function returns them as."""

# pyright: reportPrivateUsage=false
# A private field is one of the rows.

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from typing import Annotated, Any, NamedTuple, NewType, TypedDict

import attrs
import msgspec
import numpy as np
import pydantic
from pydantic.alias_generators import to_camel


class Sample(NamedTuple):
    """A row: what goes in, and the annotation of the function that returns it."""

    what: str
    value: Any
    type: Any


class Color(enum.Enum):
    RED = "red"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "2"


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ADA = "ada"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: int
    right: str


class Row(TypedDict):
    id: int


UserId = NewType("UserId", int)


@dataclasses.dataclass
class Point:
    x: int
    y: int = dataclasses.field(default=0, repr=False, compare=False)


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass
class Counted:
    x: int
    count: int = dataclasses.field(init=False, default=0)

    def counted(self) -> Counted:
        self.count += 1
        return self


@dataclasses.dataclass
class Derived:
    x: int
    double: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.x


@dataclasses.dataclass
class Seeded:
    x: int
    seed: dataclasses.InitVar[int] = 0


class Struct(msgspec.Struct):
    x: int


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    user_id: int
    full_name: str = "Ada"


class Cat(msgspec.Struct, tag=True):
    lives: int


class Fish(msgspec.Struct, tag=True):
    fins: int


class Kitten(Cat, tag=True):
    age: int = 0


@attrs.define
class Attrs:
    x: int
    y: int = attrs.field(default=0, repr=False, eq=False)


@attrs.define
class PrivateAttrs:
    x: int
    _y: int = 0


class Model(pydantic.BaseModel):
    x: int
    at: dt.datetime | None = None


class SubModel(Model):
    z: int = 0


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel)
    user_id: int
    full_name: Annotated[str, pydantic.Field(serialization_alias="fn", validation_alias="name")]


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True)
    id: uuid.UUID
    at: dt.date
    pair: tuple[int, int]


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    x: int

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.x


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    x: int


class Farm(pydantic.BaseModel):
    animals: list[Model]


class Credentials(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


class Excluded(pydantic.BaseModel):
    text: str
    tenant: str = pydantic.Field(exclude=True)


class Masked(pydantic.BaseModel):
    card: str

    @pydantic.field_serializer("card")
    def mask(self, card: str) -> str:
        return f"**** {card[-4:]}"


class Anything(pydantic.BaseModel):
    value: Any


class Private(pydantic.BaseModel):
    x: int
    _seen: int = 0

    def seen(self) -> Private:
        self._seen += 1
        return self


class Opaque:
    """A class without fields."""


AT = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
ID = uuid.UUID(int=1)

SAMPLES: dict[str, list[Sample]] = {
    "Builtins": [
        Sample("None, bool, int, str", [None, True, 7, "a"], list[Any]),
        Sample("an int of any size", 2**70, int),
        Sample("float", 1.5, float),
        Sample("an int as a float", 1, float),
        Sample("NaN, infinity", float("nan"), float),
        Sample("a str with a lone surrogate", "\ud800", str),
        Sample("list", [1], list[int]),
        Sample("tuple", (1, "a"), tuple[int, str]),
        Sample("set, frozenset", {1}, set[int]),
        Sample("dict with str keys", {"a": 1}, dict[str, int]),
        Sample("dict with int keys", {1: "a"}, dict[int, str]),
        Sample('dict with 1 and `"1"` as keys', {1: "a", "1": "b"}, dict[str, str]),
        Sample("dict with a tuple or None as key", {(1, 2): "a"}, dict[Any, str]),
        Sample("OrderedDict, defaultdict, Counter", collections.Counter("aab"), dict[str, int]),
        Sample("bytes", b"\xff", bytes),
        Sample("a subclass of str, int or float", Text("a"), str),
        Sample("complex, range, deque, generator", 1j, Any),
    ],
    "Types of the standard library": [
        Sample("aware or naive datetime", AT, dt.datetime),
        Sample("date, time, timedelta", AT.date(), dt.date),
        Sample("UUID, Decimal", [ID, decimal.Decimal("1.50")], tuple[uuid.UUID, decimal.Decimal]),
        Sample("Enum of str or int values", Color.RED, Color),
        Sample("IntEnum, StrEnum, Flag", [Level.HIGH, Right.READ], tuple[Level, Right]),
        Sample("StrEnum, as a str", Name.ADA, str),
        Sample("Enum of mixed values", Mixed.ONE, Mixed),
        Sample("NamedTuple", Pair(1, "b"), Pair),
        Sample("TypedDict", Row(id=1), Row),
        Sample("TypedDict with another key", {"id": 1, "other": 2}, Row),
        Sample("NewType", UserId(7), UserId),
        Sample("pathlib.Path", pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath),
    ],
    "Dataclasses": [
        Sample("dataclass, whatever its fields show or compare", Point(1, 2), Point),
        Sample("its subclass, as itself", Point3(1, 2, 3), Point3),
        Sample("its subclass in a list of it", [Point3(1, 2, 3)], list[Point]),
        Sample("`field(init=False)`", Counted(1).counted(), Counted),
        Sample("a field that `__post_init__` computes", Derived(2), Derived),
        Sample("`InitVar`", Seeded(1), Seeded),
    ],
    "msgspec": [
        Sample("Struct", Struct(1), Struct),
        Sample("`rename`, `omit_defaults`, `forbid_unknown_fields`", Renamed(user_id=1), Renamed),
        Sample("a union of tagged Structs", Cat(9), Cat | Fish),
        Sample("a subclass in a list of the class", [Kitten(9, 1)], list[Cat]),
    ],
    "attrs": [
        Sample("attrs class", Attrs(1, 2), Attrs),
        Sample("a field whose name begins with `_`", PrivateAttrs(1, 2), PrivateAttrs),
    ],
    "pydantic": [
        Sample("model", Model(x=1, at=AT), Model),
        Sample("aliases of any kind", Aliased(userId=1, name="Ada"), Aliased),  # type: ignore[call-arg]  # by alias
        Sample(
            'strict, frozen, `extra="forbid"`', Strict(id=ID, at=AT.date(), pair=(1, 2)), Strict
        ),
        Sample("computed fields", Computed(x=1), Computed),
        Sample('`extra="allow"`', Open(x=1, y=2), Open),  # type: ignore[call-arg]  # as it allows
        Sample("RootModel", pydantic.RootModel[list[int]]([1]), pydantic.RootModel[list[int]]),
        Sample("a subclass in a list of the model", [SubModel(x=1, z=2)], list[Model]),
        Sample("a subclass in a field of the model", Farm(animals=[SubModel(x=1, z=2)]), Farm),
        Sample(
            "`SecretStr`, `SecretBytes`, `Secret`",
            Credentials(user="a", password=pydantic.SecretStr("b")),
            Credentials,
        ),
        Sample(
            "a secret in a field of type Any", Anything(value=pydantic.SecretStr("b")), Anything
        ),
        Sample("`Field(exclude=True)`", Excluded(text="a", tenant="b"), Excluded),
        Sample("a serializer that loses something", Masked(card="4242424242424242"), Masked),
        Sample("a private attribute that was changed", Private(x=1).seen(), Private),
        Sample("a union of two models", Model(x=1), Model | Farm),
    ],
    "numpy": [
        Sample("numpy.int64, numpy.float64, numpy.bool_", np.float64(1.5), float),
        Sample("numpy.ndarray", np.array([1, 2]), list[int]),
    ],
    "Other types": [
        Sample("an object of any other class", Opaque(), Opaque),
        Sample("`object` as the type", {"a": 1}, object),
        Sample("`UUID | str`, `datetime | str`", ID, uuid.UUID | str),
        Sample("a union of two dataclasses", Point(1), Point | Derived),
    ],
}
