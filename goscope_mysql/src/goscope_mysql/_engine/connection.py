"""One session of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import asyncmy
from asyncmy.constants import CLIENT

from goscope.backend import SystemClock
from goscope.errors import BackendUnavailable, ConfigurationError

from .errors import TOO_MANY_STATEMENTS, code_of, is_lost, too_large, translate
from .settings import Settings

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
Statement: TypeAlias = tuple[str, Sequence[Any]]
"""A template of SQL, see `Session.fill`, and the parameters of its ``?``."""

# The driver's annotations are partial.
_driver: Any = asyncmy

NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""The server's time in epoch microseconds, in UTC whatever the time zone of the session."""

_SQL_MODE: Final = ",".join(
    [
        "STRICT_ALL_TABLES",
        "NO_ENGINE_SUBSTITUTION",
        # MySQL wants these beside strict mode.
        "NO_ZERO_DATE",
        "NO_ZERO_IN_DATE",
        "ERROR_FOR_DIVISION_BY_ZERO",
    ]
)
_SESSION: Final = f"""
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION time_zone = '+00:00', SESSION innodb_lock_wait_timeout = %d,
        SESSION sql_mode = '{_SQL_MODE}';
    SELECT VERSION(), CONNECTION_ID(), @@max_allowed_packet, {NOW}
"""
"""READ COMMITTED takes no gap locks: under REPEATABLE READ a sweeper deadlocks with writers."""

MAX_SCRIPT_LENGTH: Final = 250_000
"""Characters of statements that are sent at once: no server accepts less than four times as many
bytes."""

PACKET_OVERHEAD: Final = 20_000
"""Bytes that a statement may take beside its longest parameter: its keys and its SQL."""

OLDEST_MYSQL: Final = (8, 0)
OLDEST_MARIADB: Final = (10, 11)


class Result(NamedTuple):
    """What a statement gave. ``affected`` also counts rows that an update left as they were.

    ``insert_id`` is what ``LAST_INSERT_ID(expression)`` was last evaluated to, else 0.
    """

    affected: int
    insert_id: int
    rows: Sequence[Row]


