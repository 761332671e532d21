"""The wire of Segmind: the one-shot `v1` and the asynchronous `v2`.

Facts: https://www.segmind.com/models/sam-v2-image/api and the source of the official client. Only HTTP 200 is
billed. There is no way to cancel. A v1 reply is the result itself; its request has no id until then. A v2 run that
failed is a normal body under HTTP 422, so the body's status counts before the number. HTTP 406 means no credit, a
team's cap or a wrong content type: the text decides.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import urlencode

from rotoscope.errors import RotoscopeError
from rotoscope.predictions.dialects.addresses import identifier, own_urls, trunk, web_url
from rotoscope.predictions.dialects.shape import Parcel, Placement
from rotoscope.predictions.dialects.verdicts import broke, empty, gone, invalid, lost, refused, unanswered, untaken
from rotoscope.predictions.dialects.words import cleaned, number, quoted, said, unknown_status
from rotoscope.predictions.listing import Listed
from rotoscope.predictions.sightings import Page, Sighting, listed, seconds_of
from rotoscope.predictions.states import (
    Blob,
    Call,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)
from rotoscope.wire.messages import ECHO_BYTES, MEDIA_BYTES, HttpCall, Json, Reply

__all__ = ["Segmind"]

_ONE_SHOT_SECONDS = 120
"""The least time that a v1 reply is waited for; a reply that is given up is a paid result that is lost."""

_HISTORY = "/inference-request/request-history"
_ROW = "row_url"
_PER_PAGE = 100

_TAILS = {"status_url": "/status", "response_url": ""}


@dataclass(frozen=True, slots=True)
class Segmind:
    """Speaks Segmind at `bases["api"]`, with or without a version at its end.

    Uploads go to `bases["assets"]`, and the history of requests is at `bases["history"]`.
    """

    # Neither its `x-cost`, `metrics.cost` and `credits_deduction` nor its times come with a unit in any document.
    measures: ClassVar[Mapping[str, str]] = {}
    bases: Mapping[str, str]

    def submit(self, call: Call) -> HttpCall:
        """Word the paying request in the call's form, `v1` or `v2`; its body is the input itself.

        A v1 reply begins only when the model has finished, so it is waited for until the call's deadline or longer.
        """
        body = dict(call.input)
        if call.form == "v2":
            return HttpCall("POST", f"{self._api}/v2/{call.endpoint}", json=body)
        patience = float(max(call.deadline_seconds or 0, _ONE_SHOT_SECONDS))
        url = f"{self._api}/v1/{call.endpoint}"
        return HttpCall("POST", url, json=body, patience_seconds=patience, largest_reply=MEDIA_BYTES)

    def ask(self, state: Open) -> HttpCall:
        """Word the question for the status, or for the result once it is ready; for a v1 request, for its history."""
        row = own_urls(state.ticket.urls, [_ROW], self.bases.get("history", ""))
        if row:
            return HttpCall("GET", row[_ROW], largest_reply=ECHO_BYTES)
        name = "response_url" if isinstance(state, Ready) else "status_url"
        kept = own_urls(state.ticket.urls, [name], self._api)
        return HttpCall("GET", kept.get(name, f"{self._api}/v2/requests/{state.ticket.id}{_TAILS[name]}"))

    def listen(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None. It has none."""
        return None

    def cancel(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: Segmind has no cancel; the run goes on and is charged when it succeeds."""
        return None

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """A v1 request can be asked about in the history only; its row has no other place."""
        history = self.bases.get("history")
        if call.form == "v2" or history is None:
            return Ticket(prediction_id, call.endpoint)
        row = f"{history.rstrip('/')}{_HISTORY}/{prediction_id}"
        return Ticket(prediction_id, call.endpoint, {_ROW: row})

    def recent(self, call: Call, since: float) -> HttpCall | None:
        """Word the request for a model's history, which is asked for by days (UTC); None without a base for it."""
        return self._past(call, since)

    def sightings(self, reply: Reply, call: Call) -> Page:
        """Read the newest requests with their bodies. One with several outputs has several rows."""
        rows = listed(reply.fields(), "data", "items", "requests")
        if not reply.ok or rows is None:
            raise unanswered(reply)
        read = [self.sighting(row, call) for row in rows if not _is_of_another(row, call)]
        # A full page may have another behind it, and nothing in the reply says which is the last.
        whole = None not in read and len(rows) < _PER_PAGE
        return Page(tuple(one for one in read if one is not None), whole=whole)

    def record(self, call: Call, prediction_id: str) -> HttpCall | None:
        """Word the question for one row of the history; None without a base for it."""
        row = self.ticket(replace(call, form="v1"), prediction_id).urls.get(_ROW)
        return HttpCall("GET", row, largest_reply=ECHO_BYTES) if row else None

    def sighting(self, row: Json, call: Call) -> Sighting | None:
        """Read one row of the history; None where it is of another model, or has no id or no body."""
        fields = row if isinstance(row, dict) and not _is_of_another(row, call) else {}
        name, given = identifier(fields.get("request_id")), fields.get("request_body")
        if name is None or not isinstance(given, dict):
            return None
        return Sighting(self.ticket(call, name), given, seconds_of(fields.get("created_at")))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: its history has no run that goes on, and lists by days."""
        return None

    def read_runs(self, reply: Reply, endpoint: str) -> Listed:  # noqa: ARG002 - the protocol's signature
        """Nothing, for nothing is asked."""
        return Listed(())

    def _past(self, call: Call, since: float) -> HttpCall | None:
        history = self.bases.get("history")
        if history is None:
            return None
        first = datetime.fromtimestamp(since, UTC).date()
        asked = {"page": 1, "per_page": _PER_PAGE, "from_date": first, "to_date": first + timedelta(days=2)}
        query = urlencode({**asked, "model_name": call.endpoint, "sort_order": "desc"})
        return HttpCall("GET", f"{history.rstrip('/')}{_HISTORY}?{query}", largest_reply=ECHO_BYTES)

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a result or a status, or raise what the reply stands for instead (see `Dialect.read`).

        A v1 reply of HTTP 500 with Segmind's own `error` text is a `Failed` that was not charged.
        """
        match about:
            case Call(form="v2"):
                return self._accepted(reply, about)
            case Call():
                return _one_shot(reply, about)
            case _ if _ROW in about.ticket.urls:
                return _row(reply, about.ticket)
            case _:
                return _answered(reply, about)

    def upload(self, parcel: Parcel) -> HttpCall | None:
        """Word the upload of one file, which travels as a data URI; None without a base for assets."""
        assets = self.bases.get("assets")
        if assets is None:
            return None
        data_uris = {"data_urls": ((parcel.path, parcel.content_type),)}
        return HttpCall("POST", f"{assets.rstrip('/')}/upload-asset", data_uris=data_uris)

    def placed(self, reply: Reply, parcel: Parcel) -> Placement:  # noqa: ARG002 - the protocol's signature
        """Read the address of the uploaded file."""
        urls = reply.fields().get("file_urls") if reply.ok else None
        url = web_url(urls[0]) if isinstance(urls, list) and urls else None
        if url is None:
            raise broke(reply) if _speaks_of_credit(reply) else untaken(reply)
        return Placement(url)

    @property
    def _api(self) -> str:
        return trunk(self.bases["api"])

    def _accepted(self, reply: Reply, call: Call) -> Prediction:
        fields = reply.fields()
        name = identifier(fields.get("request_id"))
        ticket = Ticket(name, call.endpoint, own_urls(fields, _TAILS, self._api)) if name else None
        if _has_failed(reply):
            return _failed(reply, ticket)
        if not reply.ok:
            raise _refused(reply)
        if ticket is None:
            raise lost(reply)
        return _status(fields, ticket)


def _is_of_another(row: Json, call: Call) -> bool:
    """Whether a row of the history surely tells of another model."""
    name = row.get("model_name") if isinstance(row, dict) else None
    return isinstance(name, str) and bool(name) and name != call.endpoint


# --- refusals

_NOT_ACCEPTABLE = 406
_FAILED_RUN = 422
_CREDIT = re.compile(r"\b(credits?|balance|cap|limits?)\b", re.IGNORECASE)
_CONTENT_TYPE = re.compile(r"content[ -]?type", re.IGNORECASE)


def _refused(reply: Reply) -> RotoscopeError:
    return _unacceptable(reply) if reply.status == _NOT_ACCEPTABLE else refused(reply)


def _speaks_of_credit(reply: Reply) -> bool:
    return reply.status == _NOT_ACCEPTABLE and bool(_CREDIT.search(said(reply) or ""))


def _unacceptable(reply: Reply) -> RotoscopeError:
    if _CONTENT_TYPE.search(said(reply) or "") and not _speaks_of_credit(reply):
        return invalid(
            reply, "The provider does not take the form of our request.", "Report this as a defect of rotoscope."
        )
    return broke(reply)


def _has_failed(reply: Reply) -> bool:
    return (reply.ok or reply.status == _FAILED_RUN) and reply.fields().get("status") == "FAILED"


def _failed(reply: Reply, ticket: Ticket | None) -> Failed:
    words = quoted(reply.fields().get("error"))
    return Failed(ticket, "prediction_failed", "The model ran and failed.", words, charged=False)


# --- v1: the reply is the result


def _one_shot(reply: Reply, call: Call) -> Prediction:
    name = identifier(reply.headers.get("x-request-id"))
    ticket = Ticket(name, call.endpoint) if name else None
    fields = reply.fields()
    if _has_failed(reply):
        return _failed(reply, ticket)
    if reply.status == 500 and quoted(fields.get("error")):  # noqa: PLR2004 - a 502 to 504 is not Segmind's own word
        message = "The provider could not run the model."
        return Failed(ticket, "provider_error", message, quoted(fields.get("error")), charged=False)
    if not reply.ok:
        raise _refused(reply)
    output = _output(reply)
    if output is None:
        raise lost(reply)
    return Succeeded(ticket, output, _metrics(reply))


def _output(reply: Reply) -> Json | Blob:
    """The media in the reply, as bytes or as base64 in JSON; else the JSON itself; None for anything else."""
    kind = reply.content_type
    if kind.startswith(("image/", "video/", "audio/")):
        return Blob(reply.body, kind) if reply.body else None
    if blob := _media(reply.body):
        return blob
    if kind not in {"application/json", ""}:
        return None
    parsed = reply.json()
    return next(filter(None, map(_decoded, _texts(parsed))), None) or (parsed if _is_result(parsed) else None)


def _is_result(parsed: Json) -> bool:
    return isinstance(parsed, dict | list) and bool(parsed)


def _texts(parsed: Json) -> Iterable[str]:
    """Where base64 may stand. The member's name is documented nowhere; `image` was seen, so it goes first."""
    match parsed:
        case str():
            yield parsed
        case dict():
            values = (parsed.get("image"), *parsed.values())
            yield from (value for value in values if isinstance(value, str))


def _decoded(text: str) -> Blob | None:
    plain = "".join(text.rpartition("base64,")[2].split())
    try:
        return _media(base64.b64decode(plain, validate=True))
    except ValueError:
        return None


_SIGNS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "video/mp4"),
)


