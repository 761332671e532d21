"""What the three wires share: accepting a prediction, reading and canceling it, and the URLs of its files."""

import json
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

import anyio
from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.billing import Bill, Measured, bill_run
from rotoscope_sandbox.models import Model, all_models, find_model
from rotoscope_sandbox.predictions import HIDDEN, AcceptedRequest, ForcedOutcome, JsonObject, Prediction, RunStatus
from rotoscope_sandbox.store import Incoming, ListEntry, Store, UploadedFile
from rotoscope_sandbox.webhook_post import PostWebhook, post_by_http
from rotoscope_sandbox.workers import OWN, WorkerPool

__all__ = [
    "FORCED_OUTCOME",
    "Core",
    "Endpoint",
    "ErrorResponse",
    "integer_parameter",
    "make_routes",
    "read_chunks",
    "read_forced_outcome",
    "read_object",
    "time_parameter",
    "utc_time",
    "write_chunks",
]

FORCED_OUTCOME = "sandbox.forced_outcome"
"""The key of an ASGI scope under which a fault puts what is to become of the prediction."""

_QUEUE_SECONDS = 0.3
_PLACES_AHEAD = 3
_HOLD_SECONDS = 5.0
_POLL_SECONDS = 0.05
_MOST_DIGITS = 9
_BODY_LIMIT = 100 * 1024 * 1024
_UPLOAD_LIMIT = 2 * 1024**3
_CHUNK = 1024 * 1024
_ORDINARY = ForcedOutcome()


