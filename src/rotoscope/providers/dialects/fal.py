"""The wire of fal's queue.

Facts: https://docs.fal.ai/model-apis/model-endpoints/queue and "request errors" there. The queue has three states
only; failure and cancellation are `COMPLETED` with an `error`, or an error status on the result. Status, result and
cancel lie under the first two segments of the endpoint, so the URLs of the reply are kept; they are used only on our
own base's origin, because the key goes with them. Only successful outputs are charged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import urlencode

from rotoscope.contracts.times import timestamp
from rotoscope.providers.dialects.base import Parcel, Placement
from rotoscope.providers.dialects.error_map import broke, heard, lost, unanswered, untaken
from rotoscope.providers.dialects.fal_results import is_unpaid, read_end, read_refusal, read_result
from rotoscope.providers.dialects.provider_text import lines, progress, unknown_status
from rotoscope.providers.dialects.urls import identifier, own_urls, web_url
from rotoscope.providers.http.messages import ECHO_BYTES, HttpCall, Json, Reply
from rotoscope.providers.recent import Listed, Page, Row, Sighting, listed, rows_in, seconds_of
from rotoscope.providers.states import Call, Failed, Open, Prediction, Ready, Ticket, Waiting, Working

__all__ = ["Fal"]

_SHORTEST_DEADLINE = 2
"""Seconds; the header must name more than one."""

_TIME_TO_START = ("X-Fal-Request-Start-Timeout", "X-Fal-Request-Timeout")
"""The header's name and its former one: fal's pages disagree which of them is read, and a run must not start late."""

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
        headers = {} if seconds is None else dict.fromkeys(_TIME_TO_START, str(max(seconds, _SHORTEST_DEADLINE)))
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
        """Word the request for an endpoint's list; None without a base for it. Not every key may read it.

        The list has the inputs only when it is asked for them.
        """
        return self._listing(call, timestamp(since, "milliseconds"), None, inputs=True)

    def sightings(self, reply: Reply, call: Call) -> Page:
        """Read a page of requests with their inputs; whether running ones are listed was not seen.

        A row without its input may be the one that is looked for, so the list is then not read as a whole.
        """
        fields = reply.fields()
        rows = listed(fields, "items", "requests")
        if not reply.ok or rows is None:
            raise unanswered(reply)
        read = [self.sighting(row, call) for row in rows]
        cursor = fields.get("next_cursor")
        can_follow = isinstance(cursor, str) and _can_be_sent(cursor)
        following = self._listing(call, None, str(cursor), inputs=True) if can_follow else None
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
        return self._listing(Call("", endpoint, {}), timestamp(since, "milliseconds"), None)

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

    def _listing(self, call: Call, start: str | None, cursor: str | None, *, inputs: bool = False) -> HttpCall | None:
        platform = self.bases.get("platform")
        if platform is None:
            return None
        expand = "payloads" if inputs else None
        asked = {"endpoint_id": call.endpoint, "start": start, "limit": "100", "cursor": cursor, "expand": expand}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        url = f"{platform.rstrip('/')}/v1/models/requests/by-endpoint?{query}"
        return HttpCall("GET", url, largest_reply=ECHO_BYTES)

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a queue status or a result, or raise what the reply stands for instead (see `Dialect.read`)."""
        match about:
            case Call():
                return self._accepted(reply, about)
            case Ready():
                return read_result(reply, about)
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
            raise broke(reply) if is_unpaid(reply) else untaken(reply)
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
            raise read_refusal(reply)
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
            return read_end(fields, ticket, logs)
        case "COMPLETED":
            metrics = fields.get("metrics")
            return Ready(ticket, logs, metrics if isinstance(metrics, dict) else {})
        case word:
            return Working(ticket, progress(logs), logs, unknown_status(word))


def _position(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
