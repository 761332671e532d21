"""The database behind the ledger: short transactions, some connections for what writes and some for what reads."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rotoscope.errors import StorageFailed
from rotoscope.store.backend import Backend, LedgerBinding, LockTimeout, TransactionTerms
from rotoscope.store.listening import ChangeAudience, listen_for_changes
from rotoscope.store.sqlite import SqliteBackend
from rotoscope.store.write_locks import WHOLE_LEDGER, WriteLock

__all__ = ["BUSY_SECONDS", "QUICK_SECONDS", "Database"]

BUSY_SECONDS = 30.0
"""How long a transaction waits for another process's to end."""

QUICK_SECONDS = 2.5
"""How long one waits that a client waits for: the least patient give up after 5 s, and are answered before that."""

_MIN_SECONDS = 0.05

Answer = TypeVar("Answer")


class Database:
    """The ledger's database, whichever it is. Every transaction is short and runs in a thread that may block.

    What writes has connections of its own: a write that waits for another program holds up no read.

    Args:
        place: a file, or a URL as SQLAlchemy writes it.
        busy_seconds: how long a transaction waits for another process's to end.
        binding: what must hold between the ledger and the place that it is used from; checked when it is opened.

    Raises:
        StorageFailed: no such database can keep a ledger.
    """

    def __init__(
        self, place: Path | str, busy_seconds: float = BUSY_SECONDS, binding: LedgerBinding | None = None
    ) -> None:
        self._backend = _make_backend(place)
        self._busy_seconds = busy_seconds
        self._binding = binding
        errors = self._backend.error_types
        self._failures: tuple[type[Exception], ...] = (*errors, OSError, LockTimeout)
        self._opening = threading.Lock()  # the connections that come second find the tables made
        self._writer = _Lane(errors, self._backend.max_writers)
        shared = self._backend.shares_connection
        self._reader = self._writer if shared else _Lane(errors, self._backend.max_readers)

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
        lock: WriteLock = WHOLE_LEDGER,
        is_one_look: bool = False,
    ) -> Answer:
        """Do some work in one transaction.

        Args:
            work: gets the connection; it runs in a thread, and is not repeated.
            writes: whether it may write. Such transactions follow one another, over all processes, unless they lock
                different things; what only reads waits for no write, and sees one moment of the ledger.
            durable: whether it is on the disk before this returns. A power cut may take back other transactions.
            max_wait_seconds: for how many seconds other programs' locks are waited for, also by what comes first in
                this process; None: a write waits for the whole of `busy_seconds` once its turn has come, a read for
                `QUICK_SECONDS`.
            require_same_file: whether to refuse when this is no longer the ledger that was opened first.
            lock: what nobody else may decide about meanwhile, see `write_locks`.
            is_one_look: whether `work` reads by one statement: where each message to the database counts, it is sent
                without a transaction around it.

        Returns:
            What `work` returned.

        Raises:
            StorageFailed: it could not be read or written; nothing of it was. Only where the database is gone in the
                moment of the commit, nobody can know: all of it may stand, or nothing.
        """
        lane = self._writer if writes else self._reader
        most = self._busy_seconds if writes else QUICK_SECONDS
        seconds = min(self._busy_seconds, most if max_wait_seconds is None else max_wait_seconds)

        def run(left: float) -> Answer:
            engine = self._ensure_open(lane, left)
            with self._backend.begin(engine, TransactionTerms(left, writes, durable, lock, is_one_look)) as connection:
                if require_same_file:
                    self._backend.check_identity()
                return work(connection)

        return await self._translate_errors(lane, run, seconds, patient=writes and max_wait_seconds is None)

    async def change_counter(self) -> int:
        """A number that differs from the last one once any process, also this one, has committed a write.

        Raises:
            StorageFailed: the database could not be asked.
        """

        def run(left: float) -> int:
            return self._backend.change_counter(self._ensure_open(self._reader, left))

        return await self._translate_errors(self._reader, run, min(self._busy_seconds, QUICK_SECONDS), patient=False)

    @property
    def announces_changes(self) -> bool:
        """Whether `listen` hears of changes; else `change_counter` must be asked."""
        return self._backend.announces_changes

    @property
    def numbers_in_order(self) -> bool:
        """Whether no event becomes visible after one with a higher number."""
        return self._backend.numbers_in_order

    async def listen(self, audience: ChangeAudience) -> None:
        """Pass on what the database announces, until cancelled; only where `announces_changes`."""
        await listen_for_changes(self._backend.open_listener, self._failures, audience)

    async def _translate_errors(
        self, lane: "_Lane", run: Callable[[float], Answer], seconds: float, *, patient: bool
    ) -> Answer:
        try:
            return await lane.run(run, seconds, patient=patient)
        except self._failures as error:
            raise self._backend.storage_error(error) from error

    def _ensure_open(self, lane: "_Lane", seconds: float) -> Engine:
        if lane.engine is not None:
            return lane.engine
        with lane.hold(self._opening, seconds):
            if lane.engine is None:
                read_only = lane is not self._writer
                lane.engine = self._backend.open_engine(
                    seconds, self._binding, read_only=read_only, note_progress=self._note_opening_progress
                )
            return lane.engine

    def _note_opening_progress(self) -> None:
        self._writer.note_progress()
        self._reader.note_progress()


