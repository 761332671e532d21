"""The wire of fal's queue.

Facts: https://docs.fal.ai/model-apis/model-endpoints/queue and "request errors" there. The queue has three states
only; failure and cancellation are `COMPLETED` with an `error`, or an error status on the result. Status, result and
cancel lie under the first two segments of the endpoint, so the ticket keeps the URLs of the reply; they are used only
on the origin of our own base URL, because the key goes with them. Only successful outputs are charged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import urlencode

from rotoscope.contracts.times import timestamp
from rotoscope.providers.billing import ChargePage, PricePage
from rotoscope.providers.dialects.base import UploadFile, UploadPlan
from rotoscope.providers.dialects.error_map import (
    credit_error,
    parse_status,
    poll_error,
    reply_lost_error,
    upload_error,
)
from rotoscope.providers.dialects.fal_billing import (
    build_charge_call,
    build_price_call,
    read_charge_page,
    read_price_page,
)
from rotoscope.providers.dialects.fal_results import is_credit_refusal, read_fal_refusal, read_final_status, read_result
from rotoscope.providers.dialects.fal_webhooks import (
    add_fal_webhook,
    can_verify_fal_webhooks,
    read_fal_keys,
    read_fal_webhook,
)
from rotoscope.providers.dialects.provider_text import log_lines, log_progress, unknown_status_note
from rotoscope.providers.http.messages import ECHO_BYTES, HttpCall, Json, Reply, safe_id, same_origin_urls, web_url
from rotoscope.providers.recent import (
    RecentPage,
    RecentPrediction,
    RunPage,
    RunRow,
    find_rows,
    object_rows,
    unix_seconds,
)
from rotoscope.providers.states import Call, Failed, Open, Prediction, Ready, Ticket, Waiting, Working
from rotoscope.providers.webhooks import Rejection, WebhookDelivery, WebhookKeys, WebhookNotice

__all__ = ["Fal"]

_MIN_DEADLINE = 2
"""Seconds; the header must name more than one."""

_START_TIMEOUT_HEADERS = ("X-Fal-Request-Start-Timeout", "X-Fal-Request-Timeout")
"""The header's name and its former name: fal's pages disagree which one is read, and a run must not start late."""

_STREAM_TIMEOUT = 120.0
"""Seconds without an event after which a stream counts as broken."""

_MAX_SINGLE_UPLOAD = 90_000_000
_PART_BYTES = 10_000_000
"""Bytes; the official npm client splits larger files, into parts of this size."""

_URL_SUFFIXES = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}
_NAMESPACES = {"workflows", "comfy"}


@dataclass(frozen=True, slots=True)
class Fal:
    """Speaks fal's queue at `bases["api"]`, its storage at `bases["storage"]`, its list at `bases["platform"]`."""

    # The first counts in the units of fal's own bill, whatever those are for the model.
    price_metrics: ClassVar[Mapping[str, str]] = {"billed_unit": "billable_units", "run_second": "inference_time"}
    bases: Mapping[str, str]

    def submit(self, call: Call) -> HttpCall:
        """Build the paying request; its body is the input itself.

        A deadline is sent as the time until the start: a run that has not started by then must not start.
        """
        seconds = call.deadline_seconds
        headers = {} if seconds is None else dict.fromkeys(_START_TIMEOUT_HEADERS, str(max(seconds, _MIN_DEADLINE)))
        return HttpCall("POST", f"{self._api}/{call.endpoint}", headers=headers, json=dict(call.input))

    def ask(self, state: Open) -> HttpCall:
        """Build the question for the status, or for the result once it is ready."""
        match state:
            case Ready():
                return HttpCall("GET", self._run_url(state.ticket, "response_url"), max_reply_bytes=ECHO_BYTES)
            case _:
                url = self._run_url(state.ticket, "status_url")
                return HttpCall("GET", f"{url}{'&' if '?' in url else '?'}logs=1", max_reply_bytes=ECHO_BYTES)

    def listen(self, ticket: Ticket) -> HttpCall | None:
        """Build the request for the stream of status changes; it ends when the run is completed."""
        url = f"{self._run_url(ticket, 'status_url')}/stream"
        return HttpCall("GET", url, headers={"Accept": "text/event-stream"}, patience_seconds=_STREAM_TIMEOUT)

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Build the request to stop. A queued run is removed; a running one may end all the same."""
        return HttpCall("PUT", self._run_url(ticket, "cancel_url"))

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """A ticket without URLs; they are then built from the endpoint and the id."""
        return Ticket(prediction_id, call.endpoint)

    def list_recent(self, call: Call, since: float) -> HttpCall | None:
        """Build the request for an endpoint's list; None without a base for it. Not every key may read it.

        The list has the inputs only because the request asks for them.
        """
        return self._list_call(call, timestamp(since, "milliseconds"), None, inputs=True)

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:
        """Read a page of requests with their inputs; whether running ones are listed was not seen.

        A row without its input may be the one that is looked for, so the page is then not complete.
        """
        fields = reply.fields()
        rows = find_rows(fields, "items", "requests")
        if not reply.is_success or rows is None:
            raise poll_error(reply)
        read = [self.read_row(row, call) for row in rows]
        cursor = fields.get("next_cursor")
        can_follow = isinstance(cursor, str) and _can_be_sent(cursor)
        following = self._list_call(call, None, str(cursor), inputs=True) if can_follow else None
        whole = None not in read and (following is not None or not cursor)
        return RecentPage(tuple(one for one in read if one is not None), following, whole)

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: a status has no input, so a request is looked up in the list."""
        return None

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:
        """Read one row of the list; None where it has no id or no input."""
        fields = row if isinstance(row, dict) else {}
        name, given = safe_id(fields.get("request_id")), fields.get("json_input")
        if name is None or not isinstance(given, dict):
            return None
        return RecentPrediction(Ticket(name, call.endpoint), given, unix_seconds(fields.get("sent_at")))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:
        """Build the request for an endpoint's list; None without a base for it. Not every key may read it."""
        return self._list_call(Call("", endpoint, {}), timestamp(since, "milliseconds"), None)

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:
        """Read a page. A row shows that a run has ended, but its result has another form, so it is not used."""
        if not reply.is_success:
            raise poll_error(reply)
        fields = reply.fields()
        rows = [(safe_id(row.get("request_id")), row) for row in object_rows(fields, "items", "requests")]
        cursor = fields.get("next_cursor")
        shown = tuple(RunRow(name, _has_ended(row)) for name, row in rows if name is not None)
        if not isinstance(cursor, str) or not _can_be_sent(cursor):
            return RunPage(shown)
        return RunPage(shown, self._list_call(Call("", endpoint, {}), None, cursor))

    def list_prices(self, endpoints: Sequence[str]) -> HttpCall | None:
        """Build the request for the published prices of some endpoints; None without a base for it."""
        return build_price_call(platform, endpoints) if (platform := self.bases.get("platform")) else None

    def read_prices(self, reply: Reply, endpoints: Sequence[str]) -> PricePage:
        """Read a page of published prices (see `PriceLister.read_prices`)."""
        return read_price_page(reply, self.bases["platform"], endpoints)

    def list_charges(self, run_ids: Sequence[str], since: float) -> HttpCall | None:
        """Build the request for what some runs were charged; None without a base for it. Not every key may read it."""
        return build_charge_call(platform, run_ids, since) if (platform := self.bases.get("platform")) else None

    def read_charges(self, reply: Reply, run_ids: Sequence[str], since: float) -> ChargePage:
        """Read a page of billing events (see `ChargeLister.read_charges`)."""
        return read_charge_page(reply, self.bases["platform"], run_ids, since)

    def _list_call(self, call: Call, start: str | None, cursor: str | None, *, inputs: bool = False) -> HttpCall | None:
        platform = self.bases.get("platform")
        if platform is None:
            return None
        expand = "payloads" if inputs else None
        asked = {"endpoint_id": call.endpoint, "start": start, "limit": "100", "cursor": cursor, "expand": expand}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        url = f"{platform.rstrip('/')}/v1/models/requests/by-endpoint?{query}"
        return HttpCall("GET", url, max_reply_bytes=ECHO_BYTES)

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a queue status or a result, or raise what the reply means instead (see `Dialect.read`)."""
        match about:
            case Call():
                return self._read_submit(reply, about)
            case Ready():
                return read_result(reply, about)
            case _:
                return _read_queue_status(reply, about.ticket)

    def upload(self, file: UploadFile) -> HttpCall | None:
        """Build the request for an upload address; None without a base for storage."""
        storage = self.bases.get("storage")
        if storage is None:
            return None
        kind = "initiate" if file.size <= _MAX_SINGLE_UPLOAD else "initiate-multipart"
        url = f"{storage.rstrip('/')}/storage/upload/{kind}?storage_type=fal-cdn-v3"
        return HttpCall("POST", url, json={"file_name": file.name, "content_type": file.content_type})

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:
        """Read the upload address, which is signed: the file goes there without the key."""
        fields = reply.fields() if reply.is_success else {}
        target, url = web_url(fields.get("upload_url")), web_url(fields.get("file_url"))
        if target is None or url is None:
            raise credit_error(reply) if is_credit_refusal(reply) else upload_error(reply)
        headers = {"Content-Type": file.content_type}
        whole = HttpCall("PUT", target, headers=headers, source=file.path, with_key=False)
        if file.size <= _MAX_SINGLE_UPLOAD:
            return UploadPlan(url, (whole,))
        starts = enumerate(range(0, file.size, _PART_BYTES), start=1)
        parts = (replace(whole, url=_url_below(target, str(n)), span=(start, _PART_BYTES)) for n, start in starts)
        return UploadPlan(url, tuple(parts), HttpCall("POST", _url_below(target, "complete"), with_key=False))

    def can_verify_webhooks(self) -> bool:
        """Whether Ed25519 is installed, and the base is known below which the keys are."""
        return "storage" in self.bases and can_verify_fal_webhooks()

    def add_webhook(self, request: HttpCall, address: str) -> HttpCall:
        """The paying request with an address that is called at the end of the run."""
        return add_fal_webhook(request, address)

    def ask_for_webhook_keys(self) -> HttpCall:
        """Build the request for the public keys; no key of ours goes with it."""
        return HttpCall("GET", f"{self.bases['storage'].rstrip('/')}/.well-known/jwks.json", with_key=False)

    def read_webhook_keys(self, reply: Reply) -> WebhookKeys:
        """Read the JWKS (see `WebhookSender.read_webhook_keys`)."""
        return read_fal_keys(reply)

    def read_webhook(self, delivery: WebhookDelivery, keys: WebhookKeys, now: float) -> WebhookNotice | Rejection:
        """Verify a webhook and read its request (see `WebhookSender.read_webhook`)."""
        return read_fal_webhook(delivery, keys, now)

    @property
    def _api(self) -> str:
        return self.bases["api"].rstrip("/")

    def _run_url(self, ticket: Ticket, name: str) -> str:
        kept = same_origin_urls(ticket.urls, [name], self._api)
        return kept.get(name, f"{self._api}/{_app_path(ticket.endpoint)}/requests/{ticket.id}{_URL_SUFFIXES[name]}")

    def _read_submit(self, reply: Reply, call: Call) -> Prediction:
        if not reply.is_success:
            raise read_fal_refusal(reply)
        fields = reply.fields()
        name = safe_id(fields.get("request_id"))
        if name is None:
            raise reply_lost_error(reply)
        return _queue_state(fields, Ticket(name, call.endpoint, same_origin_urls(fields, _URL_SUFFIXES, self._api)))


def _url_below(signed: str, step: str) -> str:
    """An address below a signed one, with the same signature in its query."""
    path, mark, query = signed.partition("?")
    return f"{path}/{step}{mark}{query}"


def _has_ended(row: Mapping[str, Json]) -> bool:
    return isinstance(row.get("ended_at"), str) or isinstance(row.get("status_code"), int)


def _can_be_sent(cursor: str) -> bool:
    """Whether a cursor can go into a query: a lone surrogate, which JSON can hold, cannot."""
    return bool(cursor) and cursor.isprintable()


def _app_path(endpoint: str) -> str:
    steps = endpoint.split("/")
    return "/".join(steps[: 3 if steps[0] in _NAMESPACES else 2])


def _read_queue_status(reply: Reply, ticket: Ticket) -> Prediction:
    fields = parse_status(reply, ticket)
    return fields if isinstance(fields, Failed) else _queue_state(fields, ticket)


def _queue_state(fields: dict[str, Json], ticket: Ticket) -> Prediction:
    logs = log_lines(fields.get("logs"))
    match fields.get("status"):
        case "IN_QUEUE":
            return Waiting(ticket, _queue_position(fields.get("queue_position")), logs)
        case "IN_PROGRESS":
            return Working(ticket, log_progress(logs), logs)
        case "COMPLETED" if fields.get("error") or fields.get("error_type"):
            return read_final_status(fields, ticket, logs)
        case "COMPLETED":
            metrics = fields.get("metrics")
            return Ready(ticket, logs, metrics if isinstance(metrics, dict) else {})
        case word:
            return Working(ticket, log_progress(logs), logs, unknown_status_note(word))


def _queue_position(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
