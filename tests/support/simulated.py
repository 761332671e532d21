"""Simulated processes: the real engine on event loops whose time only passes when a test lets it.

Every process has an event loop of its own, so that one can be stopped (SIGSTOP) while the others go on, and can be
killed at any await: from then on nothing that it does reaches the ledger, the provider or the vault. All processes
share one clock, and threads are gone: what the engine hands to a thread runs in place. So a run is the same each
time, and a simulated hour costs what its transactions cost.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from decoding import InThread

from rotoscope.jobs.concurrency import JobNotifier
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.lifecycle import run_job
from rotoscope.jobs.review import Review
from rotoscope.media.vault import FolderVault
from rotoscope.models.catalog import Catalog
from rotoscope.providers.dialects import Dialect
from rotoscope.store.database import Database
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job, Patch
from rotoscope.store.rows import read_job
from rotoscope.store.timing import Intervals

__all__ = ["EPOCH", "Killed", "Process", "Seams", "Time", "no_threads"]

EPOCH = 1_800_000_000.0
"""The wall clock, in Unix seconds, when the simulated time begins."""

_TURNS = 500  # of one loop at one moment; an anyio scope that waits for something shielded turns idly
_CLOSING_TURNS = 2000
Answer = TypeVar("Answer")
Given = TypeVarTuple("Given")


class Killed(BaseException):
    """The process is gone: whatever it still tries has no effect."""


class _Blind(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class _Loop(asyncio.SelectorEventLoop):
    """Turns once on demand; its time is somebody else's."""

    def __init__(self, time: "Time") -> None:
        super().__init__(_Blind())
        self._clock = time
        self._timers: list[asyncio.TimerHandle] = []
        self.busy = False
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._clock.now

    def call_soon(
        self, callback: Callable[[*Given], object], *given: *Given, context: Context | None = None
    ) -> asyncio.Handle:
        self.busy = True
        return super().call_soon(callback, *given, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Given], object], *given: *Given, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *given, context=context)
        self._timers.append(handle)
        return handle

    def wakes_at(self) -> float | None:
        """When it next has something to do by itself."""
        self._timers = [one for one in self._timers if not one.cancelled() and one.when() > self._clock.now]
        return min((one.when() for one in self._timers), default=None)

    def turn(self) -> None:
        super().call_soon(self.stop)
        self.busy = False
        self.run_forever()


class Time:
    """The clock that all processes share, in seconds since the simulation began, and what lets it go on.

    Attributes:
        wrong: how far the machine's wall clock is from the truth, in seconds; somebody may set it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.wrong = 0.0
        self.processes: list[Process] = []

    def wall(self) -> float:
        """Unix seconds, as the machine has them."""
        return EPOCH + self.now + self.wrong

    def settle(self) -> None:
        """Let everybody do what can be done at this moment."""
        going = [one for one in self.processes if one.goes]
        for process in going:
            process.turn(_TURNS)
        if any(one.goes and one.loop.busy for one in going) and len(going) > 1:
            for process in going:
                process.turn(_TURNS)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass; every sleeper that goes wakes at its very moment."""
        end = self.now + seconds
        while True:
            self.settle()
            if self.now >= end or until():
                return
            wakes = [at for one in self.processes if one.goes and (at := one.loop.wakes_at()) is not None]
            self.now = min([end, *wakes])

    def close(self) -> None:
        """Kill whoever is left."""
        for process in self.processes:
            process.kill()


class Seams:
    """Where a process touches the world. Each crossing is a place where it may be killed."""

    def __init__(self) -> None:
        self.dead = False
        self.crossed: list[str] = []
        self.kill_at: int | None = None
        self.stop_at: int | None = None
        self.stopped = False
        self.end_at: int | None = None
        self.on_end: Callable[[], None] = lambda: None

    def cross(self, name: str) -> None:
        """Go on, unless the process is dead, or dies here."""
        if self.dead:
            raise Killed
        self.crossed.append(name)
        if self.end_at is not None and len(self.crossed) >= self.end_at:
            self.end_at = None
            self.on_end()  # a signal that asks it to end in order
        if self.stop_at is not None and len(self.crossed) >= self.stop_at:
            self.stopped, self.stop_at = True, None
        if self.kill_at is not None and len(self.crossed) >= self.kill_at:
            self.dead = True
            raise Killed


_spare: dict[str, list[Any]] = {}


def drop_spare_engines() -> None:
    """Close the connections that no process has taken."""
    for kept in _spare.values():
        for _, writing, reading in kept:
            writing.dispose()
            reading.dispose()
    _spare.clear()


class _SeamedDatabase(Database):
    def __init__(self, url: str, seams: Seams, trouble: Callable[[], None]) -> None:
        super().__init__(url)
        self._url = url
        self._seams = seams
        self._trouble = trouble
        if _spare.get(url):
            self._backend, self._writer.engine, self._reader.engine = _spare[url].pop()

    def give_back(self) -> None:
        """The next process takes the connections: to compile every statement again would cost most of the time."""
        if self._writer.engine is not None and self._reader.engine is not None:
            _spare.setdefault(self._url, []).append((self._backend, self._writer.engine, self._reader.engine))

    async def transact(self, work: Callable[[Any], Answer], *, writes: bool = True, **more: Any) -> Answer:
        if self._seams.dead:
            raise Killed
        self._trouble()
        if not writes:
            return await super().transact(work, writes=writes, **more)
        self._seams.cross("before commit")
        answer = await super().transact(work, writes=writes, **more)
        self._seams.cross("after commit")
        return answer

    @property
    def announces_changes(self) -> bool:
        """What arrives on a socket, arrives in no simulated time."""
        return False

    async def change_counter(self) -> int:
        if self._seams.dead:
            raise Killed
        return await super().change_counter()


