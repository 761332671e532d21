"""The workers: a few threads of this process that compute predictions in the order in which they were accepted.

A pool shows a pulse for everything it has in hand, so that another process can tell a slow worker from a dead one
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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotoscope_sandbox.models import Model, Stopped, UnusableInput, find_model
from rotoscope_sandbox.predictions import AcceptedRequest, Failure, JsonObject, Outcome
from rotoscope_sandbox.stand_ins import find_stand_in, is_reachable_elsewhere
from rotoscope_sandbox.store import PULSE_SECONDS, Store
from rotoscope_sandbox.weights import Weights

if TYPE_CHECKING:
    from rotoscope_sandbox.vision.object_net import ObjectNet

__all__ = ["OWN", "WorkerPool"]

OWN = "sandbox:"
"""What a reference to an output of the sandbox starts with inside a stored output; the wires make it a URL."""

_THREADS = 2
_LAST_SECONDS = 10.0
_OWN_OUTPUT = re.compile(r"/outputs/([^/]+)/([^/]+)")
_OWN_UPLOAD = re.compile(r"/(?:files|(?:replicate/)?v1/files)/([a-z0-9]{26})(?:\.[a-z0-9]{1,5}|/download)?")
_STOOD_IN = "The sandbox has no network; files of its own stand in for:"
_NOT_FETCHED = (
    "The sandbox does not fetch remote pictures, videos or sounds: "
    "send a data URI, or upload the file to the sandbox first."
)

_log = logging.getLogger(__name__)


class _Run:
    """One prediction in hand: the `EngineTask` that its engine is given, and an event for those who wait."""

    def __init__(
        self,
        request: AcceptedRequest,
        store: Store,
        clock: Callable[[], float],
        find: Callable[[str, str], Model | None],
        weights: Weights,
        *,
        stand_ins: bool,
    ) -> None:
        self.request = request
        self.done = threading.Event()
        self.stop = threading.Event()
        self._find_model = find
        self._stand_ins = stand_ins
        self._stood_in: list[str] = []
        self._weights = weights
        self._weights_notice: str | None = None
        self._store = store
        self._clock = clock
        self._begun: float | None = None
        self._logs: list[str] = []
        self._metrics: JsonObject = {}
        self._scratch: Path | None = None
        store.progress(request.id, None, [])

    @property
    def input(self) -> Mapping[str, Any]:
        return self.request.input

    @property
    def scratch(self) -> Path:
        assert self._scratch is not None
        return self._scratch

    def read(self, field_name: str, reference: str) -> bytes:
        if reference.startswith("data:"):
            return _decode_data_uri(field_name, reference)
        return self._find_file(field_name, reference).read_bytes()

    def place(self, field_name: str, reference: str) -> Path:
        if not reference.startswith("data:"):
            return self._find_file(field_name, reference)
        place = self.scratch / secrets.token_hex(8)
        place.write_bytes(_decode_data_uri(field_name, reference))
        return place

    def _find_file(self, field_name: str, reference: str) -> Path:
        path = urllib.parse.urlsplit(reference).path
        if output := _OWN_OUTPUT.fullmatch(path):
            place = self._store.output(output[1], output[2])
        elif upload := _OWN_UPLOAD.fullmatch(path):
            place = self._store.upload_path(upload[1])
        elif self._stand_ins and is_reachable_elsewhere(reference):
            return self._stand_in(field_name, reference)
        else:
            raise UnusableInput(field_name, _NOT_FETCHED, "file_download_error")
        if place is None:
            raise UnusableInput(field_name, "The sandbox has no such file.", "file_download_error")
        return place

    def _stand_in(self, field_name: str, reference: str) -> Path:
        if reference not in self._stood_in:
            self._stood_in.append(reference)
            self.log(f"{_STOOD_IN} {reference[:200]}")
        return find_stand_in(field_name, reference)

    def open_net(self) -> "ObjectNet | None":
        net, self._weights_notice = self._weights.open_net()
        return net

    def save(self, name: str, content: bytes) -> str:
        self._store.save_output(self.request.id, name, content)
        return self._reference(name)

    def keep(self, name: str, made: Path) -> str:
        self._store.keep_output(self.request.id, name, made)
        return self._reference(name)

    def _reference(self, name: str) -> str:
        return f"{OWN}/outputs/{self.request.id}/{name}"

    def report(self, metrics: Mapping[str, Any]) -> None:
        self._metrics.update(metrics)

    def log(self, line: str) -> None:
        self._check_stop()
        self._logs.append(line)
        self._store.progress(self.request.id, self._begun, self._logs)

    def _check_stop(self) -> None:
        is_late = self.request.deadline is not None and self._clock() >= self.request.deadline
        if is_late or self.stop.is_set() or self._store.is_canceled(self.request.id):
            raise Stopped

    def run(self) -> None:
        """Compute the prediction and write how it ended; whatever goes wrong, those who wait are released."""
        try:
            self._check_stop()
            self._begun = self._clock()
            self._store.progress(self.request.id, self._begun, self._logs)
            with self._store.scratch(self.request.id) as scratch:
                self._scratch = scratch
                self._store.finish(self.request.id, self._compute())
        except Stopped:
            # A canceled run keeps its start for the record; one that the end of the process cut off is free to take.
            if self.stop.is_set():
                self._store.abandon(self.request.id)
        finally:
            self.done.set()

    def _compute(self) -> Outcome:
        model = self._find_model(self.request.wire, self.request.model)
        if model is None:
            return self._failure_outcome(f"The sandbox no longer knows {self.request.model}.")
        if self.request.failure is not None:
            return Outcome(self._clock(), failure=Failure(**self.request.failure))
        try:
            output = model.compute(self)
        except UnusableInput as problem:
            failure = Failure(problem.message, problem.kind, problem.field_name)
            return Outcome(self._clock(), failure=failure)
        except Stopped:
            raise
        except Exception as crash:  # noqa: BLE001 - the worker's outermost edge: a crash is a failed prediction
            _log.exception("the sandbox failed to compute %s", self.request.id)
            return self._failure_outcome(f"{type(crash).__name__}: {crash}")
        self._add_notices(output)
        return Outcome(self._clock(), output=output, metrics=self._metrics)

    def _failure_outcome(self, message: str) -> Outcome:
        return Outcome(self._clock(), failure=Failure(message))

    def _add_notices(self, output: Any) -> None:
        """Add what stood in, and what is missing, to the notice, where the engine says how the output was made."""
        stood_in = f"{_STOOD_IN} {', '.join(self._stood_in)[:500]}" if self._stood_in else None
        for holder in (output, self._metrics):
            made = holder.get("sandbox") if isinstance(holder, dict) else None
            if isinstance(made, dict):
                notices = [notice for notice in (made.get("notice"), self._weights_notice, stood_in) if notice]
                made["notice"] = " ".join(notices) or None


def _decode_data_uri(field_name: str, uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise UnusableInput(field_name, "The data URI has no comma.", "file_download_error")
    if not head.endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as problem:
        raise UnusableInput(field_name, "The data URI is not valid base64.", "file_download_error") from problem


class WorkerPool:
    """Threads that start with the first work and end with the last."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        weights: Weights,
        threads: int = _THREADS,
        *,
        stand_ins: bool = False,
        own_models: tuple[Model, ...] = (),
    ) -> None:
        self._store = store
        self._find_model = partial(find_model, more=own_models)
        self._stand_ins = stand_ins
        self._clock = clock
        self._weights = weights
        self._most_threads = threads
        self._lock = threading.Lock()
        self._waiting: deque[_Run] = deque()
        self._in_hand: dict[str, _Run] = {}
        self._threads: set[threading.Thread] = set()
        self._has_pulse = False
        _pools.add(self)

    def take(self, request: AcceptedRequest) -> None:
        """Put a prediction behind the others; one that is in hand already is not taken twice."""
        with self._lock:
            if request.id in self._in_hand:
                return
            run = _Run(request, self._store, self._clock, self._find_model, self._weights, stand_ins=self._stand_ins)
            self._in_hand[request.id] = run
            self._waiting.append(run)
            if not self._has_pulse:
                self._has_pulse = True
                threading.Thread(target=self._show_pulse, name="sandbox pulse", daemon=True).start()
            if len(self._threads) < self._most_threads:
                # Daemons, because the interpreter would wait for others before `stop` could end them.
                thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
                self._threads.add(thread)
                thread.start()

    def has(self, id_: str) -> bool:
        """Whether this process has the prediction in hand."""
        return id_ in self._in_hand

    def count_ahead(self, id_: str) -> int:
        """How many predictions of this process are computed before this one starts."""
        with self._lock:
            return next((place for place, run in enumerate(self._waiting) if run.request.id == id_), 0)

    def wait(self, id_: str, seconds: float) -> None:
        """Block until the prediction is computed, at most some seconds."""
        run = self._in_hand.get(id_)
        if run is not None:
            run.done.wait(seconds)

    def stop(self) -> None:
        """Drop what has not begun and stop what has: the process ends."""
        with self._lock:
            unbegun, threads = list(self._waiting), list(self._threads)
            self._waiting.clear()
            for run in self._in_hand.values():
                run.stop.set()
            for run in unbegun:
                self._in_hand.pop(run.request.id)
                self._store.abandon(run.request.id)
        for thread in threads:
            thread.join(_LAST_SECONDS)

    def _work(self) -> None:
        try:
            while (run := self._next()) is not None:
                try:
                    run.run()
                finally:
                    with self._lock:
                        self._in_hand.pop(run.request.id, None)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> _Run | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            # Within the lock, so that `take` does not count on a thread that is about to end.
            self._threads.discard(threading.current_thread())
            return None

    def _show_pulse(self) -> None:
        rest = threading.Event()
        while ids := self._ids_in_hand():
            for id_ in ids:
                self._store.pulse(id_)
            rest.wait(PULSE_SECONDS)

    def _ids_in_hand(self) -> list[str]:
        with self._lock:
            self._has_pulse = bool(self._in_hand)
            return list(self._in_hand)


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A daemon thread that is inside OpenCV while the interpreter ends would abort the process."""
    for pool in list(_pools):
        pool.stop()
