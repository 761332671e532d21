"""fal's wire: the queue and the list of past requests.

The synchronous form (`https://fal.run/{endpoint}`) answers when the request's Host is `fal.run`, or under the
path prefix `/sync/`; the queue has every other host. Server-sent events end with `COMPLETED`.
Webhooks go to this machine only (`webhooks`); others are accepted and never sent.
"""

import json
import uuid
from collections.abc import AsyncIterator, Iterable
from functools import partial

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rotoscope_sandbox.core import (
    Core,
    Endpoint,
    ErrorResponse,
    integer_parameter,
    make_routes,
    read_forced_outcome,
    read_object,
    time_parameter,
    utc_time,
)
from rotoscope_sandbox.models import InputProblem
from rotoscope_sandbox.predictions import Failure, JsonObject, Prediction, RunStatus
from rotoscope_sandbox.store import ListEntry
from rotoscope_sandbox.webhooks import FAL_PAUSES, Webhook, fal_keys, notify, sign_like_fal

__all__ = ["make_fal_routes", "queue_routes", "rest_routes"]

_WIRE = "fal"
_ID_HEADER = "x-fal-request-id"
_POLL_SECONDS = 0.05
_REPEAT_POLLS = 20
_SYNC_SECONDS = 3600.0
_OK = 200
_OPEN = {RunStatus.QUEUED: "IN_QUEUE", RunStatus.RUNNING: "IN_PROGRESS"}


def rest_routes(core: Core) -> list[Route]:
    """The platform API; in front of everything with placeholders in its path."""
    past = [("fal:list", "GET", "/v1/models/requests/by-endpoint", _list_past)]
    keys = [("fal:other", "GET", "/.well-known/jwks.json", _get_webhook_keys)]
    return [*make_fal_routes(core, past), *make_routes(core, keys)]


def queue_routes(core: Core) -> list[Route]:
    """The queue. Its submit route takes any path, so it comes after all others."""
    one = "/{owner}/{app}/requests/{id}"
    rows: list[tuple[str, str, str, Endpoint]] = [
        ("fal:ask", "GET", f"{one}/status", _get_status),
        ("fal:stream", "GET", f"{one}/status/stream", _stream_status),
        ("fal:cancel", "PUT", f"{one}/cancel", _cancel_request),
        ("fal:result", "GET", one, _get_result),
        ("fal:submit-direct", "POST", "/sync/{endpoint:path}", _run_at_once),
        ("fal:submit", "POST", "/{endpoint:path}", _submit),
    ]
    return make_fal_routes(core, rows)


def make_fal_routes(core: Core, rows: Iterable[tuple[str, str, str, Endpoint]]) -> list[Route]:
    """Routes that need a key, and whose every answer carries a request id."""

    async def answer_with_id(endpoint: Endpoint, core: Core, request: Request) -> Response:
        reply = await endpoint(core, request)
        reply.headers.setdefault(_ID_HEADER, str(uuid.uuid4()))
        return reply

    with_id = [(name, verb, path, partial(answer_with_id, endpoint)) for name, verb, path, endpoint in rows]
    return make_routes(core, with_id, _check_fal_key)


