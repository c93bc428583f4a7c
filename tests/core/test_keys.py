"""Keys, prefixes and patterns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

# Private: every key, prefix and pattern goes through these.
from goscope._tools.key import (
    MAX_KEY_LENGTH,
    check_key,
    check_pattern,
    check_prefix,
    escape_pattern,
)
from goscope.backend import literal_prefix, pattern_regex
from goscope.errors import ConfigurationError

KEY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TRICKY = st.text("aB*?[]%_.\\\n^$", min_size=1, max_size=12)


@pytest.mark.parametrize("key", ["a", " ", "\n", "ключ", "🔑", "k" * 512, "🔑" * 512, "*", "%"])
def test_valid_keys_are_returned_unchanged(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "tag is empty"),
        ("k" * 513, "tag 'kkk.* 513 characters, at most 512 .* digest"),
        ("é" * 513, "513 characters"),
        ("a\0b", r"tag 'a\\x00b' contains a NUL"),
        ("é\0", "NUL"),
        ("\ud800", "lone surrogate"),
        ("a\udfff", "lone surrogate"),
    ],
)
def test_an_invalid_key_is_a_value_error_with_the_reason(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_key(key, "tag")


@pytest.mark.parametrize("key", [None, 1, b"key", ["key"], True])
def test_other_types_are_a_type_error(key: Any) -> None:
    with pytest.raises(TypeError, match="tag must be a string"):
        check_key(key, "tag")


@given(KEY)
def test_every_text_of_up_to_512_characters_is_a_key(text: str) -> None:
    if len(text) <= MAX_KEY_LENGTH:
        assert check_key(text) is text


@pytest.mark.parametrize("prefix", [None, ""])
def test_no_prefix_is_the_empty_prefix(prefix: str | None) -> None:
    assert check_prefix(prefix) == ""


@pytest.mark.parametrize("prefix", ["a:", "shop:", "v1.2-beta_3:", "Cache:", "cache2:"])
def test_valid_prefixes_are_returned_unchanged(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix", ["shop", ":", "a:b:", "a::", "sh op:", "shöp:", "shop:\n", "a*:", "a%:", 5, b"a:"]
)
def test_an_invalid_prefix_is_a_configuration_error(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="such as 'shop:'"):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["cache:", "circuit:", "collection:", "lock:", "lease:"])
def test_reserved_prefixes_are_a_configuration_error(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="reserved"):
        check_prefix(prefix)


@given(TRICKY, TRICKY)
def test_a_pattern_matches_as_defined(pattern: str, text: str) -> None:
    """Compared with the definition, written as plainly as possible."""
    assert bool(pattern_regex(pattern).fullmatch(text)) == matches(pattern, text)


@given(TRICKY)
def test_a_pattern_without_a_star_matches_only_itself(text: str) -> None:
    pattern = text.replace("*", "")
    assert pattern_regex(pattern).fullmatch(pattern)
    assert not pattern_regex(pattern).fullmatch(pattern + "x")


@given(TRICKY, TRICKY)
def test_every_match_starts_with_the_literal_prefix(pattern: str, text: str) -> None:
    if pattern_regex(pattern).fullmatch(text):
        assert text.startswith(literal_prefix(pattern))


def test_a_pattern_of_many_stars_does_not_backtrack() -> None:
    """A pattern that backtracks would block the event loop."""
    assert not pattern_regex("*a" * 50 + "*b").fullmatch("a" * 400)


@pytest.mark.parametrize("pattern", ["", "a\0b", "a\0", "*" * 513])
def test_an_invalid_key_is_an_invalid_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(pattern)


@given(TRICKY, TRICKY)
def test_an_escaped_text_matches_itself_only(text: str, other: str) -> None:
    assert pattern_regex(escape_pattern(text)).fullmatch(text)
    assert bool(pattern_regex(escape_pattern(text)).fullmatch(other)) == (text == other)
    assert literal_prefix(f"{escape_pattern(text)}*") == text


def test_an_escaped_text_may_be_as_long_as_a_key() -> None:
    assert check_pattern(escape_pattern("*" * 512))


def test_a_key_that_is_too_long_names_the_digest_to_use() -> None:
    with pytest.raises(ValueError, match=r"at most 512 are allowed: .*sha256.*hexdigest"):
        check_key("x" * 513)


def matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return text[:1] == pattern[0] and matches(pattern[1:], text[1:])
