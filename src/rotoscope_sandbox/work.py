"""Who computes: a few threads of this process, in the order in which predictions were accepted.

A crew shows a pulse for everything it has in hand, so that another process can tell a slow worker from a dead one
and take over. Computing twice is harmless: the same input gives the same files.
"""

import atexit
import base64
import binascii
import logging
import re
import secrets
import threading
import urllib.parse
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rotoscope_sandbox.models import Stopped, UnusableInput, find_model
from rotoscope_sandbox.predictions import Failure, JsonObject, Order, Outcome
from rotoscope_sandbox.stand_ins import is_reachable_elsewhere, stand_in
from rotoscope_sandbox.store import PULSE_SECONDS, Store

__all__ = ["OWN", "Crew"]

OWN = "sandbox:"
"""What a reference to one of our own outputs starts with inside a stored output; the wires make it an URL."""

_HANDS = 2
_LAST_SECONDS = 10.0
_OWN_OUTPUT = re.compile(r"/outputs/([^/]+)/([^/]+)")
_OWN_UPLOAD = re.compile(r"/(?:files|(?:replicate/)?v1/files)/([a-z0-9]{26})(?:\.[a-z0-9]{1,5}|/download)?")
_STOOD_IN = "The sandbox has no network; files of its own stand in for:"
_NOT_FETCHED = (
    "The sandbox does not fetch remote pictures, videos or sounds: "
    "send a data URI, or upload the file to the sandbox first."
)

_log = logging.getLogger(__name__)


class _Work:
    """One prediction in hand: a task for the engine, and an event for those who wait."""

    def __init__(self, order: Order, store: Store, clock: Callable[[], float], *, stand_ins: bool) -> None:
        self.order = order
        self._stand_ins = stand_ins
        self._stood_in: list[str] = []
        self.done = threading.Event()
        self.stop = threading.Event()
        self._store = store
        self._clock = clock
        self._begun: float | None = None
        self._logs: list[str] = []
        self._metrics: JsonObject = {}
        self._scratch: Path | None = None
        store.progress(order.id, None, [])

    @property
    def input(self) -> Mapping[str, Any]:
        return self.order.input

    @property
    def scratch(self) -> Path:
        assert self._scratch is not None
        return self._scratch

    def read(self, field_name: str, reference: str) -> bytes:
        if reference.startswith("data:"):
            return _decoded(field_name, reference)
        return self._file(field_name, reference).read_bytes()

    def place(self, field_name: str, reference: str) -> Path:
        if not reference.startswith("data:"):
            return self._file(field_name, reference)
        place = self.scratch / secrets.token_hex(8)
        place.write_bytes(_decoded(field_name, reference))
        return place

    def _file(self, field_name: str, reference: str) -> Path:
        if not self._stand_ins or self._is_own(reference) or not is_reachable_elsewhere(reference):
            return self._own(field_name, reference)
        if reference not in self._stood_in:
            self._stood_in.append(reference)
            self.log(f"{_STOOD_IN} {reference[:200]}")
        return stand_in(field_name, reference, self.scratch)

    @staticmethod
    def _is_own(reference: str) -> bool:
        path = urllib.parse.urlsplit(reference).path
        return (_OWN_OUTPUT.fullmatch(path) or _OWN_UPLOAD.fullmatch(path)) is not None

    def _own(self, field_name: str, reference: str) -> Path:
        path = urllib.parse.urlsplit(reference).path
        if output := _OWN_OUTPUT.fullmatch(path):
            place = self._store.output(output[1], output[2])
        elif upload := _OWN_UPLOAD.fullmatch(path):
            place = self._store.upload_path(upload[1])
        else:
            raise UnusableInput(field_name, _NOT_FETCHED, "file_download_error")
        if place is None:
            raise UnusableInput(field_name, "The sandbox has no such file.", "file_download_error")
        return place

    def save(self, name: str, content: bytes) -> str:
        self._store.save_output(self.order.id, name, content)
        return self._reference(name)

    def keep(self, name: str, made: Path) -> str:
        self._store.keep_output(self.order.id, name, made)
        return self._reference(name)

    def _reference(self, name: str) -> str:
        return f"{OWN}/outputs/{self.order.id}/{name}"

    def report(self, metrics: Mapping[str, Any]) -> None:
        self._metrics.update(metrics)

    def log(self, line: str) -> None:
        self._heed()
        self._logs.append(line)
        self._store.progress(self.order.id, self._begun, self._logs)

    def _heed(self) -> None:
        late = self.order.deadline is not None and self._clock() >= self.order.deadline
        if late or self.stop.is_set() or self._store.is_canceled(self.order.id):
            raise Stopped

    def run(self) -> None:
        """Computes the prediction and writes how it ended; whatever goes wrong, those who wait are told."""
        try:
            self._heed()
            self._begun = self._clock()
            self._store.progress(self.order.id, self._begun, self._logs)
            with self._store.scratch(self.order.id) as scratch:
                self._scratch = scratch
                self._store.finish(self.order.id, self._outcome())
        except Stopped:
            # A canceled run keeps its start for the record; one that the end of the process cut off is free to take.
            if self.stop.is_set():
                self._store.abandon(self.order.id)
        finally:
            self.done.set()

    def _outcome(self) -> Outcome:
        model = find_model(self.order.wire, self.order.model)
        if model is None:
            return Outcome(self._clock(), failure=Failure(f"The sandbox no longer knows {self.order.model}."))
        if self.order.failure is not None:
            return Outcome(self._clock(), failure=Failure(**self.order.failure))
        try:
            output = model.compute(self)
        except UnusableInput as problem:
            failure = Failure(problem.message, problem.kind, problem.field_name)
            return Outcome(self._clock(), failure=failure)
        except Stopped:
            raise
        except Exception as crash:  # noqa: BLE001 - the worker's outermost edge: a crash is a failed prediction
            _log.exception("the sandbox failed to compute %s", self.order.id)
            return Outcome(self._clock(), failure=Failure(f"{type(crash).__name__}: {crash}"))
        return Outcome(self._clock(), output=self._told(output), metrics=self._metrics)

    def _told(self, output: Any) -> Any:
        """The output; what stood in is told where the engine tells how the output was made."""
        for holder in (output, self._metrics):
            made = holder.get("sandbox") if isinstance(holder, dict) else None
            if self._stood_in and isinstance(made, dict):
                words = f"{_STOOD_IN} {', '.join(self._stood_in)[:500]}"
                made["notice"] = f"{made['notice']} {words}" if made.get("notice") else words
        return output


