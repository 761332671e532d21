"""The wire of fal's queue.

Facts: https://docs.fal.ai/model-apis/model-endpoints/queue and "request errors" there. The queue has three states
only; failure and cancellation are `COMPLETED` with an `error`, or an error status on the result. Status, result and
cancel lie under the first two segments of the endpoint, so the URLs of the reply are kept; they are used only on our
own base's origin, because the key goes with them. Only successful outputs are charged.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import urlencode

from rotoscope.errors import RotoscopeError
from rotoscope.predictions.dialects.addresses import identifier, own_urls, web_url
from rotoscope.predictions.dialects.shape import Parcel, Placement
from rotoscope.predictions.dialects.verdicts import (
    broke,
    empty,
    gone,
    heard,
    invalid,
    lost,
    refused,
    unanswered,
    untaken,
)
from rotoscope.predictions.dialects.words import lines, progress, quoted, said, unknown_status
from rotoscope.predictions.listing import Listed, Row, rows_in
from rotoscope.predictions.sightings import Page, Sighting, listed, moment, seconds_of
from rotoscope.predictions.states import (
    Call,
    Canceled,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)
from rotoscope.wire.messages import ECHO_BYTES, HttpCall, Json, Reply

__all__ = ["Fal"]

_SHORTEST_DEADLINE = 2
"""Seconds; the header must name more than one."""

_SILENCE = 120.0
"""Seconds without an event after which a stream counts as broken."""

_IN_ONE_PIECE = 90_000_000
_PART = 10_000_000
"""Bytes; the official npm client splits larger files, into parts of this size."""

_TAILS = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}
_NAMESPACES = {"workflows", "comfy"}


@dataclass(frozen=True, slots=True)
class Fal:
    """Speaks fal's queue at `bases["api"]`, its file storage at `bases["storage"]`, its list at `bases["platform"]`."""

    measures: ClassVar[Mapping[str, str]] = {"run_second": "inference_time"}
    bases: Mapping[str, str]

    def submit(self, call: Call) -> HttpCall:
        """Word the paying request; its body is the input itself.

        A deadline is sent as the time allowed until the start: what has not started by then must not start.
        """
        seconds = call.deadline_seconds
        headers = {} if seconds is None else {"X-Fal-Request-Timeout": str(max(seconds, _SHORTEST_DEADLINE))}
        return HttpCall("POST", f"{self._api}/{call.endpoint}", headers=headers, json=dict(call.input))

    def ask(self, state: Open) -> HttpCall:
        """Word the question for the status, or for the result once it is ready."""
        match state:
            case Ready():
                return HttpCall("GET", self._url(state.ticket, "response_url"), largest_reply=ECHO_BYTES)
            case _:
                url = self._url(state.ticket, "status_url")
                return HttpCall("GET", f"{url}{'&' if '?' in url else '?'}logs=1", largest_reply=ECHO_BYTES)

    def listen(self, ticket: Ticket) -> HttpCall | None:
        """Word the request for the stream of status changes; it ends when the run is completed."""
        url = f"{self._url(ticket, 'status_url')}/stream"
        return HttpCall("GET", url, headers={"Accept": "text/event-stream"}, patience_seconds=_SILENCE)

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Word the request to stop. A queued run is removed; a running one is asked to end and may not."""
        return HttpCall("PUT", self._url(ticket, "cancel_url"))

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """Its URLs are worded from the endpoint."""
        return Ticket(prediction_id, call.endpoint)

    def recent(self, call: Call, since: float) -> HttpCall | None:
        """Word the request for an endpoint's list; None without a base for it. Not every key may read it."""
        return self._listing(call, moment(since), None)

    def sightings(self, reply: Reply, call: Call) -> Page:
        """Read a page of requests with their inputs; whether running ones are listed was not seen."""
        fields = reply.fields()
        rows = listed(fields, "items", "requests")
        if not reply.ok or rows is None:
            raise unanswered(reply)
        read = [self.sighting(row, call) for row in rows]
        cursor = fields.get("next_cursor")
        following = self._listing(call, None, cursor) if isinstance(cursor, str) and _can_be_sent(cursor) else None
        whole = None not in read and (following is not None or not cursor)
        return Page(tuple(one for one in read if one is not None), following, whole)

    def record(self, call: Call, prediction_id: str) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: a status has no input, so a request is looked up in the list."""
        return None

    def sighting(self, row: Json, call: Call) -> Sighting | None:
        """Read one row of the list; None where it has no id or no input."""
        fields = row if isinstance(row, dict) else {}
        name, given = identifier(fields.get("request_id")), fields.get("json_input")
        if name is None or not isinstance(given, dict):
            return None
        return Sighting(Ticket(name, call.endpoint), given, seconds_of(fields.get("sent_at")))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:
        """Word the request for an endpoint's list; None without a base for it. Not every key may read it."""
        return self._listing(Call("", endpoint, {}), moment(since), None)

    def read_runs(self, reply: Reply, endpoint: str) -> Listed:
        """Read a page. What its rows say of a result is another shape than the result's own, so that is asked for."""
        if not reply.ok:
            raise unanswered(reply)
        fields = reply.fields()
        rows = [(identifier(row.get("request_id")), row) for row in rows_in(fields, "items", "requests")]
        cursor = fields.get("next_cursor")
        shown = tuple(Row(name, _has_ended(row)) for name, row in rows if name is not None)
        if not isinstance(cursor, str) or not _can_be_sent(cursor):
            return Listed(shown)
        return Listed(shown, self._listing(Call("", endpoint, {}), None, cursor))

    def _listing(self, call: Call, start: str | None, cursor: str | None) -> HttpCall | None:
        platform = self.bases.get("platform")
        if platform is None:
            return None
        asked = {"endpoint_id": call.endpoint, "start": start, "limit": "100", "cursor": cursor}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        url = f"{platform.rstrip('/')}/v1/models/requests/by-endpoint?{query}"
        return HttpCall("GET", url, largest_reply=ECHO_BYTES)

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a queue status or a result, or raise what the reply stands for instead (see `Dialect.read`)."""
        match about:
            case Call():
                return self._accepted(reply, about)
            case Ready():
                return _result(reply, about)
            case _:
                return _status(reply, about.ticket)

    def upload(self, parcel: Parcel) -> HttpCall | None:
        """Word the request for an upload address; None without a storage base."""
        storage = self.bases.get("storage")
        if storage is None:
            return None
        kind = "initiate" if parcel.size <= _IN_ONE_PIECE else "initiate-multipart"
        url = f"{storage.rstrip('/')}/storage/upload/{kind}?storage_type=fal-cdn-v3"
        return HttpCall("POST", url, json={"file_name": parcel.name, "content_type": parcel.content_type})

    def placed(self, reply: Reply, parcel: Parcel) -> Placement:
        """Read the upload address, which is signed: the file goes there without the key."""
        fields = reply.fields() if reply.ok else {}
        target, url = web_url(fields.get("upload_url")), web_url(fields.get("file_url"))
        if target is None or url is None:
            raise broke(reply) if _unpaid(reply) else untaken(reply)
        headers = {"Content-Type": parcel.content_type}
        whole = HttpCall("PUT", target, headers=headers, source=parcel.path, with_key=False)
        if parcel.size <= _IN_ONE_PIECE:
            return Placement(url, (whole,))
        starts = enumerate(range(0, parcel.size, _PART), start=1)
        parts = (replace(whole, url=_below(target, str(n)), span=(start, _PART)) for n, start in starts)
        return Placement(url, tuple(parts), HttpCall("POST", _below(target, "complete"), with_key=False))

    @property
    def _api(self) -> str:
        return self.bases["api"].rstrip("/")

    def _url(self, ticket: Ticket, name: str) -> str:
        kept = own_urls(ticket.urls, [name], self._api)
        return kept.get(name, f"{self._api}/{_app(ticket.endpoint)}/requests/{ticket.id}{_TAILS[name]}")

    def _accepted(self, reply: Reply, call: Call) -> Prediction:
        if not reply.ok:
            raise _refused(reply)
        fields = reply.fields()
        name = identifier(fields.get("request_id"))
        if name is None:
            raise lost(reply)
        return _state(fields, Ticket(name, call.endpoint, own_urls(fields, _TAILS, self._api)))


def _below(signed: str, step: str) -> str:
    """An address below a signed one, with the same signature in its query."""
    path, mark, query = signed.partition("?")
    return f"{path}/{step}{mark}{query}"


def _has_ended(row: Mapping[str, Json]) -> bool:
    return isinstance(row.get("ended_at"), str) or isinstance(row.get("status_code"), int)


def _can_be_sent(cursor: str) -> bool:
    """Whether it can go into a query: half a character, which JSON can hold, cannot."""
    return bool(cursor) and cursor.isprintable()


def _app(endpoint: str) -> str:
    steps = endpoint.split("/")
    return "/".join(steps[: 3 if steps[0] in _NAMESPACES else 2])


def _refused(reply: Reply) -> RotoscopeError:
    if _unpaid(reply):
        return broke(reply)
    fields = reply.fields()
    if _POLICY in (*_detail_types(fields), _kind(reply, fields)) and reply.status in {400, 422}:
        return invalid(
            reply,
            "The provider's content policy refuses the input.",
            "Change the prompt or the media.",
            "content_policy",
        )
    return refused(reply)


def _unpaid(reply: Reply) -> bool:
    """Whether the account has run dry. fal mostly says so under 403, which also means other locks."""
    return reply.status == 402 or (reply.status == 403 and bool(_EXHAUSTED.search(said(reply) or "")))  # noqa: PLR2004 - the wire's own numbers


def _status(reply: Reply, ticket: Ticket) -> Prediction:
    fields = heard(reply, ticket)
    return fields if isinstance(fields, Failed) else _state(fields, ticket)


def _state(fields: dict[str, Json], ticket: Ticket) -> Prediction:
    logs = lines(fields.get("logs"))
    match fields.get("status"):
        case "IN_QUEUE":
            return Waiting(ticket, _position(fields.get("queue_position")), logs)
        case "IN_PROGRESS":
            return Working(ticket, progress(logs), logs)
        case "COMPLETED" if fields.get("error") or fields.get("error_type"):
            return _ended(_error_type(fields), ticket, quoted(fields.get("error")), logs)
        case "COMPLETED":
            metrics = fields.get("metrics")
            return Ready(ticket, logs, metrics if isinstance(metrics, dict) else {})
        case word:
            return Working(ticket, progress(logs), logs, unknown_status(word))


def _position(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _result(reply: Reply, about: Ready) -> Prediction:
    """Read the answer to the question for a result.

    fal repeats the model's own error status here. It is told from an answer that only failed on its way (and is
    asked for again) by what it carries: a known error type, or fal's own form of an error, `detail`, under a status
    that no gateway on the way gives.
    """
    if reply.status in {404, 410}:
        return gone(about.ticket)
    if reply.ok and reply.status != 202:  # noqa: PLR2004 - 202 is fal's word for "still running"
        return _output(reply, about)
    fields = reply.fields()
    if reply.status in _NO_VERDICT or _unfinished(reply, fields):
        raise unanswered(reply)
    if reply.headers.get("x-fal-request-timeout-type") == "user":
        return _ended("request_timeout", about.ticket, said(reply), about.logs)
    kind = _kind(reply, fields)
    if kind in _ENDS or kind == _STOPPED:
        return _ended(kind, about.ticket, said(reply), about.logs)
    types = _detail_types(fields)
    if types or (fields.get("detail") and _is_the_models(reply.status)):
        return _rejected(types, reply, about)
    raise unanswered(reply)


_NO_VERDICT = frozenset({202, 401, 402, 403, 408, 409, 425, 429})
"""What is said of the question, the key or the moment, and not of the run."""


def _is_the_models(status: int) -> bool:
    """Whether fal's own error form under this status is the end of the run: 502 to 504 may be an answer that passes."""
    return 400 <= status <= 500  # noqa: PLR2004 - client errors, and the plain server error


