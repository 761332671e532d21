"""The worker's side: one piece of work after the other, within its limits, until its parent goes or it is idle."""

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import BinaryIO

from rotoscope.errors import RotoscopeError
from rotoscope.workers.limits import Meter, limit_always, use
from rotoscope.workers.messages import Answer, read_frame, write_frame

__all__ = ["end_with", "ignore_signals", "main", "private_stream"]

_NICENESS = 2
_PR_SET_PDEATHSIG = 1
_CV_NO_MEMORY = -4


def main(idle_seconds: float, modules: Sequence[str], more: Sequence[str], parent: int) -> None:
    """Serve the parent over stdin and stdout.

    Args:
        idle_seconds: after how long without work the process ends.
        modules: the libraries that are loaded at once.
        more: the libraries that are loaded after the first piece of work, while nobody waits.
        parent: the process whose end ends this one at once, also inside of a decoder; 0: only its closing the pipe.
    """
    ignore_signals()
    requests, answers = private_stream(0, os.O_RDONLY, "rb"), private_stream(1, os.O_WRONLY, "wb")
    _be_modest()
    meter = Meter(lambda seconds: _tell(answers, Answer("more", seconds)))
    use(meter)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting, parent), name="requests", daemon=True).start()
    meter.load(modules)
    with contextlib.suppress(queue.Empty, BrokenPipeError):
        while True:
            request = waiting.get(timeout=idle_seconds)
            _tell(answers, Answer("begun", None))
            answer = _done(meter, request)
            _tell(answers, answer)
            if answer.worn:
                break
            if waiting.empty():
                meter.load(more)
    os._exit(0)  # no thread of a library is waited for


def ignore_signals() -> None:
    """The parent decides when this process ends: those that a terminal or a host sends to all are not for us."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def private_stream(number: int, flags: int, mode: str) -> BinaryIO:
    """A standard stream for messages alone: what is printed, or asked of a person, goes nowhere."""
    stream = os.fdopen(os.dup(number), mode)
    nowhere = os.open(os.devnull, flags)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return stream  # type: ignore[return-value]


def _be_modest() -> None:
    limit_always()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _read(requests: BinaryIO, waiting: "queue.SimpleQueue[bytes]", parent: int) -> None:
    end_with(parent)
    while (content := read_frame(requests)) is not None:
        waiting.put(content)
    os._exit(0)


def end_with(parent: int) -> None:
    """Have the kernel end this process with its parent: a decoder may keep the end of the pipe from being seen."""
    if not parent or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before it was asked for


def _done(meter: Meter, content: bytes) -> Answer:
    """The answer to one request."""
    begun = time.perf_counter()
    try:
        function, arguments, limits = pickle.loads(content)  # noqa: S301 - from our own parent
        meter.begin(limits)
        begun = time.perf_counter()
        answer = Answer("done", function(*arguments))
    except RotoscopeError as error:
        words = (type(error).__name__, error.message, error.hint, error.code, error.said)
        answer = Answer("raised", words)
    except Exception as error:  # noqa: BLE001 - the edge of the process: the parent is told what it was
        text = "".join(traceback.format_exception(error))
        answer = Answer("memory", None) if _is_memory(error) else Answer("broken", text)
    seconds = time.perf_counter() - begun
    worn = meter.end() or answer.kind == "memory"
    return Answer(answer.kind, answer.value, worn, seconds)


def _is_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, also in the words of OpenCV and of Python's threads."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV_NO_MEMORY:
        return True
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _tell(answers: BinaryIO, answer: Answer) -> None:
    write_frame(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