def _decoded(field_name: str, uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise UnusableInput(field_name, "The data URI has no comma.", "file_download_error")
    if not head.endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as problem:
        raise UnusableInput(field_name, "The data URI is not valid base64.", "file_download_error") from problem


class Crew:
    """Threads that come with the work and go with it."""

    def __init__(
        self, store: Store, clock: Callable[[], float], hands: int = _HANDS, *, stand_ins: bool = False
    ) -> None:
        self._store = store
        self._stand_ins = stand_ins
        self._clock = clock
        self._hands = hands
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()
        self._in_hand: dict[str, _Work] = {}
        self._threads: set[threading.Thread] = set()
        self._pulsing = False
        _crews.add(self)

    def take(self, order: Order) -> None:
        """Puts a prediction behind the others; one that is in hand already is not taken twice."""
        with self._lock:
            if order.id in self._in_hand:
                return
            work = _Work(order, self._store, self._clock, stand_ins=self._stand_ins)
            self._in_hand[order.id] = work
            self._waiting.append(work)
            if not self._pulsing:
                self._pulsing = True
                threading.Thread(target=self._pulse, name="sandbox pulse", daemon=True).start()
            if len(self._threads) < self._hands:
                # Daemons, because nobody should have to wait for them twice: `leave` joins them at the end.
                thread = threading.Thread(target=self._labour, name="sandbox", daemon=True)
                self._threads.add(thread)
                thread.start()

    def has(self, id_: str) -> bool:
        """Whether this process has the prediction in hand."""
        return id_ in self._in_hand

    def ahead(self, id_: str) -> int:
        """How many predictions of this process are computed before this one starts."""
        with self._lock:
            return next((place for place, work in enumerate(self._waiting) if work.order.id == id_), 0)

    def wait(self, id_: str, seconds: float) -> None:
        """Blocks until the prediction is computed, at most some seconds."""
        work = self._in_hand.get(id_)
        if work is not None:
            work.done.wait(seconds)

    def leave(self) -> None:
        """Drops what has not begun and stops what has: the process ends."""
        with self._lock:
            dropped, threads = list(self._waiting), list(self._threads)
            self._waiting.clear()
            for work in self._in_hand.values():
                work.stop.set()
            for work in dropped:
                self._in_hand.pop(work.order.id)
                self._store.abandon(work.order.id)
        for thread in threads:
            thread.join(_LAST_SECONDS)

    def _labour(self) -> None:
        try:
            while (work := self._next()) is not None:
                try:
                    work.run()
                finally:
                    with self._lock:
                        self._in_hand.pop(work.order.id, None)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> _Work | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            # Within the lock, so that nobody counts on a thread that is about to go.
            self._threads.discard(threading.current_thread())
            return None

    def _pulse(self) -> None:
        rest = threading.Event()
        while ids := self._held():
            for id_ in ids:
                self._store.pulse(id_)
            rest.wait(PULSE_SECONDS)

    def _held(self) -> list[str]:
        with self._lock:
            self._pulsing = bool(self._in_hand)
            return list(self._in_hand)


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


@atexit.register
def _go_home() -> None:
    """A daemon thread that is inside OpenCV while the interpreter ends would abort the process."""
    for crew in list(_crews):
        crew.leave()
