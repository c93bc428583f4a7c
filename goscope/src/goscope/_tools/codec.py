"""Values as JSON text: one codec for everything goscope stores.

`encode` refuses what JSON cannot carry, including NaN and infinities (msgspec alone would write
null for them). `decode` builds ``type`` from the text: dataclasses, ``msgspec.Struct``,
``TypedDict``, builtin containers, and anything with pydantic's ``model_validate``. `check_type`
refuses a type before there is a value, `encode_as` a value that does not come back as the type.

``msgspec.Raw`` stands for the text itself: `decode` to it checks the text and builds nothing, and
`encode` returns the text of one unchanged. So a text passes through without being decoded.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from ..errors import ConfigurationError, SerializationError
from . import models, value_types
from .round_trip import class_of, difference

_ADVICE: Final = (
    "Use a dataclass, a msgspec.Struct, a TypedDict, a pydantic model or builtin containers, and "
    "None beside one of them; for plain JSON annotate Any"
)

_NON_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""A float of MessagePack whose exponent has all bits set. Not in the UTF-8 of a text."""

_NUMBER_AS_KEY: Final = re.compile(rb'"-?\d[^"]*":')


class DecodeError(ValueError):
    """Stored text is not valid JSON, or does not fit the wanted type. Never leaves a provider."""


class _NoDecoding(Exception):
    """The wanted type cannot be decoded to: the caller's mistake, unlike text that does not fit."""


def encode(value: Any) -> str:
    """Return the value as JSON text. Raises `SerializationError`."""
    if type(value) is msgspec.Raw:
        return _checked_text(value)
    try:
        data = _encoder.encode(value)
        # Only a value that produced a null somewhere can hide a NaN, so most values skip the walk.
        # For a text without a match `rfind` is three times faster than `in`.
        has_null = data.rfind(b"null") >= 0
        bad = _non_finite(_to_builtins(value)) if has_null and _may_be_non_finite(value) else None
        # Deeper dicts are looked at by `encode_as` only: it would take longer than the encoding.
        mixed = class_of(value) is dict and len(set(map(type, value))) > 1
        collides = mixed and _has_colliding_keys(value, data)
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as exc:
        raise SerializationError(
            f"a value of type {type(value).__name__} cannot be stored as JSON: {exc}"
        ) from exc
    if collides:
        raise _colliding(value)
    if bad is not None:
        raise SerializationError(
            f"a value of type {type(value).__name__} contains {bad}, which JSON cannot carry: "
            f"store None or a string instead"
        )
    return data.decode()


def _checked_text(raw: msgspec.Raw) -> str:
    try:
        return bytes(_raw.decode(raw)).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise SerializationError(f"a msgspec.Raw does not hold valid JSON: {exc}") from exc


def encode_as(value: Any, type: Any) -> tuple[str, Any]:
    """The value as JSON text, and what that decodes to as ``type``, None for plain JSON.

    Raises `SerializationError` unless it comes back as it went in.
    """
    text = encode(value)
    data = text.encode()
    if _NUMBER_AS_KEY.search(data) is not None and _has_colliding_keys(value, data):
        raise _colliding(value)
    try:
        found = decode(text, type)
    except DecodeError as exc:
        raise _not_restored(value, type, str(exc)) from exc
    if type is not None and _holds_objects(type):
        lost = difference(value, found)
        if lost is not None:
            raise _not_restored(value, type, lost)
    return text, found


def checked(value: Any, type: Any) -> Any:
    """The value, or its text if it had to be tried. Raises as `encode_as` does."""
    if type is None or not _holds_objects(type):
        return value
    return msgspec.Raw(encode_as(value, type)[0].encode())


def _not_restored(value: Any, type: Any, lost: str) -> SerializationError:
    return SerializationError(
        f"a value of type {value.__class__.__name__} does not come back from JSON as "
        f"{_name(type)}: {lost}. Return what the annotation says, or change the annotation"
    )


def check_type(type: Any) -> None:
    """Raise `ConfigurationError` unless values of the type come back from JSON; None is any JSON.

    Raises ``NameError`` when an annotation names something that does not exist yet.
    """
    if type is not None:
        try:
            _checked_type(type)
        except TypeError:  # unhashable, such as Annotated[int, []]
            _checked_type.__wrapped__(type)


