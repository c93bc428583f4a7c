"""The names of keys on the server.

The keys of locks, cache entries, circuits and checkpoints are those of go-go-scope; a string,
hash or sorted set of goscope alone has a name that begins with ``goscope:``. A hash tag before all
of them keeps the keys of one store in one hash slot of a cluster.
"""

from __future__ import annotations

from typing import Final


class Keys:
    """Derives the names from stored keys, which are a prefix, a namespace and a key."""

    def __init__(self, hash_tag: str) -> None:
        self.hash_tag: Final = hash_tag
        self.space: Final = f"{{{hash_tag}}}" if hash_tag else ""
        """What all names of the store begin with."""
        self.own: Final = f"{self.space}goscope:"

    def name(self, stored: str) -> str:
        """The key that go-go-scope uses as well."""
        return self.space + stored

    def stored(self, name: str) -> str:
        """The stored key with this name."""
        return name[len(self.space) :]

    def companion(self, kind: str, stored: str) -> str:
        """The key of what goscope alone keeps about a stored key."""
        return f"{self.own}{kind}:{stored}"


def glob(literal: str) -> str:
    """A pattern of Redis that matches this text and no other."""
    return "".join(f"\\{char}" if char in "\\*?[]^-" else char for char in literal)
