"""The wire of Replicate, and of gateways that speak like it.

Facts: https://replicate.com/docs/reference/http and "Prediction lifecycle" there. We never send `Prefer: wait`: the
id would arrive up to a minute later, and a reply lost in that minute is a paid run that nobody can name. The URLs in
a reply are never followed: a gateway's point at api.replicate.com, which must not see the gateway's key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, urlsplit

from rotoscope.contracts.times import timestamp
from rotoscope.errors import InvalidInput
from rotoscope.providers.dialects.base import Parcel, Placement
from rotoscope.providers.dialects.error_map import (
    empty,
    gone,
    heard,
    invalid,
    lost,
    refused,
    unanswered,
    untaken,
)
from rotoscope.providers.dialects.failures import code_of_words, message_of
from rotoscope.providers.dialects.provider_text import is_done, lines, progress, quoted, said, unknown_status
from rotoscope.providers.dialects.urls import PAGE, identifier, own_urls, page_url, trunk, web_url
from rotoscope.providers.http.messages import ECHO_BYTES, HttpCall, Json, Reply
from rotoscope.providers.recent import Listed, Page, Row, Sighting, listed, reply_of, rows_in, seconds_of
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

__all__ = ["Replicate"]

_OWN_HOST, _PAGES = "api.replicate.com", "replicate.com"

_SHORTEST_DEADLINE = 5
"""Seconds; the least that `Cancel-After` is thought to take (not documented)."""


@dataclass(frozen=True, slots=True)
class Replicate:
    """Speaks Replicate's HTTP API at `bases["api"]`, with or without `/v1` at its end."""

    # The time that is billed, and of video models how long the output is: both in the examples of its model pages.
    measures: ClassVar[Mapping[str, str]] = {
        "run_second": "predict_time",
        "output_second": "video_output_duration_seconds",
    }
    bases: Mapping[str, str]

    def submit(self, call: Call) -> HttpCall:
        """Word the paying request in the call's form, `official` or `version`.

        A deadline is sent as `Cancel-After`: stopped before its start a run is free, later it costs its time.
        """
        body: dict[str, Json] = {"input": dict(call.input)}
        if call.form == "official":
            url = f"{self._api}/models/{call.endpoint}/predictions"
            # A gateway documents this path for community models too, and then takes the version in the body.
            version = call.version
        else:
            url = f"{self._api}/predictions"
            version = _reference(call)
        if version is not None:
            body = {"version": version, **body}
        return HttpCall("POST", url, headers=_deadline(call.deadline_seconds), json=body, largest_reply=ECHO_BYTES)

    def ask(self, state: Open) -> HttpCall:
        """Word the question about an open prediction."""
        return _question(f"{self._api}/predictions/{state.ticket.id}")

    def listen(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """None. Its stream tells of a language model's words, not of states."""
        return None

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Word the request to stop. A prediction that has finished is answered unchanged."""
        return HttpCall("POST", f"{self._api}/predictions/{ticket.id}/cancel", largest_reply=ECHO_BYTES)

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """The id is all that it takes. Where its page is, is known of Replicate's own runs only."""
        page = f"https://{_PAGES}/p/{prediction_id}"
        return Ticket(prediction_id, call.endpoint, {PAGE: page} if self._host == _OWN_HOST else {})

    def recent(self, call: Call, since: float) -> HttpCall | None:  # noqa: ARG002 - the list is of all models
        """Word the request for the newest predictions; 100 a page, with their whole input for one hour."""
        return _question(f"{self._api}/predictions?created_after={quote(timestamp(since, 'milliseconds'))}")

    def sightings(self, reply: Reply, call: Call) -> Page:
        """Read a page: those of the call's model, and of its version where it names one."""
        fields = reply.fields()
        rows = listed(fields, "results")
        if not reply.ok or rows is None:
            raise unanswered(reply)
        read = [self.sighting(row, call) for row in rows if not _is_of_another(row, call)]
        following = own_urls(fields, ["next"], self.bases["api"]).get("next")
        whole = None not in read and (bool(following) or not fields.get("next"))
        found = tuple(one for one in read if one is not None)
        return Page(found, _question(following) if following else None, whole)

    def record(self, call: Call, prediction_id: str) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """Word the question for one prediction, which has its model, version and input."""
        return _question(f"{self._api}/predictions/{quote(prediction_id, safe='')}")

    def sighting(self, row: Json, call: Call) -> Sighting | None:
        """Read one prediction of the call's model; None for any other, and where its input is gone."""
        if not isinstance(row, dict) or _is_of_another(row, call):
            return None
        name, given = identifier(row.get("id")), row.get("input")
        if name is None or not isinstance(given, dict) or row.get("data_removed") is True:
            return None
        return Sighting(Ticket(name, call.endpoint), given, seconds_of(row.get("created_at")))

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:  # noqa: ARG002 - the list is of all models
        """Word the request for the newest predictions of all models; 100 a page, the latest first."""
        return _question(f"{self._api}/predictions?created_after={quote(timestamp(since, 'milliseconds'))}")

    def read_runs(self, reply: Reply, endpoint: str) -> Listed:  # noqa: ARG002 - the list is of all models
        """Read a page. A row is what the question about its prediction is answered, but not where it was cut down."""
        if not reply.ok:
            raise unanswered(reply)
        fields = reply.fields()
        rows = [(name, row) for row in rows_in(fields, "results") if (name := identifier(row.get("id"))) is not None]
        following = own_urls(fields, ["next"], self.bases["api"]).get("next")
        return Listed(
            tuple(Row(name, row.get("status") in _ENDED, _whole(row)) for name, row in rows),
            _question(following) if following else None,
        )

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read a prediction object, or raise what the reply stands for instead (see `Dialect.read`)."""
        match about:
            case Call():
                return self._accepted(reply, about)
            case _:
                return _answered(reply, about.ticket)

    def upload(self, parcel: Parcel) -> HttpCall | None:
        """Word the upload of one file, at most 100 MB; what is uploaded expires by itself."""
        form = {"content": (parcel.name, parcel.path, parcel.content_type)}
        return HttpCall("POST", f"{self._api}/files", form=form)

    def placed(self, reply: Reply, parcel: Parcel) -> Placement:  # noqa: ARG002 - the protocol's signature
        """Read the file object; its `urls.get` is what a model takes as input."""
        urls = reply.fields().get("urls") if reply.ok else None
        url = web_url(urls.get("get")) if isinstance(urls, dict) else None
        if url is None:
            raise untaken(reply)
        return Placement(url)

    @property
    def _api(self) -> str:
        return f"{trunk(self.bases['api'])}/v1"

    @property
    def _host(self) -> str:
        return urlsplit(self.bases["api"]).netloc.lower()

    def _accepted(self, reply: Reply, call: Call) -> Prediction:
        if not reply.ok:
            raise _unversioned(reply) or refused(reply)
        fields = reply.fields()
        name = identifier(fields.get("id"))
        if name is None:
            raise lost(reply)
        urls = fields.get("urls")
        # A gateway's reply names Replicate's page, which is not of its customer's run.
        hosts = {self._host, _PAGES} if self._host == _OWN_HOST else {self._host}
        page = page_url(urls.get(PAGE), hosts) if isinstance(urls, dict) else None
        return _state(fields, Ticket(name, call.endpoint, {PAGE: page} if page else {}))


def _question(url: str) -> HttpCall:
    """A free question, whose answer repeats what the predictions were given, files that travelled inside it too."""
    return HttpCall("GET", url, largest_reply=ECHO_BYTES)


def _reference(call: Call) -> str:
    match call.version:
        case None:
            return call.endpoint
        case version if "/" in version or ":" in version:
            return version
        case version:
            return f"{call.endpoint}:{version}"


def _is_of_another(row: Json, call: Call) -> bool:
    """Whether a row surely tells of another model, or of another version of it."""
    if not isinstance(row, dict):
        return False
    model, version = row.get("model"), row.get("version")
    wanted = call.version.rpartition(":")[2] if call.version else None
    if isinstance(model, str) and model and model != call.endpoint:
        return True
    return wanted is not None and isinstance(version, str) and bool(version) and version != wanted


def _whole(row: Mapping[str, Json]) -> Reply | None:
    """A row that has all that makes a success, as the reply that it is; anything else is asked for."""
    has_all = {"output", "logs", "metrics", "urls"} <= row.keys() and bool(row["output"])
    return reply_of(row) if has_all and row.get("status") == "succeeded" else None


def _deadline(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Cancel-After": f"{max(seconds, _SHORTEST_DEADLINE)}s"}


def _unversioned(reply: Reply) -> InvalidInput | None:
    # It stands in `title`; `detail` then speaks of the model in general.
    titled = reply.fields().get("title")
    words = f"{titled if isinstance(titled, str) else ''} {said(reply) or ''}"
    if reply.status in {400, 422} and "invalid version" in words.lower():
        return invalid(
            reply, "The provider does not know this version.", "The version is wrong, or the model is private."
        )
    return None


def _answered(reply: Reply, ticket: Ticket) -> Prediction:
    fields = heard(reply, ticket)
    return fields if isinstance(fields, Failed) else _state(fields, ticket)


def _state(fields: dict[str, Json], ticket: Ticket) -> Prediction:
    word = fields.get("status")
    told = _Told(fields, ticket, lines(fields.get("logs")))
    if is_done(word) and fields.get("output"):
        return _succeeded(told)  # a gateway's own word for it, with the output standing there
    return _STATES.get(word if isinstance(word, str) else "", _unknown)(told)


@dataclass(frozen=True, slots=True)
class _Told:
    fields: dict[str, Json]
    ticket: Ticket
    logs: tuple[str, ...]


def _waiting(told: _Told) -> Prediction:
    return Waiting(told.ticket, logs=told.logs)


def _working(told: _Told) -> Prediction:
    return Working(told.ticket, progress(told.logs), told.logs)


def _unknown(told: _Told) -> Prediction:
    note = unknown_status(told.fields.get("status"))
    return Working(told.ticket, progress(told.logs), told.logs, note)


def _succeeded(told: _Told) -> Prediction:
    metrics = told.fields.get("metrics")
    match told.fields.get("output"):
        case None if told.fields.get("data_removed") is True:
            return gone(told.ticket, charged=True)
        case None:
            return empty(told.ticket, told.logs)
        case output:
            return Succeeded(told.ticket, output, metrics if isinstance(metrics, dict) else {}, told.logs)


def _failed(told: _Told) -> Prediction:
    words = quoted(told.fields.get("error"))
    code = code_of_words(words)
    return Failed(told.ticket, code, message_of(code), words, logs=told.logs)


def _canceled(told: _Told) -> Prediction:
    return Canceled(told.ticket, charged=not _never_ran(told.fields), logs=told.logs)


def _never_ran(fields: Mapping[str, Json]) -> bool:
    """Whether a run was stopped before its start: then no time was used that could be charged."""
    metrics = fields.get("metrics")
    time = metrics.get("predict_time") if isinstance(metrics, dict) else None
    if isinstance(time, int | float) and not isinstance(time, bool):
        return time == 0
    return "started_at" in fields and fields["started_at"] is None


def _aborted(told: _Told) -> Prediction:
    return Canceled(told.ticket, charged=False, logs=told.logs)


_STATES: Mapping[str, Callable[[_Told], Prediction]] = {
    "starting": _waiting,
    "processing": _working,
    "succeeded": _succeeded,
    "failed": _failed,
    "canceled": _canceled,  # stopped while it ran: the time is charged; by its user, it may not have begun
    "aborted": _aborted,  # stopped before it ran: free
}
"""The six words of "Prediction lifecycle"; any other is a run that goes on."""

_ENDED: Sequence[Json] = ("succeeded", "failed", "canceled", "aborted")
