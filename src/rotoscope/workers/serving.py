"""The worker's side: it does one piece of work after the other, within limits, until its parent ends or it is idle."""

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

_NICENESS = 2  # a little lower priority than the server, which must answer meanwhile
_PR_SET_PDEATHSIG = 1  # of prctl: the signal for when the parent ends
_CV_NO_MEMORY = -4  # the code of OpenCV's error for too little memory


def serve_work(idle_seconds: float, modules: Sequence[str], later_modules: Sequence[str], parent: int) -> None:
    """Serve the parent over stdin and stdout.

    Args:
        idle_seconds: after so long without work the process ends.
        modules: the libraries that are loaded at once.
        later_modules: the libraries that are loaded after the first piece of work, while no work waits.
        parent: the id of the process whose end ends this one at once, even inside a decoder; 0: this process ends only
            when the pipe is closed.
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
    os._exit(0)  # without waiting for the threads of libraries


def ignore_signals() -> None:
    """Ignore the signals that a terminal or a host sends to all processes: the parent decides when this one ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def detach_stream(number: int, flags: int, mode: str) -> BinaryIO:
    """A copy of a standard stream, for messages; the stream itself leads nowhere, for whatever libraries print."""
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
    """Have the kernel end this process with its parent: inside a decoder it would not see that the pipe is closed."""
    if not parent or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it had ended before the kernel was asked


def _answer_request(meter: Meter, content: bytes) -> WorkerAnswer:
    """The answer to one request."""
    begun = time.perf_counter()
    try:
        function, arguments, limits = pickle.loads(content)  # noqa: S301 - from the parent, which is trusted
        meter.begin_work(limits)
        begun = time.perf_counter()
        answer = WorkerAnswer("done", function(*arguments))
    except RotoscopeError as error:
        fields = (type(error).__name__, error.message, error.hint, error.code, error.provider_message)
        answer = WorkerAnswer("raised", fields)
    except Exception as error:  # noqa: BLE001 - the edge of the process: the parent gets the traceback
        text = "".join(traceback.format_exception(error))
        answer = WorkerAnswer("memory", None) if _is_out_of_memory(error) else WorkerAnswer("broken", text)
    seconds = time.perf_counter() - begun
    is_last = meter.end_work() or answer.kind == "memory"
    return WorkerAnswer(answer.kind, answer.value, is_last, seconds)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means too little memory; OpenCV and Python's threads have errors of their own for that."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _CV_NO_MEMORY:
        return True
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _write_answer(answers: BinaryIO, answer: WorkerAnswer) -> None:
    write_frame(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
