"""What the three wires share: accepting a prediction, looking at it, canceling it, and wording its URLs."""

import json
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from rotoscope_sandbox.models import Model
from rotoscope_sandbox.predictions import HIDDEN, Fate, JsonObject, Order, Prediction, Stage
from rotoscope_sandbox.store import Incoming, Mark, Store, Upload
from rotoscope_sandbox.work import OWN, Crew

__all__ = ["FATE", "Refusal", "Site", "fate_of", "moment", "pieces", "poured", "read_object", "whole"]

FATE = "sandbox.fate"
"""The key of an ASGI scope under which a fault says what is to become of the prediction."""

_QUEUE_SECONDS = 0.3
_PLACES_AHEAD = 3
_HOLD_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_MOST_DIGITS = 9
_BODY_LIMIT = 100 * 1024 * 1024
_UPLOAD_LIMIT = 2 * 1024**3
_CHUNK = 1024 * 1024
_ORDINARY = Fate()


class Refusal(Exception):
    """Ends a request with a reply in the provider's own shape."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = JSONResponse(body, status, dict(headers or {}))


@dataclass(frozen=True, slots=True)
class Site:
    """One sandbox: its memory, its workers, its clock, and how much waiting it pretends.

    `accepted` holds the id of every prediction that a provider would have charged, in order; `charged` what those
    cost of which an end was told, in US dollars, where the wire tells a cost.
    """

    store: Store
    crew: Crew
    clock: Callable[[], float]
    pace: float = 1.0
    public_url: str | None = None
    accepted: list[str] = field(default_factory=list)
    charged: dict[str, float] = field(default_factory=dict)

    def base(self, request: Request) -> str:
        """What the URLs that are handed out start with."""
        return (self.public_url or f"{request.url.scheme}://{request.url.netloc}").rstrip("/")

    def accept(
        self,
        id_: str,
        model: Model,
        given: JsonObject,
        *,
        deadline: float | None = None,
        start_by: float | None = None,
        fate: Fate = _ORDINARY,
    ) -> Prediction:
        """Remembers a checked request and lets it be computed; this is what costs money at a provider."""
        order = Order(
            id=id_,
            wire=model.wire,
            model=model.name,
            version=model.version or HIDDEN,
            input=given,
            created=self.clock(),
            turn=time.time_ns(),
            queue_seconds=_QUEUE_SECONDS * self.pace,
            run_seconds=model.run_seconds * self.pace if fate.run_seconds is None else fate.run_seconds,
            deadline=deadline,
            start_by=start_by,
            ends=fate.ends,
            failure=asdict(fate.failure) if fate.failure else None,
        )
        self.store.add(order)
        self.accepted.append(id_)
        self.crew.take(order)
        return Prediction(order)

    async def look(self, wire: str, id_: str, *, hold: bool = True) -> Prediction | None:
        """The prediction as it is now. One whose worker died is computed by this process from here on.

        Where no waiting is pretended, it holds on for some seconds until the outcome is there, unless told not to.
        """
        known = self.store.get(id_)
        if known is None or known.order.wire != wire:
            return None
        self._adopt(known)
        if hold and known.outcome is None and known.order.queue_seconds + known.order.run_seconds == 0:
            await self._computed(id_, _HOLD_SECONDS)
            return self.store.get(id_)
        return known

    def _adopt(self, known: Prediction) -> None:
        over = known.outcome is not None or known.stage(self.clock()).final
        if not over and not self.crew.has(known.order.id) and not self.store.attended(known.order.id):
            self.crew.take(known.order)

    async def _computed(self, id_: str, seconds: float) -> None:
        if self.crew.has(id_):
            await to_thread.run_sync(self.crew.wait, id_, seconds, abandon_on_cancel=True)

    async def until_final(self, wire: str, id_: str, seconds: float) -> Prediction | None:
        """The prediction when nothing changes any more, or as it is after some seconds of the clock."""
        end = self.clock() + seconds
        while (known := await self.look(wire, id_)) is not None:
            if known.stage(self.clock()).final or self.clock() >= end:
                break
            await anyio.sleep(_LOOK_SECONDS)
        return known

    def cancel(self, known: Prediction) -> Prediction | None:
        """Cancels an open prediction; a final one stays as it is."""
        if not known.stage(self.clock()).final:
            self.store.cancel(known.order.id, self.clock())
        return self.store.get(known.order.id)

    def queue_position(self, known: Prediction) -> int:
        """How many are ahead: 2, 1, 0 while the queue is pretended, and as many as there truly are."""
        order = known.order
        left = order.created + order.queue_seconds - self.clock()
        pretended = int(_PLACES_AHEAD * left / order.queue_seconds) if left > 0 else 0
        return max(min(pretended, _PLACES_AHEAD - 1), self.crew.ahead(order.id))

    def recent(self, wire: str) -> list[Prediction]:
        """The predictions of a wire, the latest first."""
        return [one for one in self.store.newest_first() if one.order.wire == wire]

    def page(
        self, wire: str, skipped: int, limit: int, wanted: Callable[[Mark], bool]
    ) -> tuple[list[Prediction], bool]:
        """Some predictions of a wire, the latest first, and whether there are more: only those are read."""
        marks = [mark for mark in self.store.marks() if mark.wire == wire and wanted(mark)]
        found = [self.store.get(mark.id) for mark in marks[skipped : skipped + limit]]
        return [one for one in found if one is not None], skipped + limit < len(marks)

    def worded(self, value: Any, base: str) -> Any:
        """A stored output with its references to our own files made into URLs."""
        if isinstance(value, dict):
            return {name: self.worded(inner, base) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.worded(inner, base) for inner in value]
        own = isinstance(value, str) and value.startswith(f"{OWN}/")
        return f"{base}{value.removeprefix(OWN)}" if own else value

    def output(self, known: Prediction, base: str) -> Any:
        """The output with its URLs; None unless the prediction succeeded."""
        succeeded = known.stage(self.clock()) is Stage.SUCCEEDED and known.outcome is not None
        return self.worded(known.outcome.output, base) if succeeded and known.outcome else None

    async def receive(self, upload: Upload, chunks: AsyncIterable[bytes]) -> Upload:
        """Takes the bytes of an upload as they come, never all of them at once."""
        with self.store.receive(upload) as came:
            await poured(chunks, came)
            return await to_thread.run_sync(self.store.received, upload, came)

    def upload_url(self, upload: Upload, base: str) -> str:
        """Where an upload can be read, with the ending that its name or type gives it."""
        ending = re.search(r"\.[a-z0-9]{1,5}$", upload.name.lower())
        return f"{base}/files/{upload.id}{ending[0] if ending else ''}"


def fate_of(request: Request) -> Fate:
    """What a fault wants to become of the prediction that this request asks for."""
    fate: Fate = request.scope.get(FATE, _ORDINARY)
    return fate


async def poured(chunks: AsyncIterable[bytes], came: Incoming) -> None:
    """Writes chunks down as they come, off the event loop; more than any provider takes (2 GB) is refused."""
    async for chunk in chunks:
        if came.size + len(chunk) > _UPLOAD_LIMIT:
            raise HTTPException(413, "The file is larger than 2 GB.")
        await to_thread.run_sync(came.write, chunk)


async def pieces(part: UploadFile) -> AsyncIterator[bytes]:
    """The file part of a form, piece by piece."""
    while chunk := await part.read(_CHUNK):
        yield chunk


async def _body(request: Request) -> bytes:
    """The body, refused when it is larger than any provider takes (100 MB)."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _BODY_LIMIT:
            raise HTTPException(413, "The body is larger than 100 MB.")
    return bytes(content)


async def read_object(request: Request) -> JsonObject | None:
    """The body as a JSON object; None when it is anything else."""
    try:
        parsed = json.loads(await _body(request) or b"{}")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def whole(request: Request, name: str, default: int) -> int:
    """A query parameter that counts something; what is no whole number counts as not given."""
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else default


def moment(request: Request, name: str) -> float | None:
    """A query parameter that is an ISO 8601 time, in seconds since the epoch; UTC where it names no zone."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        # A plus that nobody escaped arrives as a space.
        parsed = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as problem:
        raise Refusal(400, {"detail": f"{name} is not an ISO 8601 time."}) from problem
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