class _SeamedVault(FolderVault):
    """Dies before and after each change of the disk."""

    __slots__ = ("seams",)
    seams: Seams

    def put_bytes(self, *given: Any) -> Any:
        return self._seamed(super().put_bytes, *given)

    def put(self, *given: Any) -> Any:
        return self._seamed(super().put, *given)

    def _seamed(self, work: Callable[..., Answer], *given: Any) -> Answer:
        self.seams.cross(f"before vault.{work.__name__}")
        answer = work(*given)
        self.seams.cross(f"after vault.{work.__name__}")
        return answer


class _JudgedLedger(Ledger):
    """Holds every fenced write against the row as it stood in the same transaction."""

    def __init__(self, database: Database, clock: Callable[[], float], broken: list[str]) -> None:
        super().__init__(database, clock)
        self._broken = broken

    def _write_fenced(self, connection: Any, job: Job, patch: Patch) -> Job:
        before = read_job(connection, job.id, job.principal)
        written = super()._write_fenced(connection, job, patch)
        if (before.owner, before.fence, before.state) != (job.owner, job.fence, "running"):
            self._broken.append(f"{job.owner}/{job.fence} wrote over {before.owner}/{before.fence} ({before.state})")
        return written


class Process:
    """One process that drives jobs.

    Args:
        time: the shared clock.
        name: its owner's name.
        folder: where the ledger and the vault are, shared by all.
        catalog: the models.
        dialects: how each provider is spoken to.
        wire: makes its wire from its seams.
        keys: what it can drive.
        trouble: called before each transaction; raises what is wrong with the disk.
        url: of the ledger; None: a file in the folder.
    """

    def __init__(
        self,
        time: Time,
        name: str,
        folder: Path,
        catalog: Catalog,
        dialects: Mapping[str, Dialect],
        wire: Callable[[Seams], Any],
        keys: frozenset[str],
        tempo: Intervals,
        trouble: Callable[[], None] = lambda: None,
        *,
        url: str | None = None,
    ) -> None:
        self.name, self.seams, self.ended = name, Seams(), False
        self.errors: list[BaseException] = []
        self.loop = _Loop(time)
        database = _SeamedDatabase(url or f"sqlite:///{folder}/ledger.sqlite3", self.seams, trouble)
        vault = _SeamedVault(folder / "vault")
        object.__setattr__(vault, "seams", self.seams)
        self.broken: list[str] = []
        ledger = _JudgedLedger(database, time.wall, self.broken)
        self.context = JobContext(
            ledger, vault, wire(self.seams), catalog, dialects, JobNotifier(), time.wall, anyio.sleep, InThread(), tempo
        )
        holder = JobDriver(name, keys, frozenset(catalog.models))
        self._leases = Leases(database, time.wall, holder, tempo)
        self._review = Review(self.context, database, holder)
        self._ending = asyncio.Event()
        self.seams.on_end = self.end
        self._database = database
        self.dispatcher: Dispatcher
        self._started(self._live(tempo))
        time.processes.append(self)

    @property
    def goes(self) -> bool:
        """Whether it does anything when time passes."""
        return not (self.seams.dead or self.seams.stopped or self.ended)

    @property
    def goes_on(self) -> bool:
        """Whether nobody has asked it to end."""
        return not self._ending.is_set()

    async def _live(self, tempo: Intervals) -> None:
        async with anyio.create_task_group() as tasks:
            driving, review = partial(run_job, self.context), self._review.look_at_due
            self.dispatcher = Dispatcher(tasks, driving, self._leases, self.context.notifier, tempo, review)
            tasks.start_soon(self.dispatcher.run)
            await self._ending.wait()
            tasks.cancel_scope.cancel()
        await self.dispatcher.release_leases()
        await self.context.wire.aclose()
        self.ended = True

    def _started(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        async def kept() -> Any:
            try:
                return await work
            except Exception as error:
                self.errors.append(error)
                raise

        return self.loop.create_task(kept())

    def turn(self, most: int) -> None:
        """Let it go on for some turns of its loop, at this moment."""
        for _ in range(most):
            self.loop.turn()
            if not self.loop.busy or not self.goes:
                break
        if self.seams.dead:
            self.kill()
        if self.ended and not self.loop.is_closed():
            self._close()
        if self.errors:
            raise self.errors[0]

    def begin(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> "asyncio.Task[Answer]":
        """Have it do something; it is done as its turns come."""
        return self._started(work())

    def call(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer | None:
        """Have it do something that takes no time; None when it dies of it."""
        task = self.begin(work)
        for _ in range(_TURNS):
            if task.done() or not self.goes:
                break
            self.turn(1)
        return task.result() if task.done() and not task.cancelled() and task.exception() is None else None

    def end(self) -> None:
        """Ask it to end cleanly."""
        self._ending.set()

    def kill(self) -> None:
        """Kill -9: nothing that its tasks still do while they are taken down has any effect."""
        if self.loop.is_closed():
            return
        self.seams.dead = True
        self._close()

    def _close(self) -> None:
        for _ in range(_CLOSING_TURNS):
            begun = asyncio.all_tasks(self.loop)
            if not begun:
                break
            self.loop.turn()  # a coroutine that never began would be complained of
            for task in begun:
                task.cancel()
        assert not asyncio.all_tasks(self.loop), "a task outlives its process"
        self._database.give_back()
        self.loop.close()


@contextmanager
def no_threads() -> Iterator[None]:
    """What is handed to a thread runs in place, so that a run is the same each time."""

    async def in_place(work: Callable[..., Answer], *given: Any, **_: Any) -> Answer:
        await anyio.lowlevel.checkpoint()
        return work(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio.to_thread, "run_sync", in_place)
        yield