def _media(content: bytes) -> Blob | None:
    return next((Blob(content, kind) for sign, kind in _SIGNS if sign.match(content)), None)


_NUMBERS = {
    "x-cost": "cost",
    "x-generation-time": "generation_time",
    "x-remaining-credits": "remaining_credits",
    "x-seed-value": "seed",
}


def _metrics(reply: Reply) -> dict[str, Json]:
    told = reply.fields().get("metrics")
    metrics: dict[str, Json] = dict(told) if isinstance(told, dict) else {}
    for header, name in _NUMBERS.items():
        if (value := number(reply.headers.get(header))) is not None:
            metrics[name] = value
    if sandbox := _sandbox(reply.headers):
        metrics["sandbox"] = sandbox
    return metrics


def _sandbox(headers: Mapping[str, str]) -> dict[str, Json]:
    """What the sandbox says beside a v1 result; the wire has no other place for it."""
    told: dict[str, Json] = {
        name: cleaned(headers[f"x-sandbox-{name}"])
        for name in ("method", "confidence", "notice")
        if f"x-sandbox-{name}" in headers
    }
    if "confidence" in told:
        confidence = number(headers["x-sandbox-confidence"])
        told["confidence"] = None if confidence is None else float(confidence)
    return told


# --- v2: a status, then a result