class ErrorResponse(Exception):
    """Ends a request with a reply in the provider's own form."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = JSONResponse(body, status, dict(headers or {}))


@dataclass(frozen=True, slots=True)
class Core:
    """One sandbox: its store, its workers, its clock, and how much waiting it pretends.

    `own_models` are those that it plays beside the ones it knows. `accepted` holds the id of every prediction that a
    provider would have accepted, in order; `charged` the wire of each that has ended, and its charge in US dollars.
    `post_webhook` sends a webhook.
    """

    store: Store
    workers: WorkerPool
    clock: Callable[[], float]
    pace: float = 1.0
    public_url: str | None = None
    own_models: tuple[Model, ...] = ()
    post_webhook: PostWebhook = post_by_http
    accepted: list[str] = field(default_factory=list)
    charged: dict[str, tuple[str, float]] = field(default_factory=dict)

    def base(self, request: Request) -> str:
        """What the URLs that are handed out start with."""
        return (self.public_url or f"{request.url.scheme}://{request.url.netloc}").rstrip("/")

    def models(self, wire: str) -> list[Model]:
        """The models of a wire."""
        return [model for model in (*all_models(), *self.own_models) if model.wire == wire]

    def model(self, wire: str, name: str) -> Model | None:
        """The model of that name on a wire, or None."""
        return find_model(wire, name, self.own_models)

    def accept(
        self,
        id_: str,
        model: Model,
        given: JsonObject,
        *,
        deadline: float | None = None,
        start_by: float | None = None,
        forced: ForcedOutcome = _ORDINARY,
    ) -> Prediction:
        """Record a checked request and let it be computed; this is what costs money at a provider."""
        accepted = AcceptedRequest(
            id=id_,
            wire=model.wire,
            model=model.name,
            version=model.version or HIDDEN,
            input=given,
            created=self.clock(),
            turn=time.time_ns(),
            queue_seconds=_QUEUE_SECONDS * self.pace,
            run_seconds=model.run_seconds * self.pace if forced.run_seconds is None else forced.run_seconds,
            deadline=deadline,
            start_by=start_by,
            ends=forced.ends,
            failure=asdict(forced.failure) if forced.failure else None,
        )
        self.store.add(accepted)
        self.accepted.append(id_)
        self.workers.take(accepted)
        return Prediction(accepted)

    async def find(self, wire: str, id_: str, *, hold: bool = True) -> Prediction | None:
        """The prediction as it is now, or None. One whose worker died is computed by this process from here on.

        Where no waiting is pretended, the call lasts until the outcome is there, for some seconds, unless `hold` is
        False: so a first poll finds the prediction done.
        """
        known = self.store.get(id_)
        if known is None or known.request.wire != wire:
            return None
        self._take_over(known)
        if hold and known.outcome is None and known.request.queue_seconds + known.request.run_seconds == 0:
            if self.workers.has(id_):
                await to_thread.run_sync(self.workers.wait, id_, _HOLD_SECONDS, abandon_on_cancel=True)
            return self.store.get(id_)
        return known

    def _take_over(self, known: Prediction) -> None:
        is_over = known.outcome is not None or known.status(self.clock()).is_final
        id_ = known.request.id
        if not is_over and not self.workers.has(id_) and not self.store.is_attended(id_):
            self.workers.take(known.request)

    async def until_final(self, wire: str, id_: str, seconds: float) -> Prediction | None:
        """The prediction once it is final, or as it is after some seconds of the clock; None where there is none."""
        end = self.clock() + seconds
        while (known := await self.find(wire, id_)) is not None:
            if known.status(self.clock()).is_final or self.clock() >= end:
                break
            await anyio.sleep(_POLL_SECONDS)
        return known

    def cancel(self, known: Prediction) -> Prediction | None:
        """Cancel an open prediction; a final one stays as it is."""
        if not known.status(self.clock()).is_final:
            self.store.cancel(known.request.id, self.clock())
        return self.store.get(known.request.id)

    def bill(self, known: Prediction) -> Bill:
        """What a prediction is charged by now."""
        now, facts = self.clock(), known.outcome.metrics if known.outcome is not None else {}
        status, ended, failure = known.status(now), known.end_time(now), known.failure(now)
        active = max(0.0, ended - known.started) if ended is not None and known.started is not None else 0.0
        measured = Measured(
            computing_seconds=active,
            seconds=facts.get("video_output_duration_seconds", 0.0),
            frames=facts.get("video_output_frames", 0),
            width=facts.get("width", 0),
            height=facts.get("height", 0),
            input_seconds=facts.get("video_input_duration_seconds", 0.0),
            input_frames=facts.get("video_input_frames", 0),
        )
        refused = failure is not None and failure.field is not None
        request = known.request
        return bill_run(request.wire, request.model, request.input, measured, status, is_input_refused=refused)

    def charged_usd(self, wire: str) -> float:
        """What the predictions of a wire that this process accepted were charged together, as far as they ended."""
        now, total = self.clock(), 0.0
        for id_ in self.accepted:
            known = self.store.get(id_) if id_ not in self.charged else None
            if known is not None and known.status(now).is_final:
                self.charged[id_] = (known.request.wire, self.bill(known).usd)
            owner, usd = self.charged.get(id_, ("", 0.0))
            total += usd if owner == wire else 0.0
        return total

    def queue_position(self, known: Prediction) -> int:
        """How many are ahead: 2, 1, 0 while the queue is pretended, and as many as there truly are."""
        request = known.request
        left = request.created + request.queue_seconds - self.clock()
        pretended = int(_PLACES_AHEAD * left / request.queue_seconds) if left > 0 else 0
        return max(min(pretended, _PLACES_AHEAD - 1), self.workers.count_ahead(request.id))

    def recent(self, wire: str) -> list[Prediction]:
        """The predictions of a wire, the latest first."""
        return [one for one in self.store.newest_first() if one.request.wire == wire]

    def page(
        self, wire: str, skip: int, limit: int, matches: Callable[[ListEntry], bool]
    ) -> tuple[list[Prediction], bool]:
        """Some predictions of a wire, the latest first, and whether there are more: only those are read."""
        entries = [entry for entry in self.store.entries() if entry.wire == wire and matches(entry)]
        found = [self.store.get(entry.id) for entry in entries[skip : skip + limit]]
        return [one for one in found if one is not None], skip + limit < len(entries)

    def output(self, known: Prediction, base: str) -> Any:
        """The output with its URLs; None unless the prediction succeeded."""
        has_output = known.status(self.clock()) is RunStatus.SUCCEEDED and known.outcome is not None
        return _with_urls(known.outcome.output, base) if has_output and known.outcome else None

    async def receive(self, upload: UploadedFile, chunks: AsyncIterable[bytes]) -> UploadedFile:
        """Store the bytes of an upload as they come, never all of them at once."""
        with self.store.receive(upload) as incoming:
            await write_chunks(chunks, incoming)
            return await to_thread.run_sync(self.store.settle_upload, upload, incoming)

    def upload_url(self, upload: UploadedFile, base: str) -> str:
        """Where an upload can be read, with the ending that its name or type gives it."""
        ending = re.search(r"\.[a-z0-9]{1,5}$", upload.name.lower())
        return f"{base}/files/{upload.id}{ending[0] if ending else ''}"


def _with_urls(value: Any, base: str) -> Any:
    """A stored output with its references to the sandbox's own files made into URLs."""
    if isinstance(value, dict):
        return {name: _with_urls(inner, base) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_urls(inner, base) for inner in value]
    is_own = isinstance(value, str) and value.startswith(f"{OWN}/")
    return f"{base}{value.removeprefix(OWN)}" if is_own else value


