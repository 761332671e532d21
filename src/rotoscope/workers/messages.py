"""What goes over the pipes between a process and its workers: a length, then a pickle.

A worker believes its parent. The parent believes no worker, because the file that it reads may have taken it over: of
its answers only plain values and records of ours are read, and nothing in them can run.
"""

import io
import pickle
import struct
from dataclasses import dataclass, is_dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

__all__ = ["WorkerAnswer", "load_plain_pickle", "read_frame", "read_worker_answer", "write_frame"]

_LENGTH = struct.Struct("!Q")
_MAX_FRAME_BYTES = 1 << 27


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """What a worker says.

    Attributes:
        kind: `begun`, it has the work; `more`, the work was given this many seconds of processor time; `done` with the
            value; `raised`, an error of ours; `memory`, there was not enough; `broken`, a bug, as a traceback.
        value: what was computed, the words, or the seconds.
        is_last: whether the worker ends now.
        seconds: how long the work took.
    """

    kind: str
    value: object
    is_last: bool = False
    seconds: float = 0.0


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Write one message.

    Raises:
        OSError: the other side is gone.
    """
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """One message; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size or _LENGTH.unpack(head)[0] > _MAX_FRAME_BYTES:
        return None
    content = stream.read(_LENGTH.unpack(head)[0])
    return content if len(content) == _LENGTH.unpack(head)[0] else None


def read_worker_answer(content: bytes) -> WorkerAnswer:
    """What a worker said.

    Raises:
        ValueError: it is no answer, or holds something that we do not read.
    """
    found = load_plain_pickle(content)
    if not isinstance(found, WorkerAnswer):
        raise ValueError("unreadable answer of a worker")  # noqa: TRY004 - one error for all that is no answer
    return found


def load_plain_pickle(content: bytes) -> object:
    """A plain value, or one that holds records of ours and paths.

    Raises:
        ValueError: it holds something that we do not read.
    """
    try:
        found: object = _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:
        raise ValueError("unreadable answer of a worker") from error
    return found


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] in ("rotoscope", "pathlib"):
            found = super().find_class(module, name)
            if isinstance(found, type) and (is_dataclass(found) or issubclass(found, PurePath)):
                return found
        raise pickle.UnpicklingError(f"{module}.{name}")
