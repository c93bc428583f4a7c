"""The server that a store lives on: runs commands and scripts, and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from redis.exceptions import NoScriptError, RedisError

from goscope._tools.cancellation import retrieve_exception
from goscope.backend import finish_before_cancel
from goscope.errors import BackendUnavailable

from .address import Node
from .connecting import Connector
from .connection import Command, ConnectionLost, PipelinedConnection
from .errors import NotReplicated, code_of, redirection, translate, unavailable
from .script import PRELUDE, CompiledScript, Script, compile_script

MAX_ATTEMPTS: Final = 100
"""How often a command is sent that the server certainly did not execute."""

RETRY_PAUSE_S: Final = 0.05
"""How long to wait while a slot moves between two nodes of a cluster."""

SCAN_COUNT: Final = 1000
"""How many keys the server looks at in one step of a scan, in about half a millisecond."""


KeyType: TypeAlias = Literal["string", "zset"]
"""What a key holds, as SCAN names it."""


class Greeting(NamedTuple):
    """A script that runs on every new connection, before any call, and who gets its answer.

    ``name`` is what the connection is called in CLIENT LIST after that.
    """

    script: Script
    keys: Sequence[str]
    arguments: Callable[[], Sequence[str | int]]
    answered: Callable[[Any], None]
    name: Callable[[], str]


class Server:
    """One connection to the server, opened again when it was lost; for one event loop.

    A command is sent a second time only if the server certainly did not execute it, or if it is
    ``repeatable``. redis-py itself repeats nothing: it would count one failure three times.

    Errors name the owner by ``name``. ``check`` raises while calls are refused.
    """

    def __init__(
        self,
        name: str,
        connector: Connector,
        check: Callable[[], None],
        *,
        command_timeout_s: float,
        wait_replicas: int,
        wait_timeout_ms: int,
    ) -> None:
        self.name: Final = name
        self.prelude = PRELUDE
        self._connector = connector
        self._check = check
        self._command_timeout_s = command_timeout_s
        self._wait_replicas = wait_replicas
        self._wait_timeout_ms = wait_timeout_ms
        self._compiled: dict[Script, CompiledScript] = {}
        self._connection: PipelinedConnection | None = None
        self._connecting: asyncio.Task[PipelinedConnection] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._greeting: Greeting | None = None

    @property
    def connector(self) -> Connector:
        """Opens further connections to the node that holds the keys."""
        return self._connector

    async def open(self, greeting: Greeting) -> None:
        """Connect. Raises `BackendUnavailable` or `ConfigurationError`."""
        self._greeting = greeting
        try:
            await self._connected()
        except BaseException:
            await finish_before_cancel(self.close())
            raise

    async def close(self) -> None:
        """Finish what was submitted, then close. The context refuses calls from before it on."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if self._retired:
            await asyncio.wait(self._retired)

    def abandon(self) -> None:
        """Forget what belongs to an event loop that is closed, or to the parent of a fork."""
        self._connection = self._connecting = None
        self._retired.clear()

    async def call(self, *command: str | bytes | int, repeatable: bool = False) -> Any:
        """Run one command; its answer as bytes, int, None or a list of these."""
        try:
            return await self._send(command, repeatable)
        except RedisError as exc:
            raise translate(exc, self.name) from exc

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        *arguments: str | bytes | int,
        repeatable: bool = False,
        replicated: bool = False,
    ) -> Any:
        """Run a script; its answer as `call` returns it.

        With ``replicated`` return once as many replicas have it as the options demand. Raises
        `BackendUnavailable` if they do not; the script was executed then.
        """
        compiled = self._compiled.get(script) or self._compile(script)
        parameters = (len(keys), *keys, *arguments)
        send = self._send_replicated if replicated and self._wait_replicas else self._send
        try:
            try:
                return await send(("EVALSHA", compiled.digest, *parameters), repeatable)
            except NoScriptError:  # a new server, or one whose scripts were flushed
                return await send(("EVAL", compiled.text, *parameters), repeatable)
        except RedisError as exc:
            raise translate(exc, self.name) from exc

    async def scan(self, pattern: str) -> AsyncIterator[list[str]]:
        """The names of the keys that match, in pages. A name may come more than once."""
        cursor: str | None = ""
        while cursor is not None:
            names, cursor = await self.scan_page(pattern, cursor)
            yield names

    async def scan_page(
        self, pattern: str, cursor: str, *, only: KeyType | None = None
    ) -> tuple[list[str], str | None]:
        """Some of the keys that match, and the next cursor: "" is the first one, None the end.

        With ``only`` those that hold a value of this type. A page may be empty.
        """
        of_type = () if only is None else ("TYPE", only)
        command = ("SCAN", cursor or "0", "MATCH", pattern, "COUNT", SCAN_COUNT, *of_type)
        following, names = await self.call(*command, repeatable=True)
        found = [name.decode(errors="replace") for name in names]
        return found, None if following == b"0" else following.decode()

    # --- helpers -----------------------------------------------------------------------------

    def _compile(self, script: Script) -> CompiledScript:
        compiled = self._compiled[script] = compile_script(script, self.prelude)
        return compiled

    async def _send_replicated(self, command: Command, repeatable: bool) -> Any:
        """As `_send`, but return once the replicas have what the command wrote."""
        wanted, timeout_ms = self._wait_replicas, self._wait_timeout_ms
        wait: Command = ("WAIT", wanted, timeout_ms)
        # On one connection: the server counts what was written by this connection.
        answer, found = await self._send(command, repeatable, wait)
        if found < wanted:
            raise NotReplicated(
                f"{self.name}: the call was executed, but {found} of {wanted} replicas had it "
                f"after {timeout_ms} ms. A failover now would lose it. Check the replicas",
                answer,
            )
        return answer

    async def _send(self, command: Command, repeatable: bool, second: Command | None = None) -> Any:
        """The answer, or those to both commands. Raises an error of the server as redis-py does."""
        connection = self._connection
        self._check()
        was_sent = False
        asked: Node | None = None
        for attempt in range(MAX_ATTEMPTS):
            if connection is None or connection.lost_reason:
                connection = await self._connected(was_sent)
            try:
                if asked is not None:
                    return await self._send_to(asked, command, second)
                return await _submit(connection, command, second)
            except ConnectionLost as exc:
                self._check()  # it may have been closed
                was_sent = was_sent or exc.sent
                if attempt or (was_sent and not repeatable):
                    raise unavailable(self.name, exc.reason, sent=was_sent, cause=exc) from exc
            except RedisError as exc:
                code = code_of(exc)
                asked = redirection(exc, self._connector.node) if code == "ASK" else None
                if asked is None and not await self._may_retry(exc, code, connection, attempt):
                    raise
        raise BackendUnavailable(f"{self.name}: its nodes refer to one another without end")

    async def _may_retry(
        self, exc: RedisError, code: str, connection: PipelinedConnection, attempt: int
    ) -> bool:
        """Whether the command, which was not executed, may succeed now. Looks for a better node."""
        if code == "MOVED":
            self._connector.prefer(redirection(exc, self._connector.node))
            self._retire(connection)
            return True
        if code == "TRYAGAIN":  # the keys of the command are on two nodes
            await asyncio.sleep(RETRY_PAUSE_S)
            return attempt + 1 < MAX_ATTEMPTS
        if code == "READONLY":  # after a failover the name may lead to the new primary
            self._retire(connection)
            return attempt == 0
        return False

    def _retire(self, connection: PipelinedConnection) -> None:
        """Use another connection from now on; this one still gets the answers that are due."""
        if connection is self._connection:
            self._connection = None
            closing = asyncio.get_running_loop().create_task(connection.close())
            self._retired.add(closing)
            closing.add_done_callback(self._retired.discard)

    async def _send_to(self, node: Node, command: Command, second: Command | None) -> Any:
        """As `_submit`, on the node to which a slot is moving."""
        opened = await self._connector.open(node)
        connection = PipelinedConnection(opened, self._command_timeout_s)
        try:
            connection.submit(("ASKING",)).add_done_callback(retrieve_exception)
            return await _submit(connection, command, second)
        finally:
            await finish_before_cancel(connection.close())

    async def _connected(self, was_sent: bool = False) -> PipelinedConnection:
        """The working connection. Concurrent callers wait for one attempt to open it.

        ``was_sent`` is whether the outcome of the call is unknown if that fails.
        """
        if self._connection is not None and not self._connection.lost_reason:
            return self._connection
        connecting = self._connecting
        if connecting is None:
            connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting = connecting
            connecting.add_done_callback(self._forget_attempt)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if connecting.cancelled() and caller is not None and not caller.cancelling():
                self._check()  # it was closed
            raise
        except BackendUnavailable as exc:
            if was_sent:
                raise unavailable(self.name, str(exc), sent=True, cause=exc) from exc
            raise

    def _forget_attempt(self, connecting: asyncio.Task[PipelinedConnection]) -> None:
        if self._connecting is connecting:
            self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # mark it as retrieved: its callers may have been cancelled

    async def _connect(self) -> PipelinedConnection:
        opened = await self._connector.connect()
        connection = PipelinedConnection(opened, self._command_timeout_s)
        try:
            await self._send_greeting(connection)
        except BaseException:
            connection.fail("it could not be used")
            raise
        self._connection = connection
        return connection

    async def _send_greeting(self, connection: PipelinedConnection) -> None:
        greeting = self._greeting
        assert greeting is not None
        text = (self._compiled.get(greeting.script) or self._compile(greeting.script)).text
        keys = greeting.keys
        command = ("EVAL", text, len(keys), *keys, *greeting.arguments())
        try:
            greeting.answered(await connection.submit(command))
            # A user who may not do this has no name.
            naming = connection.submit(("CLIENT", "SETNAME", greeting.name()))
            naming.add_done_callback(retrieve_exception)
        except ConnectionLost as exc:
            raise unavailable(self.name, exc.reason, sent=False, cause=exc) from exc
        except RedisError as exc:
            raise translate(exc, self.name) from exc


async def _submit(connection: PipelinedConnection, command: Command, second: Command | None) -> Any:
    """The answer to the command, or those to both."""
    first_answer = connection.submit(command)
    if second is None:
        return await first_answer
    second_answer = connection.submit(second)
    second_answer.add_done_callback(retrieve_exception)
    return await first_answer, await second_answer
