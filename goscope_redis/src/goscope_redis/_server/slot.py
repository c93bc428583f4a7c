"""Hash slots: which node of a cluster holds the keys of a hash tag."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from .address import Node

SLOTS: Final = 16384


class SlotRange(NamedTuple):
    """The slots that one primary serves."""

    first: int
    last: int
    node: Node


def hash_slot(hash_tag: str) -> int:
    """The slot of every key that contains ``{hash_tag}``."""
    return crc_hqx(hash_tag.encode(), 0) % SLOTS


def slot_ranges(answer: Sequence[Any], asked: Node) -> list[SlotRange]:
    """The ranges in an answer to CLUSTER SLOTS. A node without a host is the one that was asked."""
    found: list[SlotRange] = []
    for first, last, primary, *_ in answer:
        host = primary[0].decode() if primary[0] else asked.host
        found.append(SlotRange(int(first), int(last), Node(host, int(primary[1]))))
    return found


def owner_of(ranges: Iterable[SlotRange], slot: int) -> Node | None:
    return next((it.node for it in ranges if it.first <= slot <= it.last), None)
