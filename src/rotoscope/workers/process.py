"""The parent's side: one worker process, asked by one thread at a time, ended by any.

Why not `anyio.to_process`: its workers import our `__main__`, inherit the environment with the providers' keys, have
no limits, outlive a parent that is killed, and answer with pickles that are believed. It would also tie a worker to
one event loop.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, cast

from rotoscope import errors
from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, WorkerLost
from rotoscope.workers.limits import WorkLimits
from rotoscope.workers.messages import WorkerAnswer, read_frame, read_worker_answer, write_frame

__all__ = ["WorkerBug", "WorkerEnded", "WorkerProcess", "too_costly_error", "unwrap_answer", "worker_environment"]

_INHERITED_VARIABLES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TMPDIR",
    "LANG",
    "LC_ALL",
)
# One thread each, because there are several workers; one arena and no growing thresholds, so that address space stays
# close to what is used and what was freed goes back.
_FIXED_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
_START = "import sys; sys.path[:] = {path!r}; from rotoscope.workers.serving import serve_work; serve_work{arguments!r}"
_CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"})
_ENDING_SECONDS = 5.0


class WorkerEnded(Exception):
    """The worker ended before it took the work, mostly for want of any: another one must be asked."""


class WorkerBug(Exception):
    """The work raised what is none of our errors; the text is the worker's traceback."""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker sees of an environment: no key, no setting."""
    return {name: environ[name] for name in _INHERITED_VARIABLES if name in environ} | _FIXED_VARIABLES


def too_costly_error(detail: str) -> TooLarge:
    """The refusal of a file that takes more time or memory than it may."""
    return TooLarge(f"The file costs too much to read: {detail}.", hint="Give a smaller or simpler version of it.")


def unwrap_answer(answer: WorkerAnswer) -> Any:
    """What the work gave.

    Raises:
        RotoscopeError: what it raised; `TooLarge` where there was not enough memory.
        WorkerBug: it raised something else.
    """
    match answer.kind, answer.value:
        case "done", value:
            return value
        case "raised", (str(name), str(message), str(hint), str(code), said):
            found = getattr(errors, name, None)
            kind = found if isinstance(found, type) and issubclass(found, RotoscopeError) else InvalidInput
            raise kind(message, hint=hint, code=code, provider_message=said if isinstance(said, str) else None)
        case "memory", _:
            raise too_costly_error("its decoding took too much memory")
        case _:
            raise WorkerBug(str(answer.value))


class WorkerProcess:
    """A process that computes.

    Args:
        environ: its environment.
        idle_seconds: after how long without work it ends by itself.
        modules: the libraries that it loads at once.
        more: the libraries that it loads after its first piece of work.

    Raises:
        WorkerLost: no process could be started.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        idle_seconds: float,
        modules: Sequence[str] = (),
        later_modules: Sequence[str] = (),
    ) -> None:
        # A thread that ends would take its children with it.
        parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
        code = _START.format(path=sys.path, arguments=(idle_seconds, tuple(modules), tuple(later_modules), parent))
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, and a text of ours
                [sys.executable, "-P", "-s", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders write there what hostile files have them write
                env=dict(environ),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise WorkerLost(
                "No process for decoding could be started.", hint="Free memory or processes, then try again."
            ) from error
        self._killed = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def compute(
        self,
        function: Callable[..., Any],
        arguments: Sequence[object],
        limits: WorkLimits,
        on_extension: Callable[[int], object],
    ) -> WorkerAnswer:
        """Have it call a function, and wait in this thread.

        Args:
            function: at the top level of a module.
            arguments: that can be pickled.
            limits: of this piece of work.
            on_extension: called when the work was given more seconds of processor time.

        Returns:
            Its answer, for `unwrap_answer`.

        Raises:
            RotoscopeError: it gave none. `TooLarge` where it passed a limit, `InvalidInput` where a decoder crashed,
                `WorkerLost` where the process was ended from outside.
            WorkerEnded: it had ended before it took the work.
        """
        request = pickle.dumps((function, arguments, limits), pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(OSError):  # it is gone, which its silence says as well
            write_frame(cast("BinaryIO", self._process.stdin), request)
        begun = False
        while (content := read_frame(cast("BinaryIO", self._process.stdout))) is not None:
            try:
                answer = read_worker_answer(content)
            except ValueError:
                self.kill()
                break
            begun = True
            if answer.kind not in ("begun", "more"):
                return answer
            if isinstance(answer.value, int):
                on_extension(answer.value)
        raise self._exit_error() if begun or self._killed else WorkerEnded

    def kill(self) -> None:
        """End it at once, from any thread."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """End it and give back what it had of this process. Not while another thread asks it."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel; nobody can do more
            self._process.wait(_ENDING_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exit_error(self) -> Exception:
        """Why it says nothing any more."""
        if not self._killed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
        name = _signal_name(self._process.poll())
        if name == "SIGXCPU":
            return too_costly_error("its decoding took too much processor time")
        if name in _CRASHES:
            return InvalidInput(
                "The file makes its decoder crash.", code="corrupt", hint="Save it again with another program."
            )
        return WorkerLost(
            "The file costs too much to read: the process that decoded it was ended by the system.",
            hint="Try again when this machine has more memory free, or give a smaller version of it.",
        )


def _signal_name(code: int | None) -> str:
    import signal

    try:
        return signal.Signals(-(code or 0)).name
    except ValueError:
        return ""
