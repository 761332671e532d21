"""The database behind the ledger: short transactions, one connection for what writes and one for what reads."""

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from rotoscope.errors import StorageFailed
from rotoscope.store.sqlite import FileIdentity, LedgerBinding, database_file, file_identity, open_engine

__all__ = ["BUSY_SECONDS", "QUICK_SECONDS", "Database"]

BUSY_SECONDS = 30.0
"""How long a transaction waits for another process's to end."""

QUICK_SECONDS = 2.5
"""How long one waits that a client waits for: the least patient give up after 5 s, and are answered before that."""

_MIN_SECONDS = 0.05
_CORRUPT_ERRORS = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})

Answer = TypeVar("Answer")


class Database:
    """Every transaction is short and runs in a thread of its own, in which its connection may be used.

    What writes has one connection and what reads another: a write that waits for another program holds up no read.

    Args:
        place: a file, or a URL as SQLAlchemy writes it; SQLite in WAL mode.
        busy_seconds: how long a transaction waits for another process's to end.
        binding: what must hold between the ledger and the place that it is used from; looked at when it is opened.
    """

    def __init__(
        self, place: Path | str, busy_seconds: float = BUSY_SECONDS, binding: LedgerBinding | None = None
    ) -> None:
        self._place = place
        self._busy_seconds = busy_seconds
        self._binding = binding
        self._identity: FileIdentity | None = None
        self._writer = _SerialConnection()
        # What is in memory belongs to its connection: there is one for both.
        self._reader = self._writer if database_file(place) is None else _SerialConnection()

    async def aclose(self) -> None:
        """Close the database."""
        for lane in (self._reader, self._writer):
            if lane.engine is not None:
                await anyio.to_thread.run_sync(lane.engine.dispose, limiter=lane.thread_limiter)

    async def transact(
        self,
        work: Callable[[Connection], Answer],
        *,
        writes: bool = True,
        durable: bool = False,
        max_wait_seconds: float | None = None,
        require_same_file: bool = False,
    ) -> Answer:
        """Do some work in one transaction.

        Args:
            work: what to do.
            writes: whether it may write; what only reads waits for nobody's writes.
            durable: whether it is on the disk before this returns.
            max_wait_seconds: how many seconds may pass, as far as other programs and what waits for them are to blame.
            require_same_file: whether to refuse when the file is no longer the one under the ledger's name.

        Raises:
            StorageFailed: it could not be read or written; nothing of it was.
        """
        lane = self._writer if writes else self._reader
        most = self._busy_seconds if writes else QUICK_SECONDS
        seconds = min(self._busy_seconds, most if max_wait_seconds is None else max_wait_seconds)
        options = {"writes": writes, "durable": durable}

        def run(left: float) -> Answer:
            engine = self._ensure_open(lane, left)
            with engine.connect().execution_options(**options, wait=left) as connection, connection.begin():
                if require_same_file:
                    self._check_same_file()
                return work(connection)

        return await self._translate_errors(lane, run, seconds, patient=writes and max_wait_seconds is None)

    async def data_version(self) -> int:
        """A number that is another one once somebody has written, this process or another."""

        def run(left: float) -> int:
            with self._ensure_open(self._reader, left).connect() as connection:
                found = connection.connection.driver_connection
                assert isinstance(found, sqlite3.Connection)
                return int(found.execute("PRAGMA data_version").fetchone()[0])

        return await self._translate_errors(self._reader, run, min(self._busy_seconds, QUICK_SECONDS), patient=False)

    async def _translate_errors(
        self, lane: "_SerialConnection", run: Callable[[float], Answer], seconds: float, *, patient: bool
    ) -> Answer:
        try:
            return await lane.run(run, seconds, patient=patient)
        except (SQLAlchemyError, sqlite3.Error, OSError, _QueueTimeout) as error:
            raise _storage_error(error, str(database_file(self._place) or self._place)) from error

    def _ensure_open(self, lane: "_SerialConnection", seconds: float) -> Engine:
        if lane.engine is None:
            engine = open_engine(self._place, seconds, self._binding, read_only=lane is not self._writer)
            try:
                self._check_same_file()
            except StorageFailed:
                engine.dispose()
                raise
            lane.engine = engine
        return lane.engine

    def _check_same_file(self) -> None:
        """Nobody else sees what is written into a file that was removed or replaced: a second process would pay again.

        Raises:
            StorageFailed: the ledger's name no longer leads to the file that is open.
        """
        file = database_file(self._place)
        found = file_identity(file)
        if self._identity is None:
            self._identity = found
        if found != self._identity:
            raise StorageFailed(
                f"The ledger {file} was removed or replaced while this process had it open, so nothing is begun.",
                hint="Put it back, or end every rotoscope process and start again.",
            )


class _QueueTimeout(Exception):
    """What is before it waits for another program."""


class _SerialConnection:
    """One connection, used by one thread at a time, in the order in which it is asked for."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.thread_limiter = anyio.CapacityLimiter(1)
        self._lock = anyio.Lock(fast_acquire=True)
        self._last_progress_at = -math.inf  # when something last came through here, on the monotonic clock

    async def run(self, work: Callable[[float], Answer], seconds: float, *, patient: bool) -> Answer:
        """Do something when its turn has come.

        Args:
            work: gets how many seconds are left for it.
            seconds: for how long nothing need come through here before it is given up.
            patient: whether its own waiting begins only with its turn.

        Raises:
            _QueueTimeout: its turn did not come in time.
        """
        begun = anyio.current_time()
        if patient:
            await self._lock.acquire()
        while not patient and not await self._acquire_in_time(begun, seconds):
            if anyio.current_time() >= max(begun, self._last_progress_at) + seconds:
                raise _QueueTimeout
        came_through = True
        try:
            left = seconds if patient else max(begun, self._last_progress_at) + seconds - anyio.current_time()
            return await anyio.to_thread.run_sync(work, max(left, _MIN_SECONDS), limiter=self.thread_limiter)
        except (SQLAlchemyError, sqlite3.Error):
            came_through = False
            raise
        finally:
            self._lock.release()
            if came_through:
                self._last_progress_at = anyio.current_time()

    async def _acquire_in_time(self, started_at: float, seconds: float) -> bool:
        """Many that are before it are no reason to give up, as long as they come through."""
        with anyio.CancelScope(deadline=max(started_at, self._last_progress_at) + seconds) as waiting:
            await self._lock.acquire()
        return not waiting.cancelled_caught


def _storage_error(error: Exception, file: str) -> StorageFailed:
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", "")
    if name in _CORRUPT_ERRORS:
        return StorageFailed(
            f"The ledger {file} is damaged, so nothing is begun.",
            hint="Restore it from a copy, or move it away to begin a new one; results in the vault stay.",
        )
    if name.startswith("SQLITE_BUSY") or isinstance(error, _QueueTimeout):
        return StorageFailed(
            "The ledger is locked by another program; nothing was begun.",
            hint=f"See which one has {file} open, then try again.",
        )
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return StorageFailed("The ledger cannot be written: the disk is full or broken.", hint=f"Make room for {file}.")
    return StorageFailed(
        "The ledger could not be read or written.",
        hint=f"Check that {file} and its folder are writable and have space.",
    )