def _check_fal_key(request: Request) -> None:
    """Any key will do, but there must be one. Uploads to the CDN come with the short-lived token of the storage."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() not in ("key", "bearer") or not key.strip():
        raise _fal_error(401, {"detail": "Authentication is required to access this application."})


async def _get_webhook_keys(core: Core, _: Request) -> Response:
    return JSONResponse(fal_keys(core.store.key(_WIRE)))


def _fal_error(status: int, body: JsonObject, id_: str | None = None) -> ErrorResponse:
    headers = {_ID_HEADER: id_ or str(uuid.uuid4())}
    if isinstance(body.get("error_type"), str):
        headers["x-fal-error-type"] = body["error_type"]
    return ErrorResponse(status, body, headers)


def _input_error(problems: list[InputProblem], given: JsonObject, id_: str | None = None) -> ErrorResponse:
    """A model error, which is a list of what is wrong with the input."""
    rows = [
        {
            "loc": ["body", one.field],
            "msg": one.message,
            "type": one.kind,
            "url": f"https://docs.fal.ai/errors#{one.kind}",
            "input": given if one.kind == "missing" else given.get(one.field),
        }
        for one in problems
    ]
    return _fal_error(422, {"detail": rows}, id_)


async def _submit(core: Core, request: Request) -> Response:
    if request.headers.get("host", "").split(":")[0] == "fal.run":
        return await _run_at_once(core, request)
    known = await _accept(core, request)
    id_ = known.request.id
    if url := request.query_params.get("fal_webhook"):
        make_body = partial(_webhook_body, core, request)
        key = core.store.key(_WIRE)
        webhook = Webhook(url, ("completed",), make_body, sign_like_fal, key, is_named_by_run=True, pauses=FAL_PAUSES)
        await notify(core, known, webhook, read_forced_outcome(request))
    body = _status_body(core, request, known, has_logs=False) | {"gateway_request_id": id_}
    return JSONResponse(body, headers={_ID_HEADER: id_})


async def _run_at_once(core: Core, request: Request) -> Response:
    known = await _accept(core, request)
    done = await core.until_final(_WIRE, known.request.id, _SYNC_SECONDS)
    return _result_response(core, request, done or known)


async def _accept(core: Core, request: Request) -> Prediction:
    endpoint = request.path_params["endpoint"]
    model = core.model(_WIRE, endpoint)
    if model is None:
        raise _fal_error(404, {"detail": f'Application "{endpoint}" not found'})
    given = await read_object(request)
    if given is None:
        raise _input_error([InputProblem("body", "Input should be a valid dictionary", "dict_type")], {})
    if problems := model.problems(given):
        raise _input_error(problems, given)
    start_by = _start_deadline(core, request)
    return core.accept(str(uuid.uuid4()), model, given, start_by=start_by, forced=read_forced_outcome(request))


def _webhook_body(core: Core, request: Request, known: Prediction) -> JsonObject:
    """The result, or the model's error, in a webhook's envelope."""
    try:
        reply = _result_response(core, request, known)
    except ErrorResponse as error:
        reply = error.response
    id_ = known.request.id
    body = {"request_id": id_, "gateway_request_id": id_, "payload": json.loads(bytes(reply.body))}
    if reply.status_code == _OK:
        return body | {"status": "OK"}
    return body | {"status": "ERROR", "error": f"Unexpected status code: {reply.status_code}"}


def _start_deadline(core: Core, request: Request) -> float | None:
    headers = request.headers
    seconds = headers.get("x-fal-request-start-timeout", headers.get("x-fal-request-timeout"))
    try:
        return None if seconds is None else core.clock() + float(seconds)
    except ValueError as problem:
        wrong = {"detail": "X-Fal-Request-Timeout is not a number of seconds.", "error_type": "bad_request"}
        raise _fal_error(400, wrong) from problem


async def _find_request(core: Core, request: Request, *, hold: bool = True) -> Prediction:
    path = request.path_params
    known = await core.find(_WIRE, path["id"], hold=hold)
    if known is None or not known.request.model.startswith(f"{path['owner']}/{path['app']}"):
        raise _fal_error(404, {"detail": "Request not found", "status": "NOT_FOUND"}, path["id"])
    return known


def _status_body(core: Core, request: Request, known: Prediction, *, has_logs: bool) -> JsonObject:
    """A status object. `logs` and `queue_position` are always there: clients read them without asking."""
    accepted, status = known.request, known.status(core.clock())
    one = f"{core.base(request)}/{'/'.join(accepted.model.split('/')[:2])}/requests/{accepted.id}"
    body: JsonObject = {
        "status": _OPEN.get(status, "COMPLETED"),
        "request_id": accepted.id,
        "response_url": one,
        "status_url": f"{one}/status",
        "cancel_url": f"{one}/cancel",
        "logs": _logs(known, status) if has_logs else None,
        "queue_position": core.queue_position(known) if status is RunStatus.QUEUED else 0,
        "metrics": {},
    }
    if known.started is not None and (ended := known.end_time(core.clock())) is not None:
        body["metrics"] = {"inference_time": round(max(0.0, ended - known.started), 3)}
    if failure := _failure(core, known):
        body |= {"error": failure.message, "error_type": failure.kind}
    return body


def _logs(known: Prediction, status: RunStatus) -> list[JsonObject]:
    if status is RunStatus.QUEUED or known.started is None:
        return []
    stamp = utc_time(known.started)
    return [{"timestamp": stamp, "level": "INFO", "source": "USER", "message": line} for line in known.logs]


def _failure(core: Core, known: Prediction) -> Failure | None:
    match known.status(core.clock()):
        case RunStatus.CANCELED | RunStatus.ABORTED:
            return Failure("The request was cancelled by the client.", "client_cancelled")
        case RunStatus.EXPIRED:
            return Failure("The request did not start in time.", "request_timeout")
    return known.failure(core.clock())


def _wants_logs(request: Request) -> bool:
    return request.query_params.get("logs", "").lower() in ("1", "true")


async def _get_status(core: Core, request: Request) -> Response:
    known = await _find_request(core, request)
    body = _status_body(core, request, known, has_logs=_wants_logs(request))
    return JSONResponse(body, 200 if body["status"] == "COMPLETED" else 202, {_ID_HEADER: known.request.id})


async def _stream_status(core: Core, request: Request) -> Response:
    """Every change at once; while nothing changes, a repetition every second shows that the line is open."""
    known = await _find_request(core, request, hold=False)

    async def events() -> AsyncIterator[str]:
        last, silent_polls = "", 0
        while True:
            now = await core.find(_WIRE, known.request.id, hold=False) or known
            body = _status_body(core, request, now, has_logs=_wants_logs(request))
            event = f"data: {json.dumps(body)}\n\n"
            silent_polls = silent_polls + 1 if event == last else 0
            if silent_polls % _REPEAT_POLLS == 0:
                yield event
            if body["status"] == "COMPLETED":
                return
            last = event
            await anyio.sleep(_POLL_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={_ID_HEADER: known.request.id})


async def _get_result(core: Core, request: Request) -> Response:
    return _result_response(core, request, await _find_request(core, request))


def _result_response(core: Core, request: Request, known: Prediction) -> Response:
    """The output.

    Raises:
        ErrorResponse: it is not there yet, or the run failed: the model's own error.
    """
    id_, status = known.request.id, known.status(core.clock())
    if status is RunStatus.SUCCEEDED:
        # Beside the official documents: the units that are billed for it.
        headers = {_ID_HEADER: id_, "x-fal-billable-units": f"{core.bill(known).units:.9g}"}
        return JSONResponse(core.output(known, core.base(request)), headers=headers)
    if not status.is_final:
        raise _fal_error(400, {"detail": "Request is still in progress"}, id_)
    failure = _failure(core, known) or Failure("The request failed.")
    if failure.field is not None:
        raise _input_error([InputProblem(failure.field, failure.message, failure.kind)], known.request.input, id_)
    code = {"client_cancelled": 499, "request_timeout": 504}.get(failure.kind, 500)
    error = _fal_error(code, {"detail": failure.message, "error_type": failure.kind}, id_)
    if status is RunStatus.EXPIRED:
        error.response.headers["x-fal-request-timeout-type"] = "user"
    raise error


async def _cancel_request(core: Core, request: Request) -> Response:
    known = core.store.get(request.path_params["id"])
    if known is None or known.request.wire != _WIRE:
        return JSONResponse({"status": "NOT_FOUND"}, 404)
    headers = {_ID_HEADER: known.request.id}
    status = known.status(core.clock())
    if status.is_final:
        return JSONResponse({"status": "ALREADY_COMPLETED"}, 400, headers)
    core.cancel(known)
    if status is RunStatus.QUEUED:
        return JSONResponse({"status": "OK"}, 200, headers)
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202, headers)


async def _list_past(core: Core, request: Request) -> Response:
    """What was submitted to one endpoint, the latest first; inputs and outputs only where `expand` asks for them."""
    model = core.model(_WIRE, request.query_params.get("endpoint_id", ""))
    if model is None:
        raise _fal_error(404, {"detail": "Endpoint not found"})
    limit, skip = integer_parameter(request, "limit", 50), integer_parameter(request, "cursor", 0)
    since = time_parameter(request, "start")

    def matches(entry: ListEntry) -> bool:
        return entry.model == model.name and (since is None or entry.created >= since)

    page, has_more = core.page(_WIRE, skip, limit, matches)
    has_payloads = "payloads" in request.query_params.getlist("expand")
    return JSONResponse(
        {
            "items": [_past_item(core, request, one, has_payloads=has_payloads) for one in page],
            "next_cursor": str(skip + limit) if has_more else None,
            "has_more": has_more,
        }
    )


def _past_item(core: Core, request: Request, known: Prediction, *, has_payloads: bool) -> JsonObject:
    status, ended = known.status(core.clock()), known.end_time(core.clock())
    codes = {RunStatus.SUCCEEDED: 200, RunStatus.FAILED: 422}
    item: JsonObject = {
        "request_id": known.request.id,
        "endpoint_id": known.request.model,
        "sent_at": utc_time(known.request.created),
        "started_at": utc_time(known.started) if known.started is not None else None,
        "ended_at": utc_time(ended) if ended is not None else None,
        "status_code": codes.get(status, 499) if status.is_final else None,
    }
    if not has_payloads:
        return item
    return {**item, "json_input": known.request.input, "json_output": core.output(known, core.base(request))}
