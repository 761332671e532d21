"""The parent's side of a worker process: it is used by one thread at a time, and can be ended by any.

Why not `anyio.to_process`: its workers import our `__main__`, inherit the environment with the providers' keys, have
no limits, outlive a parent that is killed, and answer with pickles that the parent would execute. It would also tie a
worker to one event loop.
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

__all__ = [
    "WorkerBug",
    "WorkerEnded",
    "WorkerProcess",
    "start_python",
    "too_costly_error",
    "unwrap_answer",
    "worker_environment",
]

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
# One thread in each, because there are several workers; one malloc arena and fixed thresholds, so that address space
# stays close to what is used and freed memory goes back to the system.
_FIXED_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
_CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"})
_ENDING_SECONDS = 5.0  # a killed process that has not ended by then hangs in the kernel


class WorkerEnded(Exception):
    """The worker ended before it took the work, mostly because it was idle: the work must be given to another."""


class WorkerBug(Exception):
    """The work raised an exception that is not in the error tree; the text is the worker's traceback."""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: a few harmless variables of the given one, no keys and no settings."""
    return {name: environ[name] for name in _INHERITED_VARIABLES if name in environ} | _FIXED_VARIABLES


def too_costly_error(detail: str) -> TooLarge:
    """The error for a file that takes more time or memory than it may; `detail` completes the sentence."""
    return TooLarge(f"The file costs too much to read: {detail}.", hint="Give a smaller or simpler version of it.")


def unwrap_answer(answer: WorkerAnswer) -> Any:
    """What the work returned.

    Raises:
        RotoscopeError: what it raised; `TooLarge` if there was not enough memory.
        WorkerBug: it raised something else.
    """
    match answer.kind, answer.value:
        case "done", value:
            return value
        case "raised", (str(name), str(message), str(hint), str(code), text):
            found = getattr(errors, name, None)
            kind = found if isinstance(found, type) and issubclass(found, RotoscopeError) else InvalidInput
            raise kind(message, hint=hint, code=code, provider_message=text if isinstance(text, str) else None)
        case "memory", _:
            raise too_costly_error("its decoding took too much memory")
        case _:
            raise WorkerBug(str(answer.value))


def start_python(
    module: str, function: str, arguments: tuple[object, ...], environ: Mapping[str, str], stderr: int | None = None
) -> "subprocess.Popen[bytes]":
    """Start a Python process that calls a function; its stdin and stdout are pipes.

    Args:
        module: where the function is.
        function: is called with the arguments and, last, the id of the process whose end must end it; 0 for none.
        arguments: plain values.
        environ: the environment of the process.
        stderr: as for `subprocess.Popen`.

    Raises:
        OSError: no process could be started.
    """
    # The kernel ends the child with the thread that has started it, so only the main thread asks for that.
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    call = f"from {module} import {function}; {function}{(*arguments, parent)!r}"
    return subprocess.Popen(  # noqa: S603 - our own interpreter, and our own text
        [sys.executable, "-P", "-s", "-c", f"import sys; sys.path[:] = {sys.path!r}; {call}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=dict(environ),
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


class WorkerProcess:
    """A process that calls functions.

    Args:
        environ: its environment.
        idle_seconds: after so long without work it ends by itself.
        modules: the libraries that it loads at once.
        later_modules: the libraries that it loads after its first piece of work.

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
        arguments = (idle_seconds, tuple(modules), tuple(later_modules))
        try:
            # What decoders write to stderr is dropped: hostile files decide on it.
            self._process = start_python(
                "rotoscope.workers.serving", "serve_work", arguments, environ, subprocess.DEVNULL
            )
        except OSError as error:
            raise WorkerLost(
                "No process for decoding could be started.", hint="Free memory or processes, then try again."
            ) from error
        self._killed = False

    @property
    def pid(self) -> int:
        """The process id."""
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
        """Have the process call a function, and wait for it in this thread.

        Args:
            function: at the top level of a module.
            arguments: can be pickled.
            limits: of this call.
            on_extension: called with the seconds of processor time that the work was given in place of the usual.

        Returns:
            The answer, for `unwrap_answer`.

        Raises:
            RotoscopeError: there is no answer. `TooLarge` if it passed a limit, `InvalidInput` if a decoder crashed,
                `WorkerLost` if the process was ended from outside.
            WorkerEnded: the process had ended before it took the work.
        """
        request = pickle.dumps((function, arguments, limits), pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(OSError):  # it has ended, which reading will show as well
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
        """End it and close its pipes. Not while another thread is in `compute`."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel; nothing more can be done
            self._process.wait(_ENDING_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exit_error(self) -> Exception:
        """The error for a process that has ended without an answer, by its exit code."""
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