def _answered(reply: Reply, about: Open) -> Prediction:
    if _has_failed(reply):
        return _failed(reply, about.ticket)
    if reply.status in {404, 410}:
        return gone(about.ticket)
    fields = reply.fields()
    if not reply.ok or not isinstance(fields.get("status"), str):
        raise unanswered(reply)
    if not isinstance(about, Ready):
        return _status(fields, about.ticket)
    if fields["status"] != "COMPLETED":
        raise unanswered(reply)
    return _result(reply, about.ticket)


def _status(fields: Mapping[str, Json], ticket: Ticket) -> Prediction:
    match fields.get("status"):
        case "QUEUED":
            return Waiting(ticket)
        case "PROCESSING":
            return Working(ticket)
        case "COMPLETED":
            return Ready(ticket)
        case word:
            return Working(ticket, note=unknown_status(word))


def _result(reply: Reply, ticket: Ticket) -> Prediction:
    output = reply.fields().get("output")
    return empty(ticket) if output is None else Succeeded(ticket, output, _metrics(reply))


# --- the history: the only place where a v1 request can be asked about


def _row(reply: Reply, ticket: Ticket) -> Prediction:
    if reply.status in {404, 410}:
        return gone(ticket)
    fields = reply.fields()
    if not reply.ok or not isinstance(fields.get("model_status"), str):
        raise unanswered(reply)
    match fields["model_status"]:
        case "PENDING":
            return Working(ticket)
        case "COMPLETED":
            url = web_url(fields.get("generation_url"))
            return empty(ticket) if url is None else Succeeded(ticket, url, {"cost": fields.get("credits_deduction")})
        case "FAILED":
            words = quoted(fields.get("error"))
            return Failed(ticket, "prediction_failed", "The model ran and failed.", words, charged=False)
        case word:
            return Working(ticket, note=unknown_status(word))
