"""The owner of the lease of a computation, which names the tags of the value to come."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from .key import check_key
from .process import unique_name

MAX_MARKS: Final = 32
"""The most tags that the owner of a lease names; the owner has at most 512 characters."""

ANY_TAG: Final = "#*"
"""Ends the owner of a lease whose value has more tags: `delete_by_tag` of any tag ends it."""


def load_owner(tags: Iterable[str]) -> str:
    """An owner for the lease of a computation, which marks it with the tags of the value.

    So ``delete_by_tag`` finds the computations of values that will carry the tag.
    """
    marks = dict.fromkeys(map(tag_mark, tags))
    return " ".join([unique_name(), *(marks if len(marks) <= MAX_MARKS else [ANY_TAG])])


def tag_mark(tag: str) -> str:
    """The mark of a tag in the owner of a lease. Raises ``ValueError`` if the tag is invalid."""
    return f"#{blake2b(check_key(tag, 'tag').encode(), digest_size=6).hexdigest()}"


def owner_has(owner: str, mark: str | None) -> bool:
    """Whether the owner has the mark, or marks every tag; true without a mark."""
    return mark is None or mark in owner or owner.endswith(ANY_TAG)
