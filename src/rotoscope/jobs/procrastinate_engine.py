"""Procrastinate as the engine: a worker in this process that takes entries from the queues of its keys.

The worker only waits: the driver of a job belongs to the dispatcher. So the worker may fail, and is started again,
while the jobs that this process drives go on under their leases.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueueEntry
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url

from rotoscope.errors import StorageFailed
from rotoscope.jobs.engine import Drive, DriveJob
from rotoscope.store.job_queue import DRIVE_TASK, JobQueue

__all__ = ["ProcrastinateEngine"]

_MAX_CONNECTIONS = 4  # and one that listens
_POOL_SECONDS = 5.0  # for which a connection is waited for
_FETCH_SECONDS = 0.5  # between two looks into the queue where no notification has come
_REPEAT_SECONDS = 0.03
_ENDING_SECONDS = 0.2  # in which waiting tasks may end by themselves
_STOP_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two tries to start a worker
_HEALTHY_SECONDS = 10.0  # a worker that lived so long did not fail at its start
_LONGEST_RETRY = 30  # seconds until this process may take again what it could not drive; it begins with 1, and doubles
_NEVER = 86_400.0
_CONNECTION_ARGUMENTS = {
    "application_name": "rotoscope engine",
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcrastinateEngine:
    """Takes entries from the queue for this process, one for each job that it may drive beside the others.

    Attributes:
        url: the database's, as SQLAlchemy writes it.
        queue: finds the jobs that have no entry.
        queues: the names of the queues that are taken from.
        most_jobs: how many jobs are driven at once.
    """

    url: str
    queue: JobQueue
    queues: Sequence[str]
    most_jobs: int

    async def refill(self) -> int:
        """See `JobEngine`."""
        return await self.queue.refill()

    async def run(self, drive: DriveJob) -> None:
        """Run a worker until cancelled. One that fails, as when the database is started again, is replaced."""
        _silence_loggers()
        pause = _FIRST_PAUSE
        while True:
            begun = anyio.current_time()
            try:
                await self._run_worker(drive)
            except StorageFailed as error:
                _log.warning("%s %s", error.message, error.hint)
            except (ConnectorException, psycopg.Error, OSError) as error:
                _log.warning("the engine has lost the database and connects again: %s", type(error).__name__)
            except Exception:  # noqa: BLE001 - the edge of a background task: a fault of the engine must not end the server
                _log.exception("the engine has failed and is started again")
            pause = _FIRST_PAUSE if anyio.current_time() - begun > _HEALTHY_SECONDS else min(2 * pause, _LONGEST_PAUSE)
            await anyio.sleep(pause)

    async def _run_worker(self, drive: DriveJob) -> None:
        """Run one worker until it fails.

        Raises:
            ConnectorException, StorageFailed: the database cannot be used.
        """
        await self.queue.refill()  # the first use of the ledger makes the tables
        app, tempo = self._make_app(drive), self.queue.intervals
        async with _open_app(app):
            worker = Worker(
                app=app,
                queues=self.queues,
                concurrency=self.most_jobs,
                fetch_job_polling_interval=_FETCH_SECONDS,
                abort_job_polling_interval=_NEVER,
                shutdown_graceful_timeout=_ENDING_SECONDS,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=tempo.heartbeat,
                stalled_worker_timeout=2 * tempo.lease,
            )
            async with _running(worker) as running:
                while True:
                    done, _ = await asyncio.wait({running}, timeout=tempo.heartbeat)
                    if done:
                        return running.result()
                    await self._retry_stalled(app.job_manager, worker)

    async def _retry_stalled(self, manager: JobManager, worker: Worker) -> None:
        """Put back the entries of workers that say nothing any more.

        The worker's own watch over its heartbeat ends with the first of its side tasks, and one of them ends at once
        where nothing is periodic. So a heartbeat is sent here as well: where it fails, the worker is replaced.

        Raises:
            ConnectorException: the database cannot be used.
        """
        if worker.worker_id is not None:
            await manager.update_heartbeat(worker.worker_id)
        for entry in await manager.get_stalled_jobs(
            task_name=DRIVE_TASK, seconds_since_heartbeat=self.queue.intervals.lease
        ):
            # Another process may have put it back in this moment, or deleted it.
            with contextlib.suppress(ConnectorException):
                await manager.retry_job(entry)

    def _make_app(self, drive: DriveJob) -> App:
        arguments = {**_CONNECTION_ARGUMENTS, **_connection_arguments(self.url)}
        connector = _Connector(
            conninfo="", kwargs=arguments, configure=_use_autocommit, min_size=1, max_size=_MAX_CONNECTIONS,
            timeout=_POOL_SECONDS, pool_factory=_make_pool,
        )  # fmt: skip
        app = App(connector=connector)
        app.job_manager = _Manager(connector)

        async def run_task(context: JobContext, job_id: str) -> None:
            outcome = await drive(job_id)
            if outcome is Drive.LEFT_TO_OTHERS:
                raise _TryLater(await self.queue.find_other_queue(job_id, context.job.queue))
            if outcome is Drive.PUT_OFF:
                raise _TryLater(context.job.queue)

        app.task(name=DRIVE_TASK, pass_context=True, retry=_Retry())(run_task)
        return app


class _TryLater(Exception):
    """The job is for another process, or for another moment: its entry goes to a queue."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.queue = queue