Endpoint: TypeAlias = Callable[[Core, Request], Awaitable[Response]]
"""What answers the requests of one route."""


def make_routes(
    core: Core,
    rows: Iterable[tuple[str, str, str, Endpoint]],
    check_key: Callable[[Request], None] | None = None,
    route_class: type[Route] = Route,
) -> list[Route]:
    """Routes from rows of a name (`<wire>:<action>`, see `faults.operations`), a method, a path and an endpoint.

    Args:
        core: what the endpoints answer from.
        rows: the table.
        check_key: raises an `ErrorResponse` where a request has no key; None for routes that need none.
        route_class: how the routes match.
    """

    async def answer(endpoint: Endpoint, request: Request) -> Response:
        if check_key is not None:
            check_key(request)
        return await endpoint(core, request)

    return [
        route_class(path, partial(answer, endpoint), methods=method.split(), name=name)
        for name, method, path, endpoint in rows
    ]


def read_forced_outcome(request: Request) -> ForcedOutcome:
    """What a fault makes of the prediction that this request asks for."""
    forced: ForcedOutcome = request.scope.get(FORCED_OUTCOME, _ORDINARY)
    return forced


async def write_chunks(chunks: AsyncIterable[bytes], incoming: Incoming) -> None:
    """Write chunks as they come, off the event loop; more than any provider takes (2 GB) is refused."""
    async for chunk in chunks:
        if incoming.size + len(chunk) > _UPLOAD_LIMIT:
            raise HTTPException(413, "The file is larger than 2 GB.")
        await to_thread.run_sync(incoming.write, chunk)


async def read_chunks(part: UploadFile) -> AsyncIterator[bytes]:
    """The file part of a form, a chunk at a time."""
    while chunk := await part.read(_CHUNK):
        yield chunk


async def read_object(request: Request) -> JsonObject | None:
    """The body as a JSON object; None when it is anything else. A body of more than 100 MB is refused."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _BODY_LIMIT:
            raise HTTPException(413, "The body is larger than 100 MB.")
    try:
        parsed = json.loads(content or b"{}")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def integer_parameter(request: Request, name: str, default: int) -> int:
    """A query parameter that counts something; what is no whole number counts as not given."""
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else default


def time_parameter(request: Request, name: str) -> float | None:
    """A query parameter that is an ISO 8601 time, in seconds since the epoch; UTC where it names no zone."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        # A plus that was not escaped arrives as a space.
        parsed = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as problem:
        raise ErrorResponse(400, {"detail": f"{name} is not an ISO 8601 time."}) from problem
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def utc_time(at: float) -> str:
    """A time in seconds since the epoch in ISO 8601."""
    return datetime.fromtimestamp(at, UTC).isoformat()
