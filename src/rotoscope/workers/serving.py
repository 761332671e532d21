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
from rotoscope.workers.limits import Meter, install_meter, limit_process
from rotoscope.workers.messages import WorkerAnswer, read_frame, write_frame

__all__ = ["detach_stream", "end_with_parent", "ignore_signals", "serve_work"]

_NICENESS = 2
_PR_SET_PDEATHSIG = 1
_CV_NO_MEMORY = -4


def serve_work(idle_seconds: float, modules: Sequence[str], later_modules: Sequence[str], parent: int) -> None:
    """Serve the parent over stdin and stdout.

    Args:
        idle_seconds: after how long without work the process ends.
        modules: the libraries that are loaded at once.
        later_modules: the libraries that are loaded after the first piece of work, while nobody waits.
        parent: the process whose end ends this one at once, also inside of a decoder; 0: only its closing the pipe.
    """
    ignore_signals()
    requests, answers = detach_stream(0, os.O_RDONLY, "rb"), detach_stream(1, os.O_WRONLY, "wb")
    _limit_and_lower_priority()
    meter = Meter(lambda seconds: _write_answer(answers, WorkerAnswer("more", seconds)))
    install_meter(meter)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_queue_requests, args=(requests, waiting, parent), name="requests", daemon=True).start()
    meter.load_modules(modules)
    with contextlib.suppress(queue.Empty, BrokenPipeError):
        while True:
            request = waiting.get(timeout=idle_seconds)
            _write_answer(answers, WorkerAnswer("begun", None))
            answer = _answer_request(meter, request)
            _write_answer(answers, answer)
            if answer.is_last:
                break
            if waiting.empty():
                meter.load_modules(later_modules)
    os._exit(0)  # no thread of a library is waited for


def ignore_signals() -> None:
    """The parent decides when this process ends: those that a terminal or a host sends to all are not for us."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def detach_stream(number: int, flags: int, mode: str) -> BinaryIO:
    """A standard stream for messages alone: what is printed, or asked of a person, goes nowhere."""
    stream = os.fdopen(os.dup(number), mode)
    nowhere = os.open(os.devnull, flags)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return stream  # type: ignore[return-value]


def _limit_and_lower_priority() -> None:
    limit_process()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _queue_requests(requests: BinaryIO, waiting: "queue.SimpleQueue[bytes]", parent: int) -> None:
    end_with_parent(parent)
    while (content := read_frame(requests)) is not None:
        waiting.put(content)
    os._exit(0)


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent: a decoder may keep the end of the pipe from being seen."""
    if not parent or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before it was asked for


def _answer_request(meter: Meter, content: bytes) -> WorkerAnswer:
    """The answer to one request."""
    begun = time.perf_counter()
    try:
        function, arguments, limits = pickle.loads(content)  # noqa: S301 - from our own parent
        meter.begin_work(limits)
        begun = time.perf_counter()
        answer = WorkerAnswer("done", function(*arguments))
    except RotoscopeError as error:
        words = (type(error).__name__, error.message, error.hint, error.code, error.provider_message)
        answer = WorkerAnswer("raised", words)
    except Exception as error:  # noqa: BLE001 - the edge of the process: the parent is told what it was
        text = "".join(traceback.format_exception(error))
        answer = WorkerAnswer("memory", None) if _is_out_of_memory(error) else WorkerAnswer("broken", text)
    seconds = time.perf_counter() - begun
    worn = meter.end_work() or answer.kind == "memory"
    return WorkerAnswer(answer.kind, answer.value, worn, seconds)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, also in the words of OpenCV and of Python's threads."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV_NO_MEMORY:
        return True
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _write_answer(answers: BinaryIO, answer: WorkerAnswer) -> None:
    write_frame(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