def _unfinished(reply: Reply, fields: dict[str, Json]) -> bool:
    return fields.get("status") in ("IN_QUEUE", "IN_PROGRESS") or "in progress" in (said(reply) or "").lower()


def _output(reply: Reply, about: Ready) -> Prediction:
    match reply.json():
        case None if reply.body.strip() == b"null":
            return empty(about.ticket, about.logs)
        case None:
            raise unanswered(reply)
        case output:
            return Succeeded(about.ticket, output, about.metrics, about.logs)


_POLICY = "content_policy_violation"
_EXHAUSTED = re.compile(r"exhausted balance|top[_ ]up", re.IGNORECASE)

# The types of `detail` that speak of what was given: pydantic's own and fal's for media.
_ABOUT_INPUT = re.compile(
    r"missing|enum|extra_forbidden|(value|literal|assertion)_error|(greater|less)_than.*|multiple_of"
    r"|.*_(type|parsing|too_(large|small|long|short)|pattern_mismatch|load_error|download_error|format)"
)


_SAYS_NOTHING = "Internal Server Error"
"""The words of a server that was surprised; those of a model, or of fal's queue."""

_POLICY_WORDS = re.compile(r"content[_ ]policy|flagged as", re.IGNORECASE)


def _detail_types(fields: dict[str, Json]) -> list[str]:
    detail = fields.get("detail")
    items = detail if isinstance(detail, list) else [detail]
    return [kind for item in items if isinstance(item, dict) and isinstance(kind := item.get("type"), str)]


