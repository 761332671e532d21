"""The wire of Replicate, and of gateways that speak like it.

Facts: https://replicate.com/docs/reference/http and "Prediction lifecycle" there. We never send `Prefer: wait`: the
id would arrive up to a minute later, and a reply lost in that minute is a paid run without an id. The URLs in a reply
are not requested: a gateway's point at api.replicate.com, which must not see the gateway's key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit

from rotoscope.contracts.times import timestamp
from rotoscope.errors import InvalidInput
from rotoscope.providers.dialects.base import UploadFile, UploadPlan
from rotoscope.providers.dialects.error_map import (
    expiry_failure,
    invalid_input_error,
    no_output_failure,
    parse_status,
    poll_error,
    reply_lost_error,
    submit_error,
    upload_error,
)
from rotoscope.providers.dialects.failures import failure_code, failure_message
from rotoscope.providers.dialects.provider_text import (
    error_text,
    is_success_word,
    log_lines,
    log_progress,
    reply_message,
    unknown_status_note,
)
from rotoscope.providers.dialects.replicate_webhooks import (
    add_replicate_webhook,
    read_replicate_secret,
    read_replicate_webhook,
)
from rotoscope.providers.http.messages import (
    ECHO_BYTES,
    PAGE_KEY,
    HttpCall,
    Json,
    Reply,
    page_url,
    safe_id,
    same_origin_urls,
    versioned_base,
    web_url,
)
from rotoscope.providers.recent import (
    RecentPage,
    RecentPrediction,
    RunPage,
    RunRow,
    find_rows,
    object_rows,
    row_as_reply,
    unix_seconds,
)
from rotoscope.providers.states import (
    Call,
    Canceled,
    Failed,
    Open,
    Prediction,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)
from rotoscope.providers.webhooks import Rejection, WebhookDelivery, WebhookKeys, WebhookNotice

__all__ = ["Replicate"]

_API_HOST, _PAGE_HOST = "api.replicate.com", "replicate.com"

_MIN_DEADLINE = 5
"""Seconds; the smallest `Cancel-After` that is assumed to be accepted (not documented)."""


@dataclass(frozen=True, slots=True)
class Replicate:
    """Speaks Replicate's HTTP API at `bases["api"]`; `versioned_base` says what `version_path` means."""

    # The time that is billed, and the length of a video model's output: both from the examples on its model pages.
    price_metrics: ClassVar[Mapping[str, str]] = {
        "run_second": "predict_time",
        "output_second": "video_output_duration_seconds",
    }
    bases: Mapping[str, str]
    version_path: str | None = None

    def submit(self, call: Call) -> HttpCall:
        """Build the paying request in the call's form, `official` or `version`.

        A deadline is sent as `Cancel-After`: a run that is stopped before its start is free, later it costs its time.
        """
        body: dict[str, Json] = {"input": dict(call.input)}
        if call.form == "official":
            url = f"{self._api}/models/{call.endpoint}/predictions"
            # A gateway documents this path for community models too, and then takes the version in the body.
            version = call.version
        else:
            url = f"{self._api}/predictions"
            version = _version_reference(call)
        if version is not None:
            body = {"version": version, **body}
        return HttpCall(
            "POST", url, headers=_deadline_headers(call.deadline_seconds), json=body, max_reply_bytes=ECHO_BYTES
        )

    def ask(self, state: Open) -> HttpCall:
        """Build the question about an open prediction."""
        return _free_get(f"{self._api}/predictions/{state.ticket.id}")

    def listen(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None: its event stream carries a language model's output, not states."""
        return None

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Build the request to stop. For a finished prediction the reply is that prediction, unchanged."""
        return HttpCall("POST", f"{self._api}/predictions/{ticket.id}/cancel", max_reply_bytes=ECHO_BYTES)

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """A ticket from the id alone; with the URL of its web page, which only Replicate itself has, not a gateway."""
        page = f"https://{_PAGE_HOST}/p/{prediction_id}"
        return Ticket(prediction_id, call.endpoint, {PAGE_KEY: page} if self._host == _API_HOST else {})

    def list_recent(self, call: Call, since: float) -> HttpCall | None:  # noqa: ARG002 - the list is of all models
        """Build the request for the newest predictions; 100 a page, with their whole input for one hour."""
        return _free_get(f"{self._api}/predictions?created_after={quote(timestamp(since, 'milliseconds'))}")

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:
        """Read a page: the predictions of the call's model, and of its version where it names one."""
        fields = reply.fields()
        rows = find_rows(fields, "results")
        if not reply.is_success or rows is None:
            raise poll_error(reply)
        read = [self.read_row(row, call) for row in rows if not _is_other_model(row, call)]
        following = same_origin_urls(fields, ["next"], self.bases["api"]).get("next")
        whole = None not in read and (bool(following) or not fields.get("next"))
        found = tuple(one for one in read if one is not None)
        return RecentPage(found, _free_get(following) if following else None, whole)

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """Build the request for one prediction; the reply has its model, version and input."""
        return _free_get(f"{self._api}/predictions/{quote(prediction_id, safe='')}")

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:
        """Read one prediction of the call's model; None for any other, and where its input is deleted."""
        if not isinstance(row, dict) or _is_other_model(row, call):
            return None
        name, given = safe_id(row.get("id")), row.get("input")
        if name is None or not isinstance(given, dict) or row.get("data_removed") is True:
            return None
        return RecentPrediction(Ticket(name, call.endpoint), given, unix_seconds(row.get("created_at")))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:  # noqa: ARG002 - the list is of all models
        """Build the request for the newest predictions of all models; 100 a page, the latest first."""
        return _free_get(f"{self._api}/predictions?created_after={quote(timestamp(since, 'milliseconds'))}")

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:  # noqa: ARG002 - the list is of all models
        """Read a page. A row equals the reply to the question about its prediction, unless it lacks members."""
        if not reply.is_success:
            raise poll_error(reply)
        fields = reply.fields()
        rows = [(name, row) for row in object_rows(fields, "results") if (name := safe_id(row.get("id"))) is not None]
        following = same_origin_urls(fields, ["next"], self.bases["api"]).get("next")
        return RunPage(
            tuple(RunRow(name, row.get("status") in _FINAL_WORDS, _success_reply(row)) for name, row in rows),
            _free_get(following) if following else None,
        )

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a prediction object, or raise what the reply means instead (see `Dialect.read`)."""
        match about:
            case Call():
                return self._read_submit(reply, about)
            case _:
                return _read_prediction(reply, about.ticket)

    def upload(self, file: UploadFile) -> HttpCall | None:
        """Build the upload of one file, at most 100 MB; the file expires by itself."""
        form = {"content": (file.name, file.path, file.content_type)}
        return HttpCall("POST", f"{self._api}/files", form=form)

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:  # noqa: ARG002 - the protocol's signature
        """Read the file object; its `urls.get` is what a model takes as input."""
        urls = reply.fields().get("urls") if reply.is_success else None
        url = web_url(urls.get("get")) if isinstance(urls, dict) else None
        if url is None:
            raise upload_error(reply)
        return UploadPlan(url)

    def can_verify_webhooks(self) -> bool:
        """True: the standard library has all that it takes."""
        return True

    def add_webhook(self, request: HttpCall, address: str) -> HttpCall:
        """The paying request with an address that is called at the end of the run."""
        return add_replicate_webhook(request, address)

    def ask_for_webhook_keys(self) -> HttpCall:
        """Build the request for the account's webhook secret; it is as secret as the key that goes with it."""
        return HttpCall("GET", f"{self._api}/webhooks/default/secret")

    def read_webhook_keys(self, reply: Reply) -> WebhookKeys:
        """Read the secret (see `WebhookSender.read_webhook_keys`)."""
        return read_replicate_secret(reply)

    def read_webhook(self, delivery: WebhookDelivery, keys: WebhookKeys, now: float) -> WebhookNotice | Rejection:
        """Verify a webhook and read its prediction (see `WebhookSender.read_webhook`)."""
        return read_replicate_webhook(delivery, keys, now)

    @property
    def _api(self) -> str:
        return versioned_base(self.bases["api"], self.version_path)

    @property
    def _host(self) -> str:
        return urlsplit(self.bases["api"]).netloc.lower()

    def _read_submit(self, reply: Reply, call: Call) -> Prediction:
        if not reply.is_success:
            raise _version_error(reply) or submit_error(reply)
        fields = reply.fields()
        name = safe_id(fields.get("id"))
        if name is None:
            raise reply_lost_error(reply)
        urls = fields.get("urls")
        # A gateway's reply names Replicate's page, which its customer cannot open.
        hosts = {self._host, _PAGE_HOST} if self._host == _API_HOST else {self._host}
        page = page_url(urls.get(PAGE_KEY), hosts) if isinstance(urls, dict) else None
        return _prediction_state(fields, Ticket(name, call.endpoint, {PAGE_KEY: page} if page else {}))


def _free_get(url: str) -> HttpCall:
    """A free GET. Its reply repeats the inputs, with files that were sent inside them, so it may be large."""
    return HttpCall("GET", url, max_reply_bytes=ECHO_BYTES)


def _version_reference(call: Call) -> str:
    match call.version:
        case None:
            return call.endpoint
        case version if "/" in version or ":" in version:
            return version
        case version:
            return f"{call.endpoint}:{version}"


def _is_other_model(row: Json, call: Call) -> bool:
    """Whether a row is surely of another model, or of another version of it."""
    if not isinstance(row, dict):
        return False
    model, version = row.get("model"), row.get("version")
    wanted = call.version.rpartition(":")[2] if call.version else None
    if isinstance(model, str) and model and model != call.endpoint:
        return True
    return wanted is not None and isinstance(version, str) and bool(version) and version != wanted


def _success_reply(row: Mapping[str, Json]) -> Reply | None:
    """A row that has everything of a success, as the reply to a question; None for any other row."""
    has_all = {"output", "logs", "metrics", "urls"} <= row.keys() and bool(row["output"])
    return row_as_reply(row) if has_all and row.get("status") == "succeeded" else None


def _deadline_headers(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Cancel-After": f"{max(seconds, _MIN_DEADLINE)}s"}


def _version_error(reply: Reply) -> InvalidInput | None:
    # It stands in `title`; `detail` then speaks of the model in general.
    titled = reply.fields().get("title")
    text = f"{titled if isinstance(titled, str) else ''} {reply_message(reply) or ''}"
    if reply.status in {400, 422} and "invalid version" in text.lower():
        return invalid_input_error(
            reply, "The provider does not know this version.", "The version is wrong, or the model is private."
        )
    return None


def _read_prediction(reply: Reply, ticket: Ticket) -> Prediction:
    fields = parse_status(reply, ticket)
    return fields if isinstance(fields, Failed) else _prediction_state(fields, ticket)


def _prediction_state(fields: dict[str, Json], ticket: Ticket) -> Prediction:
    word = fields.get("status")
    prediction = _PredictionFields(fields, ticket, log_lines(fields.get("logs")))
    if is_success_word(word) and fields.get("output"):
        return _success_state(prediction)  # a gateway's own word for it, and the output is there
    return _STATE_BUILDERS.get(word if isinstance(word, str) else "", _unknown_state)(prediction)


@dataclass(frozen=True, slots=True)
class _PredictionFields:
    fields: dict[str, Json]
    ticket: Ticket
    logs: tuple[str, ...]

    @property
    def metrics(self) -> Mapping[str, Json]:
        metrics = self.fields.get("metrics")
        return metrics if isinstance(metrics, dict) else {}


def _waiting_state(prediction: _PredictionFields) -> Prediction:
    return Waiting(prediction.ticket, logs=prediction.logs)


def _working_state(prediction: _PredictionFields) -> Prediction:
    return Working(prediction.ticket, log_progress(prediction.logs), prediction.logs)


def _unknown_state(prediction: _PredictionFields) -> Prediction:
    note = unknown_status_note(prediction.fields.get("status"))
    return Working(prediction.ticket, log_progress(prediction.logs), prediction.logs, note)


def _success_state(prediction: _PredictionFields) -> Prediction:
    match prediction.fields.get("output"):
        case None if prediction.fields.get("data_removed") is True:
            return expiry_failure(prediction.ticket, charged=True)
        case None:
            return no_output_failure(prediction.ticket, prediction.logs)
        case output:
            return Succeeded(prediction.ticket, output, prediction.metrics, prediction.logs)


def _failure_state(prediction: _PredictionFields) -> Prediction:
    text = error_text(prediction.fields.get("error"))
    code = failure_code(text)
    message = failure_message(code)
    return Failed(
        prediction.ticket, code, message, text, logs=prediction.logs, metrics=prediction.metrics, is_reported=True
    )


def _cancel_state(prediction: _PredictionFields) -> Prediction:
    is_charged = not _has_not_started(prediction.fields)
    return Canceled(prediction.ticket, charged=is_charged, logs=prediction.logs, metrics=prediction.metrics)


def _has_not_started(fields: Mapping[str, Json]) -> bool:
    """Whether a run was stopped before its start, so that it used no time that could be charged."""
    metrics = fields.get("metrics")
    time = metrics.get("predict_time") if isinstance(metrics, dict) else None
    if isinstance(time, int | float) and not isinstance(time, bool):
        return time == 0
    return "started_at" in fields and fields["started_at"] is None


def _abort_state(prediction: _PredictionFields) -> Prediction:
    return Canceled(prediction.ticket, charged=False, logs=prediction.logs)


_STATE_BUILDERS: Mapping[str, Callable[[_PredictionFields], Prediction]] = {
    "starting": _waiting_state,
    "processing": _working_state,
    "succeeded": _success_state,
    "failed": _failure_state,
    "canceled": _cancel_state,  # stopped by its user: the time it ran is charged, if it had begun
    "aborted": _abort_state,  # stopped before it ran: free
}
"""The six statuses of "Prediction lifecycle"; with any other status the run counts as running."""

_FINAL_WORDS: Sequence[Json] = ("succeeded", "failed", "canceled", "aborted")