class Connection:
    """A session in UTC, READ COMMITTED and autocommit mode, used by one task at a time."""

    def __init__(self, raw: Any, fill: Callable[[str], str]) -> None:
        self._raw = raw
        self._fill = fill
        self._prepared: dict[str, Any] = {}
        # The driver has no public way to drop a connection without waiting for its write buffer.
        self._transport: asyncio.WriteTransport | None = getattr(raw, "_transport", None)
        self._followed_ms: int | None = None
        self._aborted = False
        self.timed_out = False
        self.id = 0
        self.is_mariadb = False
        self._max_packet = MAX_SCRIPT_LENGTH
        self.server_ms = 0
        """The server's time, in epoch milliseconds, at ``read_at_ms`` of the steady clock."""
        self.read_at_ms = 0

    @classmethod
    async def open(cls, settings: Settings, fill: Callable[[str], str]) -> Connection:
        """Connect and set the session up. Raises goscope's errors."""
        timeout_s = min(settings.connect_timeout_ms, settings.timeout_ms) / 1000
        try:
            async with asyncio.timeout(timeout_s):
                raw = await _driver.connect(**_arguments(settings))
                connection = cls(raw, fill)
                try:
                    await connection._set_up(settings)
                except BaseException:
                    connection.abort()
                    raise
        except TimeoutError as exc:
            raise BackendUnavailable(
                f"{settings.address}: no server answered within {timeout_s:g} s. Check host, port "
                f"and network"
            ) from exc
        except Exception as exc:
            error = _connect_error(exc, settings)
            raise error from error.__cause__
        return connection

    async def _set_up(self, settings: Settings) -> None:
        clock = SystemClock()
        asked_ms = clock.steady_ms()
        ((version, self.id, self._max_packet, now_us),) = (
            await self._results(_SESSION % settings.lock_wait_s)
        )[-1].rows
        self.read_at_ms = (asked_ms + clock.steady_ms()) // 2
        self.server_ms = now_us // 1000
        self.is_mariadb = "mariadb" in version.lower()
        check_version(version, self.is_mariadb, settings.address)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be sent any more; known without sending anything."""
        return self._aborted or self._transport is None or self._transport.is_closing()

    async def run(self, sql: str, parameters: Sequence[Any] = ()) -> Result:
        """Run one statement, prepared once a session unless the server has too many already."""
        self._check_sizes(parameters)
        try:
            statement = self._prepared.get(sql)
            if statement is None:
                statement = self._prepared[sql] = await self._raw.prepare(self._fill(sql))
            found = await statement.execute(parameters)
        except BaseException as exc:
            if code_of(exc) == TOO_MANY_STATEMENTS:
                return (await self.script([(sql, parameters)]))[0]
            self._check(exc)
            raise
        return Result(found.affected_rows, found.insert_id, found.rows or ())

    def lend(self, work: Callable[[Any], T]) -> T:
        """Call a function with the driver's connection, whose session it leaves as it is."""
        return work(self._raw)

    async def script(self, statements: Sequence[Statement]) -> list[Result]:
        """Run statements in one round trip, or in several if they are large.

        An error skips those after it.
        """
        for _, parameters in statements:
            self._check_sizes(parameters)  # before they are escaped, which takes seconds
        results = list[Result]()
        packet, size = list[str](), 0
        for sql in (self._bound(*it) for it in statements):
            if size + len(sql) > MAX_SCRIPT_LENGTH and packet:
                results += await self._results("; ".join(packet))
                packet, size = [], 0
            packet.append(sql)
            size += len(sql)
        return results + await self._results("; ".join(packet))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """Roll back what the block has begun if it raises, also after a statement's error."""
        try:
            yield
        except BaseException:
            if not self.is_lost:
                await self._results("ROLLBACK")
            raise

    async def _results(self, sql: str) -> list[Result]:
        raw, results = self._raw, list[Result]()
        if len(sql) > MAX_SCRIPT_LENGTH:
            self._check_size(sql)
        try:
            await raw.query(sql)
            while True:
                found = raw._result  # what a cursor reads, too
                results.append(Result(found.affected_rows, found.insert_id, found.rows or ()))
                if not found.has_next:
                    return results
                await raw.next_result()
        except BaseException as exc:
            self._check(exc)
            raise

    async def follow(self, wall_ms: int) -> None:
        """Make this the time of the session from now on: tests move it."""
        if wall_ms != self._followed_ms:
            await self._results(f"SET SESSION timestamp = {wall_ms / 1000:.3f}")
            self._followed_ms = wall_ms

    def abort(self) -> None:
        """Drop the connection at once, whatever it is doing."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def time_out(self) -> None:
        """Drop the connection since it did not answer in time."""
        self.timed_out = True
        self.abort()

    async def close(self) -> None:
        """Say goodbye to the server. Never raises, and waits a second at most."""
        try:
            async with asyncio.timeout(1):
                await self._raw.ensure_closed()
        except Exception:  # a lost connection needs no goodbye
            self.abort()

    def _check(self, exc: BaseException) -> None:
        """Give the connection up unless the error is an answer of the server."""
        if is_lost(exc) or not isinstance(exc, _driver.errors.Error):
            self.abort()

    def _check_sizes(self, parameters: Sequence[Any]) -> None:
        for value in parameters:
            if type(value) is str and len(value) > MAX_SCRIPT_LENGTH:
                self._check_size(value)

    def _check_size(self, text: str) -> None:
        size = len(text.encode()) + PACKET_OVERHEAD
        if size > self._max_packet:
            raise too_large(size, self._max_packet)

    def _bound(self, sql: str, parameters: Sequence[Any]) -> str:
        first, *others = self._fill(sql).split("?")
        literals = map(self._raw.escape, parameters)
        return first + "".join(
            f"{literal}{part}" for literal, part in zip(literals, others, strict=True)
        )


def _arguments(settings: Settings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "user": settings.user,
        "password": settings.password,
        "database": settings.database,
        "connect_timeout": settings.connect_timeout_ms / 1000,
        "autocommit": True,
        # Counts matched rows, not changed ones: an update is refused if and only if it is 0.
        "client_flag": CLIENT.FOUND_ROWS,
        "program_name": "goscope",
    }
    if settings.unix_socket is not None:
        return arguments | {"unix_socket": settings.unix_socket}
    if settings.tls == "required":
        arguments["ssl"] = {"check_hostname": False, "verify_mode": "none"}
    elif settings.tls == "verify":
        import ssl

        arguments["ssl"] = ssl.create_default_context(cafile=settings.tls_ca)
    return arguments | {"host": settings.host, "port": settings.port}


def _connect_error(exc: Exception, settings: Settings) -> BaseException:
    if is_lost(exc) or getattr(exc, "args", (0,))[0] == 2003:
        error = BackendUnavailable(
            f"{settings.address}: the server cannot be reached. Check host, port, TLS and that it "
            f"runs ({exc})"
        )
        error.__cause__ = exc
        return error
    if isinstance(exc, RuntimeError | ValueError):  # a login that the driver cannot do
        refused = ConfigurationError(f"{settings.address}: the driver cannot log in ({exc})")
        refused.__cause__ = exc
        return refused
    return translate(exc, settings.address)


def check_version(version: str, is_mariadb: bool, address: str) -> None:
    """Raise `ConfigurationError` for a server that goscope does not support."""
    # MariaDB may put a compatibility version in front: 5.5.5-10.11.6-MariaDB.
    numbers = version.removeprefix("5.5.5-").split("-")[0].split(".")
    oldest = OLDEST_MARIADB if is_mariadb else OLDEST_MYSQL
    if tuple(map(int, numbers[:2])) < oldest:
        name = "MariaDB" if is_mariadb else "MySQL"
        raise ConfigurationError(
            f"{address}: {name} {version} is too old: goscope needs {name} "
            f"{'.'.join(map(str, oldest))} or newer"
        )
