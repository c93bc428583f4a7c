"""The rows of a thread: what they hold, and what they are called."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from langchain_core.runnables import RunnableConfig

from ...providers import Checkpoint as Row

PREFIX: Final = "langgraph:"
"""What the task ids of all rows begin with."""


class Typed(msgspec.Struct, array_like=True):
    """A value as LangGraph's serializer gives it."""

    type: str
    data: bytes


class Body(msgspec.Struct):
    """One checkpoint."""

    thread: str
    namespace: str
    parent: str | None
    checkpoint: Typed
    metadata: Typed


class Commit(msgspec.Struct):
    """The name of a checkpoint, in the order in which they were saved: what makes it visible."""

    thread: str
    namespace: str
    checkpoint_id: str


class Writes(msgspec.Struct):
    """The writes of one call of ``aput_writes``: index, channel, value."""

    task_id: str
    task_path: str
    replaces: bool
    writes: list[tuple[int, str, Typed]]


class Place(NamedTuple):
    """A namespace of a thread, and the task ids of its rows."""

    thread: str
    namespace: str

    @property
    def root(self) -> str:
        # A digest, since a namespace has a part for each level of graphs.
        return f"{thread_root(self.thread)}{sha256(self.namespace.encode()).hexdigest()[:32]}"

    @property
    def commits(self) -> str:
        return f"{self.root}:commits"

    def body(self, checkpoint_id: str) -> str:
        return f"{self.root}:body:{checkpoint_id}"

    def writes(self, checkpoint_id: str) -> str:
        return f"{self.root}:writes:{checkpoint_id}"

    def config(self, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


def thread_root(thread: str) -> str:
    return f"{PREFIX}{quote(thread, safe='')}:"


def configurable(config: RunnableConfig | None) -> dict[str, Any]:
    """What a config says about the thread and the checkpoint."""
    return {} if config is None else config.get("configurable", {})


def place_of(config: RunnableConfig | None) -> Place:
    conf = configurable(config)
    return Place(str(conf["thread_id"]), conf.get("checkpoint_ns", ""))


def commit_of(row: Row) -> Commit:
    commit: Commit = row.data  # decoded by `_commits`
    return commit


def id_of(config: RunnableConfig) -> str:
    found: str = configurable(config)["checkpoint_id"]
    return found
