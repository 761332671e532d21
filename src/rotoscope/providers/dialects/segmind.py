"""The wire of Segmind: the one-shot `v1` and the asynchronous `v2`.

Facts: https://www.segmind.com/models/sam-v2-image/api and the source of the official client. Only HTTP 200 is
billed. There is no way to cancel. A v1 reply is the result itself; its request has no id until then. A v2 run that
failed is a normal body under HTTP 422, so the body's status counts before the HTTP status. HTTP 406 means no credit, a
team's cap or a wrong content type: the text decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import urlencode

from rotoscope.providers.dialects.base import UploadFile, UploadPlan
from rotoscope.providers.dialects.error_map import credit_error, poll_error, reply_lost_error, upload_error
from rotoscope.providers.dialects.segmind_replies import (
    has_failed,
    is_about_credit,
    read_history_row,
    read_one_shot,
    read_segmind_refusal,
    read_v2_answer,
    read_v2_status,
    run_failure,
)
from rotoscope.providers.http.messages import (
    ECHO_BYTES,
    MEDIA_BYTES,
    HttpCall,
    Json,
    Reply,
    safe_id,
    same_origin_urls,
    strip_version,
    web_url,
)
from rotoscope.providers.recent import RecentPage, RecentPrediction, RunPage, find_rows, unix_seconds
from rotoscope.providers.states import Call, Open, Prediction, Ready, Ticket

__all__ = ["Segmind"]

_ONE_SHOT_SECONDS = 120
"""Seconds to wait for a v1 reply, at least: a reply that is not waited for is a paid result that is lost."""

_HISTORY_PATH = "/inference-request/request-history"
_ROW_URL = "row_url"
_PER_PAGE = 100
_TIME_FIELDS = ("created_at", "createdAt", "request_time", "timestamp")
"""The members of a row that may hold its time; no document shows a whole row."""

_URL_SUFFIXES = {"status_url": "/status", "response_url": ""}


@dataclass(frozen=True, slots=True)
class Segmind:
    """Speaks Segmind at `bases["api"]`, with or without a version at its end.

    Uploads go to `bases["assets"]`, and the history of requests is at `bases["history"]`.
    """

    # Neither its `x-cost`, `metrics.cost` and `credits_deduction` nor its times come with a unit in any document.
    price_metrics: ClassVar[Mapping[str, str]] = {}
    bases: Mapping[str, str]

    def submit(self, call: Call) -> HttpCall:
        """Build the paying request in the call's form, `v1` or `v2`; its body is the input itself.

        A v1 reply begins only when the model has finished, so the wait is the call's deadline or longer.
        """
        body = dict(call.input)
        if call.form == "v2":
            return HttpCall("POST", f"{self._api}/v2/{call.endpoint}", json=body)
        patience = float(max(call.deadline_seconds or 0, _ONE_SHOT_SECONDS))
        url = f"{self._api}/v1/{call.endpoint}"
        return HttpCall("POST", url, json=body, patience_seconds=patience, max_reply_bytes=MEDIA_BYTES)

    def ask(self, state: Open) -> HttpCall:
        """Build the question for the status, or for the result once it is ready; for a v1 request, for its history."""
        row = same_origin_urls(state.ticket.urls, [_ROW_URL], self.bases.get("history", ""))
        if row:
            return HttpCall("GET", row[_ROW_URL], max_reply_bytes=ECHO_BYTES)
        name = "response_url" if isinstance(state, Ready) else "status_url"
        kept = same_origin_urls(state.ticket.urls, [name], self._api)
        return HttpCall("GET", kept.get(name, f"{self._api}/v2/requests/{state.ticket.id}{_URL_SUFFIXES[name]}"))

    def listen(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: Segmind has no event stream."""
        return None

    def cancel(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: Segmind has no cancel; the run goes on and is charged when it succeeds."""
        return None

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """A ticket. A v1 request can be asked about in the history alone, so its ticket has the URL of its row."""
        history = self.bases.get("history")
        if call.form == "v2" or history is None:
            return Ticket(prediction_id, call.endpoint)
        row = f"{history.rstrip('/')}{_HISTORY_PATH}/{prediction_id}"
        return Ticket(prediction_id, call.endpoint, {_ROW_URL: row})

    def list_recent(self, call: Call, since: float) -> HttpCall | None:
        """Build the request for a model's history, by days (UTC); None without a base for it."""
        return self._history_call(call, since)

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:
        """Read the newest requests with their bodies. One with several outputs has several rows."""
        rows = find_rows(reply.fields(), "data", "items", "requests")
        if not reply.is_success or rows is None:
            raise poll_error(reply)
        read = [self.read_row(row, call) for row in rows if not _is_other_model(row, call)]
        # A full page may be followed by another, and nothing in the reply says which is the last.
        whole = None not in read and len(rows) < _PER_PAGE
        return RecentPage(tuple(one for one in read if one is not None), is_complete=whole)

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:
        """Build the request for one row of the history; None without a base for it."""
        row = self.ticket(replace(call, form="v1"), prediction_id).urls.get(_ROW_URL)
        return HttpCall("GET", row, max_reply_bytes=ECHO_BYTES) if row else None

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:
        """Read one row of the history; None where it is of another model, or has no id or no body."""
        fields = row if isinstance(row, dict) and not _is_other_model(row, call) else {}
        name, given = safe_id(fields.get("request_id")), fields.get("request_body")
        if name is None or not isinstance(given, dict):
            return None
        times = (unix_seconds(fields.get(time)) for time in _TIME_FIELDS)
        return RecentPrediction(self.ticket(call, name), given, next((at for at in times if at is not None), None))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: the history does not show runs before they have ended."""
        return None

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:  # noqa: ARG002 - the protocol's signature
        """An empty page; nothing is requested."""
        return RunPage(())

    def _history_call(self, call: Call, since: float) -> HttpCall | None:
        history = self.bases.get("history")
        if history is None:
            return None
        first = datetime.fromtimestamp(since, UTC).date()
        asked = {"page": 1, "per_page": _PER_PAGE, "from_date": first, "to_date": first + timedelta(days=2)}
        query = urlencode({**asked, "model_name": call.endpoint, "sort_order": "desc"})
        return HttpCall("GET", f"{history.rstrip('/')}{_HISTORY_PATH}?{query}", max_reply_bytes=ECHO_BYTES)

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a result or a status, or raise what the reply means instead (see `Dialect.read`).

        A v1 reply of HTTP 500 with Segmind's own `error` text is a `Failed` that was not charged.
        """
        match about:
            case Call(form="v2"):
                return self._read_submit(reply, about)
            case Call():
                return read_one_shot(reply, about)
            case _ if _ROW_URL in about.ticket.urls:
                return read_history_row(reply, about.ticket)
            case _:
                return read_v2_answer(reply, about)

    def upload(self, file: UploadFile) -> HttpCall | None:
        """Build the upload of one file, as a data URI; None without a base for assets."""
        assets = self.bases.get("assets")
        if assets is None:
            return None
        data_uris = {"data_urls": ((file.path, file.content_type),)}
        return HttpCall("POST", f"{assets.rstrip('/')}/upload-asset", data_uris=data_uris)

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:  # noqa: ARG002 - the protocol's signature
        """Read the address of the uploaded file."""
        urls = reply.fields().get("file_urls") if reply.is_success else None
        url = web_url(urls[0]) if isinstance(urls, list) and urls else None
        if url is None:
            raise credit_error(reply) if is_about_credit(reply) else upload_error(reply)
        return UploadPlan(url)

    @property
    def _api(self) -> str:
        return strip_version(self.bases["api"])

    def _read_submit(self, reply: Reply, call: Call) -> Prediction:
        fields = reply.fields()
        name = safe_id(fields.get("request_id"))
        ticket = Ticket(name, call.endpoint, same_origin_urls(fields, _URL_SUFFIXES, self._api)) if name else None
        if has_failed(reply):
            return run_failure(reply, ticket)
        if not reply.is_success:
            raise read_segmind_refusal(reply)
        if ticket is None:
            raise reply_lost_error(reply)
        return read_v2_status(fields, ticket)


def _is_other_model(row: Json, call: Call) -> bool:
    """Whether a row of the history is surely of another model."""
    name = row.get("model_name") if isinstance(row, dict) else None
    return isinstance(name, str) and bool(name) and name != call.endpoint
