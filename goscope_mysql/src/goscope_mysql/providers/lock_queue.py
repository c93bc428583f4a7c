"""Wait queues for locks, across processes, made of the server's named locks.

Without a queue the process that releases a lock takes it again: the others only poll for it. Here
the processes that wait for a lock wait for a named lock (GET_LOCK), which the server grants in
order. Its holder, the head of the queue, polls the lease, and nobody else may take it. A named
lock belongs to a connection: that of a suspended or disconnected head is closed by the server.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

from goscope.backend import StoreContext
from goscope.errors import BackendError

from .._engine.connection import Connection
from .._engine.database import Database

MAY_TAKE: Final = "COALESCE(IS_USED_LOCK(?), ?) = ?"
"""The condition that no other process comes first; see `LockQueue.may_take_params`."""

MAX_QUEUES: Final = 8
"""In how many queues a process waits at a time: each takes a connection. In others it polls."""

MAX_IDLE: Final = 2
"""How many of these connections are kept for the next wait."""

GET_LOCK_S: Final = 30
"""How long the server waits before it answers that the process is not the head yet."""

HEARTBEAT_S: Final = 0.5
HEAD_TIMEOUT_S: Final = 2
"""How often a head sends a statement, and when the server closes the connection of one that does
not."""

HANDOVER_S: Final = 0.25
"""How long a head that was told that the lock is free may take to ask for it."""

_ENTER: Final = f"SELECT GET_LOCK(?, {GET_LOCK_S})"
_LEAVE: Final = "DO RELEASE_LOCK(?)"


class Place:
    """The place of this process in one queue."""

    def __init__(self) -> None:
        self.waits = 0
        self.connection_id = 0
        self.is_head = False
        self.is_queued = True
        """False if the queue cannot be joined: then the process polls."""
        self.left = asyncio.Event()
        self.leaving: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class LockQueue:
    """The places of this process, by stored key. ``notify`` is told when it becomes a head."""

    def __init__(
        self, context: StoreContext, database: Database, notify: Callable[[str], None]
    ) -> None:
        self._context = context
        self._database = database
        self._notify = notify
        self._places: dict[str, Place] = {}
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, key: str) -> Place:
        """Begin to wait: at the end of the queue, or where the process is already."""
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place()
            if len(self._places) > MAX_QUEUES:
                place.is_queued = False
            else:
                place.task = asyncio.create_task(self._attend(key, place))
                self._tasks.add(place.task)
                place.task.add_done_callback(self._tasks.discard)
        place.waits += 1
        if place.leaving is not None:
            place.leaving.cancel()
        return place

    def stop_waiting(self, key: str, place: Place, *, may_take: bool) -> None:
        """End one wait; ``may_take`` is whether its caller is going to take the lock."""
        place.waits -= 1
        if place.waits == 0:
            delay_s = HANDOVER_S if may_take else 0
            loop = asyncio.get_running_loop()
            place.leaving = loop.call_later(delay_s, self._leave, key, place)

    def is_head(self, key: str) -> bool:
        """Whether this process is the head of the queue."""
        place = self._places.get(key)
        return place is not None and place.is_head

    def may_take(self, key: str) -> bool:
        """Whether this process is the head, or cannot know."""
        place = self._places.get(key)
        return place is None or place.is_head or not place.is_queued

    def may_take_params(self, key: str) -> tuple[str, int, int]:
        """The parameters of `MAY_TAKE`."""
        place = self._places.get(key)
        mine = place.connection_id if place is not None and place.is_head else 0
        return lock_name(self._context.store_id, key), mine, mine

    def leave(self, key: str) -> None:
        """Leave the queue: the lock was granted. Other waits of this process begin anew."""
        place = self._places.get(key)
        if place is not None:
            self._leave(key, place)

    async def close(self) -> None:
        """Leave all queues and close their connections."""
        for key, place in list(self._places.items()):
            self._leave(key, place)
        if self._tasks:
            await asyncio.wait(self._tasks)
        while self._idle:
            await self._idle.pop().close()

    def _leave(self, key: str, place: Place) -> None:
        if self._places.get(key) is place:
            del self._places[key]
        if place.leaving is not None:
            place.leaving.cancel()
        place.left.set()
        if place.task is not None and not place.is_head:
            place.task.cancel()
        place.is_head = False

    async def _attend(self, key: str, place: Place) -> None:
        """Wait in the queue, then be its head until the process leaves."""
        connection: Connection | None = None
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            await self._enter(connection, key, place)
            while not await _is_set_within(place.left, HEARTBEAT_S):
                await self._database.run_on(connection, "DO 0", ())
            await self._database.run_on(
                connection, _LEAVE, (lock_name(self._context.store_id, key),)
            )
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                connection = None
        except BackendError:  # such as no connection left, or one that was closed
            place.is_head = place.is_queued = False
            self._notify(key)
        finally:
            if connection is not None:
                # The server would notice the end only when it has granted the lock.
                self._database.end(connection)

    async def _enter(self, connection: Connection, key: str, place: Place) -> None:
        """Return when the process is the head."""
        entered, name = False, lock_name(self._context.store_id, key)
        while not entered:
            entered = (await self._database.run_on(connection, _ENTER, (name,))).rows[0][0] == 1
        place.connection_id = connection.id
        place.is_head = not place.left.is_set()
        self._notify(key)

    async def _connect(self) -> Connection:
        connection = await self._database.connect()
        await self._database.run_on(connection, f"SET SESSION wait_timeout = {HEAD_TIMEOUT_S}", ())
        return connection


def lock_name(store_id: str, key: str) -> str:
    """The named lock of a stored key. Such names belong to the server; 64 characters fit."""
    digest = hashlib.blake2b(f"{store_id} {key}".encode(), digest_size=20)
    return f"goscope {digest.hexdigest()}"


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
