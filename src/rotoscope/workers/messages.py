"""The messages between a process and its workers: a length of eight bytes, then a pickle.

A worker trusts its parent. The parent does not trust a worker, because a hostile file may have taken it over: it reads
only plain values and the project's records from an answer, and nothing in it is executed.
"""

import io
import pickle
import struct
from dataclasses import dataclass, is_dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

__all__ = ["WorkerAnswer", "load_plain_pickle", "read_frame", "read_worker_answer", "write_frame"]

_LENGTH = struct.Struct("!Q")
_MAX_FRAME_BYTES = 1 << 27  # bytes of a message; larger things are passed as files


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """A message of a worker.

    Attributes:
        kind: `begun`: it has taken the work; `more`: the work was given so many seconds of processor time; `done`: the
            work has returned the value; `raised`: an error of the error tree; `memory`: there was not enough memory;
            `broken`: a bug.
        value: the returned value, the seconds, the fields of the error, or the traceback.
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
        OSError: the other side has ended.
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
    """A worker's message.

    Raises:
        ValueError: it is no `WorkerAnswer`, or holds something else than plain values, paths and records.
    """
    found = load_plain_pickle(content)
    if not isinstance(found, WorkerAnswer):
        raise ValueError("unreadable answer of a worker")  # noqa: TRY004 - one error for everything that is no answer
    return found


def load_plain_pickle(content: bytes) -> object:
    """The content of a pickle of plain values, paths and the project's records.

    Raises:
        ValueError: it holds something else.
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