class _Retry(BaseRetryStrategy):
    """Puts an entry back, later each time: in between another process takes it, if there is one that can."""

    def get_retry_decision(self, *, exception: BaseException, job: QueueEntry) -> RetryDecision | None:
        if not isinstance(exception, _TryLater):
            return None
        is_moved = job.attempts == 0 and exception.queue != job.queue
        seconds = 0 if is_moved else min(2**job.attempts, _LONGEST_RETRY)
        return RetryDecision(retry_in={"seconds": seconds}, queue=exception.queue)


class _Manager(JobManager):
    """Writes the end of an entry if it can. What it could not write is left behind, and `JobQueue` removes that."""

    async def finish_job(self, job: QueueEntry, status: Status, delete_job: bool) -> None:
        with contextlib.suppress(ConnectorException):
            await super().finish_job(job, status, delete_job)

    async def retry_job(self, job: QueueEntry, *given: Any, **more: Any) -> None:
        with contextlib.suppress(ConnectorException):
            await super().retry_job(job, *given, **more)


class _Connector(PsycopgConnector):
    """Listens until cancelled, whatever becomes of its connection.

    A notification that comes while the worker looks into the queue is lost by it, so each is repeated a moment later.
    """

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        names, arrived = list(channels), asyncio.Event()
        last = ("", "")

        async def notify(*, channel: str, payload: str) -> None:
            nonlocal last
            last = (channel, payload)
            arrived.set()
            await on_notification(channel=channel, payload=payload)

        async def repeat() -> None:
            while True:
                await arrived.wait()
                arrived.clear()
                await asyncio.sleep(_REPEAT_SECONDS)
                await on_notification(channel=last[0], payload=last[1])

        repeating = asyncio.create_task(repeat())
        try:
            while True:
                with contextlib.suppress(ConnectorException, psycopg.Error):
                    await super().listen_notify(notify, names)
                await asyncio.sleep(_FIRST_PAUSE)
        finally:
            repeating.cancel()


@contextlib.asynccontextmanager
async def _open_app(app: App) -> AsyncIterator[None]:
    """The app with its connections, which are closed at the end also where the block was cancelled."""
    try:
        await app.open_async()
        yield
    finally:
        with anyio.move_on_after(_STOP_SECONDS, shield=True), contextlib.suppress(ConnectorException):
            await app.close_async()


@contextlib.asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker that runs in a task of its own: a cancelled block asks it to stop, and waits for that."""
    running = asyncio.ensure_future(worker.run())  # type: ignore[no-untyped-call]  # it has no types
    try:
        yield running
    finally:
        worker.stop()  # type: ignore[no-untyped-call]  # it has no types
        with anyio.CancelScope(shield=True):
            await asyncio.wait({running}, timeout=_STOP_SECONDS)
            running.cancel()
            await asyncio.wait({running}, timeout=_STOP_SECONDS)
        if running.done() and not running.cancelled():
            running.exception()  # it was asked for, so nobody complains that it was not


def _connection_arguments(url: str) -> dict[str, Any]:
    """What the driver is given for a URL of SQLAlchemy."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    _, found = parsed.get_dialect()().create_connect_args(parsed)
    return dict(found)


def _make_pool(**arguments: Any) -> AsyncConnectionPool:
    """A pool that asks no connection before its use whether it lives: where one is dead, the worker is replaced."""
    return AsyncConnectionPool(**{**arguments, "check": None})


async def _use_autocommit(connection: "psycopg.AsyncConnection[Any]") -> None:
    """Every statement of the engine is a transaction of its own."""
    await connection.set_autocommit(True)


def _silence_loggers() -> None:
    """They report every entry, each try to connect and each query that an end cuts off; what matters is logged here."""
    for name in ("procrastinate", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