def _error_type(fields: dict[str, Json]) -> str:
    kind = fields.get("error_type")
    return kind if isinstance(kind, str) else ""


def _kind(reply: Reply, fields: dict[str, Json]) -> str:
    return _error_type(fields) or reply.headers.get("x-fal-error-type", "")


def _rejected(types: list[str], reply: Reply, about: Ready) -> Failed:
    """A run that ended with an error of the model's: by the types of its details, else by its words and status."""
    words = said(reply)
    about_input = all(map(_ABOUT_INPUT.fullmatch, types)) if types else reply.status < 500  # noqa: PLR2004 - a 4xx
    if _POLICY in types or (not types and _POLICY_WORDS.search(words or "")):
        code, message = "content_policy", "The provider's content policy refused the run."
    elif about_input:
        code, message = "invalid_input", "The model does not accept the input."
    elif types or words != _SAYS_NOTHING:
        code, message = "prediction_failed", "The model ran and failed."
    else:
        # It may be the model's end or a fault on the way, so nothing is said of money, and it can be taken up again.
        message = "The provider could not give the result."
        return Failed(about.ticket, "provider_error", message, words, logs=about.logs)
    return Failed(about.ticket, code, message, words, charged=False, logs=about.logs)


def _ended(kind: str, ticket: Ticket, words: str | None, logs: tuple[str, ...]) -> Prediction:
    if kind == _STOPPED:
        return Canceled(ticket, charged=False, logs=logs)
    code, message = _ENDS.get(kind, ("prediction_failed", "The model ran and failed."))
    return Failed(ticket, code, message, words, charged=False, logs=logs)


_STOPPED = "client_cancelled"
_PROVIDERS_FAULT = (
    "startup_timeout",
    "runner_scheduling_failure",
    "runner_connection_timeout",
    "runner_disconnected",
    "runner_connection_refused",
    "runner_connection_error",
    "runner_incomplete_response",
    "runner_server_error",
    "internal_error",
    "client_disconnected",
)
_ENDS: Mapping[str, tuple[str, str]] = {
    "request_timeout": ("rate_limited", "The run did not start in time."),
    "bad_request": ("invalid_input", "The provider does not accept the input."),
    _POLICY: ("content_policy", "The provider's content policy refused the run."),
    **dict.fromkeys(_PROVIDERS_FAULT, ("provider_error", "The provider could not run the model.")),
}
"""fal's `error_type` words with our code and message; any other word is the model's own failure."""
