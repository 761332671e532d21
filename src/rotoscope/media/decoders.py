"""Untrusted files are decoded in a few worker processes with limits, so that no file can block the server.

| limits for | memory | processor time | wall time | the work may ask for |
| --- | --- | --- | --- | --- |
| PICTURE: a picture is checked, cleaned or made small | 320 MB | 4 s | 20 s | no more |
| FILM: a video or a sound is measured, cleaned or shown | 256 MB | 4 s | 30 s | 120 s, by frames x pixels |
| MASKS: a mask picture from a user is read and fitted | 512 MB | 4 s | 20 s | no more |
| RESULT_MASKS: the masks of a result are measured and painted | 512 MB | 30 s | 300 s | no more |
| RESULT_FILM: the video of a result is measured and shown | 512 MB | 30 s | 300 s | 120 s |
| RESULT_TRACK: the masks of a clip become films | 768 MB | 60 s | 600 s | 900 s, by frames x pixels |
| EDIT_FILM: an edit is compared with its original, or laid into it | 768 MB | 120 s | 600 s | 300 s |
| EXPORT: the masks of a result are written for other programs | 512 MB | 240 s | 600 s | 480 s |

Memory is counted over the baseline of a worker whose libraries are loaded (see docs/architecture.md). The wall limit is
for work that waits without computing; it is longer than that of processor time because a machine may be busy. The wait
for a free worker does not count, and where the work was given more processor time the wall limit grows in proportion.
The limits for results are larger: what was paid for must not be lost because a machine is busy.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

import anyio
import anyio.from_thread
import anyio.to_thread

from rotoscope.errors import WorkerLost
from rotoscope.workers.limits import WorkLimits
from rotoscope.workers.messages import WorkerAnswer
from rotoscope.workers.process import WorkerEnded, WorkerProcess, too_costly_error, unwrap_answer, worker_environment

__all__ = [
    "EDIT_FILM",
    "EXPORT",
    "FILM",
    "MASKS",
    "PICTURE",
    "RESULT_FILM",
    "RESULT_MASKS",
    "RESULT_TRACK",
    "DecodeRunner",
    "DecoderPool",
]

_PIL = (
    "PIL.Image",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.WebPImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.ImageCms",
)

# `media.image.decoding.PictureLimits` refuses what would take more: 256 MB, and 312 for a WEBP of 24 megapixels.
PICTURE = WorkLimits(320_000_000, cpu_seconds=4, wall_seconds=20, max_cpu_seconds=4, modules=_PIL)
FILM = WorkLimits(256_000_000, 4, 30, max_cpu_seconds=120, modules=(*_PIL, "numpy", "av"))
MASKS = WorkLimits(512_000_000, 4, 20, max_cpu_seconds=4, modules=(*_PIL, "numpy", "cv2"))
RESULT_MASKS = replace(MASKS, cpu_seconds=30, wall_seconds=300, max_cpu_seconds=30)
RESULT_FILM = replace(FILM, memory_bytes=512_000_000, cpu_seconds=30, wall_seconds=300)
RESULT_TRACK = WorkLimits(768_000_000, 60, 600, max_cpu_seconds=900, modules=(*_PIL, "numpy", "cv2", "av"))
EDIT_FILM = WorkLimits(768_000_000, 120, 600, max_cpu_seconds=300, modules=(*_PIL, "numpy", "cv2", "av"))
# A person waits for it at a terminal, and may interrupt it.
EXPORT = WorkLimits(512_000_000, 240, 600, max_cpu_seconds=480, modules=(*_PIL, "numpy", "cv2", "av"))

_MAX_WORKERS = 2  # at once: each may take the memory above
_IDLE_SECONDS = 60.0  # after so long without work a worker ends and gives its memory back
_TRIES = 3  # so many workers may be found to have ended before they took the work
_LATER_MODULES = MASKS.modules
_WALL_PER_SECOND = 4  # seconds by the clock for each second of processor time, on a busy machine

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class DecodeRunner(Protocol):
    """Runs functions that decode: in worker processes, or in tests in a thread."""

    async def run(self, function: Callable[[*Given], Result], *arguments: *Given, limits: WorkLimits) -> Result:
        """Call the function, and return what it returns."""
        ...

    def warm(self) -> None:
        """Prepare for work that is about to come; returns at once."""


class DecoderPool:
    """A few worker processes, started when there is work, and ended when there has been none for a while.

    Args:
        environ: the environment of this process; workers get a few harmless variables of it.
        at_once: how many calls run at once; the others wait in their order.
        idle_seconds: after so long without work a worker ends.
    """

    def __init__(
        self, environ: Mapping[str, str], at_once: int = _MAX_WORKERS, idle_seconds: float = _IDLE_SECONDS
    ) -> None:
        self._environ = worker_environment(environ)
        self._idle_seconds = idle_seconds
        self._slots = anyio.CapacityLimiter(at_once)
        # One thread waits for each worker, and one more may close it; they must not wait for threads used elsewhere.
        self._threads = anyio.CapacityLimiter(2 * at_once)
        self._idle: list[WorkerProcess] = []
        self._workers: set[WorkerProcess] = set()

    @property
    def pids(self) -> set[int]:
        """The process ids of the workers that have not ended."""
        return {worker.pid for worker in self._workers if worker.is_alive}

    def warm(self) -> None:
        """Start a first worker, if there is none, while the file that it will read is still being fetched."""
        if not self.pids:
            with suppress(WorkerLost):  # `run` will try again and report it
                self._idle.append(self._start_worker())

    async def run(
        self, function: Callable[[*Given], Result], *arguments: *Given, limits: WorkLimits = PICTURE
    ) -> Result:
        """Call a function in a worker. When the call is cancelled, its worker is ended.

        Args:
            function: at the top level of one of the project's modules.
            arguments: plain values, paths and frozen records.
            limits: what it may cost.

        Returns:
            What the function returns: plain values, paths and the project's records.

        Raises:
            RotoscopeError: what the function raises; `TooLarge` if it passed a limit, `InvalidInput` if a decoder
                crashed, `WorkerLost` if the process was ended from outside.
        """
        async with self._slots:
            for _ in range(_TRIES):
                with suppress(WorkerEnded):
                    return await self._run_in_worker(await self._idle_or_new_worker(), function, arguments, limits)
        raise WorkerLost("No process for decoding stays alive.", hint="Look at this machine's memory and limits.")

    async def aclose(self) -> None:
        """End every worker."""
        for worker in list(self._workers):
            worker.kill()
        for worker in list(self._idle):
            await self._close_worker(worker)
        self._idle.clear()

    async def _idle_or_new_worker(self) -> WorkerProcess:
        """A worker that waits for work, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await self._close_worker(worker)
        return self._start_worker()

    def _start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(self._environ, self._idle_seconds, PICTURE.modules, _LATER_MODULES)
        self._workers.add(worker)
        return worker

    async def _run_in_worker(
        self, worker: WorkerProcess, function: Callable[..., Result], arguments: tuple[Any, ...], limits: WorkLimits
    ) -> Result:
        reusable = False
        with anyio.CancelScope(deadline=anyio.current_time() + limits.wall_seconds) as scope:

            def extend_deadline(seconds: int) -> None:
                scope.deadline = anyio.current_time() + limits.wall_seconds + _WALL_PER_SECOND * seconds

            def compute() -> WorkerAnswer:
                return worker.compute(
                    function, arguments, limits, lambda more: anyio.from_thread.run_sync(extend_deadline, more)
                )

            try:
                answer = await anyio.to_thread.run_sync(compute, abandon_on_cancel=True, limiter=self._threads)
                reusable = not answer.is_last
            finally:
                if reusable:
                    self._idle.append(worker)
                else:
                    worker.kill()
                    await self._close_worker(worker)
            return cast("Result", unwrap_answer(answer))
        raise too_costly_error(f"its decoding was not done after {limits.wall_seconds:g} seconds")

    async def _close_worker(self, worker: WorkerProcess) -> None:
        """Wait for the end of a killed worker, even while this task is cancelled."""
        self._workers.discard(worker)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(worker.close, limiter=self._threads)
