"""Values as JSON text: one codec for everything goscope stores.

`encode` refuses what JSON cannot carry, including NaN and infinities (msgspec alone would write
null for them). `decode` builds ``type`` from the text: dataclasses, ``msgspec.Struct``,
``TypedDict``, builtin containers, and anything with pydantic's ``model_validate``.

``msgspec.Raw`` stands for the text itself: `decode` to it checks the text and builds nothing, and
`encode` returns the text of one unchanged. So a text passes through without being decoded.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from ..errors import ConfigurationError, SerializationError


class DecodeError(ValueError):
    """Stored text is not valid JSON, or does not fit the wanted type. Never leaves a provider."""


class _NoDecoding(Exception):
    """The wanted type cannot be decoded to: the caller's mistake, unlike text that does not fit."""


def encode(value: Any, *, canonical: bool = False) -> str:
    """Return the value as JSON text. Raises `SerializationError`.

    With ``canonical`` equal values give equal text, whatever the order of their dicts and sets.
    """
    if type(value) is msgspec.Raw:
        return _checked_text(value)
    try:
        data = (_canonical if canonical else _encoder).encode(value)
        # Only a value that produced a null somewhere can hide a NaN, so most values skip the walk.
        # For a text without a match `rfind` is three times faster than `in`.
        bad = _non_finite(_to_builtins(value)) if data.rfind(b"null") >= 0 else None
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as exc:
        raise SerializationError(
            f"a value of type {type(value).__name__} cannot be stored as JSON: {exc}"
        ) from exc
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
    raise ConfigurationError(
        f"JSON cannot be decoded to {exc}: use a dataclass, a msgspec.Struct, a TypedDict, "
        f"a pydantic model or builtin containers"
    ) from exc


def _enc_hook(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"type {type(value).__name__} has no JSON form")


def _dec_hook(type: Any, value: Any) -> Any:
    if hasattr(type, "model_validate"):
        return type.model_validate(value)  # pydantic's ValidationError is a ValueError: wrapped
    raise _NoDecoding(getattr(type, "__qualname__", repr(type)))


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)
_canonical = msgspec.json.Encoder(enc_hook=_enc_hook, order="deterministic")
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
        raise ConfigurationError(f"JSON cannot be decoded to {type!r}: {exc}") from exc


_cached_decoder = lru_cache(maxsize=256)(_new_decoder)


def _to_builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=False, enc_hook=_enc_hook)


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