@lru_cache(maxsize=256)
def _checked_type(type: Any) -> None:
    _new_decoder(type)
    if reason := value_types.refusal(type):
        raise ConfigurationError(f"JSON cannot be decoded to {_name(type)}: {reason}. {_ADVICE}")


def _holds_objects(type: Any) -> bool:
    try:
        return _cached_holds_objects(type)
    except TypeError:
        return value_types.holds_objects(type)


_cached_holds_objects = lru_cache(maxsize=256)(value_types.holds_objects)


def _name(type: Any) -> str:
    return getattr(type, "__qualname__", None) or repr(type)


def decode(text: str | bytes, type: Any = None) -> Any:
    """Return the value that the text stands for, as ``type`` if given.

    Raises `DecodeError` when the text does not decode, `ConfigurationError` when nothing can
    be decoded to the type.
    """
    decoder = _plain if type is None else _decoder(type)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise DecodeError(str(exc)) from exc
    except _NoDecoding as exc:
        _refuse_type(exc)
    except (msgspec.DecodeError, UnicodeError) as exc:
        return _decode_javascript(text, type, exc)
    except (TypeError, RecursionError) as exc:  # a number or NULL in a text column; deep nesting
        raise DecodeError(str(exc)) from exc


def convert(value: Any, type: Any) -> Any:
    """Build ``type`` from a value that was already decoded from JSON. Raises as `decode` does."""
    if type is None:
        return value
    if type is msgspec.Raw:
        return msgspec.Raw(encode(value))
    try:
        return msgspec.convert(value, type, builtin_types=(), str_keys=True, dec_hook=_dec_hook)
    except (msgspec.ValidationError, UnicodeError, RecursionError) as exc:
        raise DecodeError(str(exc)) from exc
    except _NoDecoding as exc:
        _refuse_type(exc)


def _refuse_type(exc: _NoDecoding) -> NoReturn:
    raise ConfigurationError(f"JSON cannot be decoded to {exc}. {_ADVICE}") from exc


def _enc_hook(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return models.dump(value)
    raise TypeError(f"type {type(value).__name__} has no JSON form")


def _dec_hook(type: Any, value: Any) -> Any:
    if models.is_model_type(type):
        return models.load(type, value)  # pydantic's ValidationError is a ValueError: wrapped
    raise _NoDecoding(_name(type))


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)
_packer = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_plain = msgspec.json.Decoder()
_raw = msgspec.json.Decoder(msgspec.Raw)


def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _cached_decoder(type)
    except TypeError:  # unhashable, such as Annotated[int, []]
        return _new_decoder(type)


def _new_decoder(type: Any) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(type, dec_hook=_dec_hook)
    except TypeError as exc:  # such as a union of two structs that JSON cannot tell apart
        raise ConfigurationError(f"JSON cannot be decoded to {type!r}: {exc}. {_ADVICE}") from exc


_cached_decoder = lru_cache(maxsize=256)(_new_decoder)


def _to_builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=False, enc_hook=_enc_hook)


def _colliding(value: object) -> SerializationError:
    return SerializationError(
        f"a value of type {type(value).__name__} has a dict with two keys that are one string in "
        f"JSON, such as 1 and '1': use keys of one type"
    )


def _has_colliding_keys(value: Any, data: bytes) -> bool:
    unique = msgspec.to_builtins(value, str_keys=True, enc_hook=_enc_hook)
    return len(_encoder.encode(unique)) != len(data)


def _may_be_non_finite(value: Any) -> bool:
    """Whether the value may hold a NaN or an infinity: False for nearly all that hold none.

    Looks at the bytes of its floats in MessagePack. Unlike `_non_finite` it creates no object for
    each value, and takes a tenth of the time.
    """
    try:
        return _NON_FINITE.search(_packer.encode(value)) is not None
    except (TypeError, ValueError, OverflowError):  # what MessagePack cannot carry
        return True


def _non_finite(value: Any) -> float | None:
    """The first NaN or infinity among the values in nested builtins; keys become strings."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return item
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending += item
    return None


def _decode_javascript(text: str | bytes, type: Any, exc: Exception) -> Any:
    """Decode text that only JavaScript writes: valid JSON with a lone surrogate escape."""
    import json  # rarely needed, and it would add 2 ms to the start of every program

    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise DecodeError(str(exc)) from exc
    return msgspec.Raw(text) if type is msgspec.Raw else convert(value, type)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