def _make_backend(place: Path | str) -> Backend:
    try:
        backend = "sqlite" if isinstance(place, Path) else make_url(place).get_backend_name()
    except (ArgumentError, ValueError):  # a port that is no number
        backend = ""
    if backend == "sqlite":
        return SqliteBackend(place)
    if backend == "postgresql":
        return _make_postgresql_backend(str(place))
    raise StorageFailed(
        "The ledger can only be kept in SQLite or PostgreSQL.",
        hint="Set ROTOSCOPE_DATABASE_URL to sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME, "
        "or leave it.",
    )


def _make_postgresql_backend(url: str) -> Backend:
    try:
        # Only who asks for it has its driver, and pays for the import.
        from rotoscope.store.postgresql import PostgresqlBackend
    except ImportError as error:
        raise StorageFailed(
            "The ledger is in PostgreSQL, and the driver for that is not installed.",
            hint="pip install 'rotoscope[server]'",
        ) from error
    return PostgresqlBackend(url)


class _Lane:
    """Some connections, each used by one thread at a time, in the order in which they are asked for.

    What has to wait gives up when nothing has come through for its time. Only another program's lock may be a reason
    for that, so a machine that is slow must not look like one: the end of a transaction counts in its thread, where the
    event loop may notice late; nobody gives up while no thread works at all; and an opening is under way as long
    as its statements come through.
    """

    def __init__(self, error_types: tuple[type[Exception], ...], width: int) -> None:
        self.engine: Engine | None = None
        self.thread_limiter = anyio.CapacityLimiter(width)
        self._failures: tuple[type[Exception], ...] = (*error_types, LockTimeout)
        self._lock = anyio.Semaphore(width, fast_acquire=True)
        self._last_progress_at = -math.inf  # when something last came through here, on the monotonic clock
        self._working_threads = 0
        self._counting = threading.Lock()

    def note_progress(self) -> None:
        """Something has come through here; any thread may say so."""
        self._last_progress_at = monotonic()

    async def run(self, work: Callable[[float], Answer], seconds: float, *, patient: bool) -> Answer:
        """Do something when its turn has come.

        Args:
            work: gets how many seconds are left for it.
            seconds: for how long nothing need come through here before it is given up.
            patient: whether its own waiting begins only with its turn.

        Raises:
            LockTimeout: its turn did not come in time.
        """
        begun = monotonic()
        if patient:
            await self._lock.acquire()
        while not patient and not await self._acquire_in_time(begun, seconds):
            if self._working_threads == 0:
                begun = monotonic()  # who was before has ended, and the event loop has not noticed yet
            elif self._seconds_left(begun, seconds) <= 0:
                raise LockTimeout
        try:
            left = seconds if patient else max(self._seconds_left(begun, seconds), _MIN_SECONDS)
            return await anyio.to_thread.run_sync(self._run_in_thread, work, left, limiter=self.thread_limiter)
        finally:
            self._lock.release()

    @contextmanager
    def hold(self, lock: threading.Lock, seconds: float) -> Iterator[None]:
        """Hold a lock of this process, in a thread of this lane.

        Args:
            lock: which one.
            seconds: for how long nothing need come through here before it is given up.

        Raises:
            LockTimeout: it was not free in time.
        """
        begun = monotonic()
        while not lock.acquire(timeout=max(self._seconds_left(begun, seconds), 0)):
            if self._seconds_left(begun, seconds) <= 0:
                raise LockTimeout
        try:
            yield
        finally:
            lock.release()

    def _run_in_thread(self, work: Callable[[float], Answer], seconds: float) -> Answer:
        self._count(1)
        came_through = True
        try:
            return work(seconds)
        except self._failures:
            came_through = False
            raise
        finally:
            self._count(-1)
            if came_through:
                self.note_progress()

    def _count(self, more: int) -> None:
        with self._counting:
            self._working_threads += more

    def _seconds_left(self, begun: float, seconds: float) -> float:
        return max(begun, self._last_progress_at) + seconds - monotonic()

    async def _acquire_in_time(self, begun: float, seconds: float) -> bool:
        """Many that are before it are no reason to give up, as long as they come through."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._seconds_left(begun, seconds)) as waiting:
            await self._lock.acquire()
        return not waiting.cancelled_caught
