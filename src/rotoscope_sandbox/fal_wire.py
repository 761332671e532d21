"""fal's wire: the queue and the list of past requests.

The synchronous form (`https://fal.run/{endpoint}`) answers when the request's Host is `fal.run`, or under the
path prefix `/sync/`; the queue has every other host. Server-sent events end with `COMPLETED`.
Webhooks go to this machine only (`webhooks`); others are accepted and never sent.
"""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, TypeAlias

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rotoscope_sandbox.models import Problem, find_model
from rotoscope_sandbox.predictions import Failure, JsonObject, Prediction, Stage
from rotoscope_sandbox.site import Refusal, Site, fate_of, moment, read_object, whole
from rotoscope_sandbox.store import Mark
from rotoscope_sandbox.webhooks import Webhook, fal_keys, notify, signed_by_fal

__all__ = ["keyed", "queue_routes", "rest_routes"]

_WIRE = "fal"
_ID_HEADER = "x-fal-request-id"
_LOOK_SECONDS = 0.05
_REPEAT_LOOKS = 20
_SYNC_SECONDS = 3600.0
_OK = 200
_OPEN = {Stage.QUEUED: "IN_QUEUE", Stage.RUNNING: "IN_PROGRESS"}
_ERRORS = "https://docs.fal.ai/errors"

_Act: TypeAlias = Callable[[Site, Request], Awaitable[Response]]
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def rest_routes(site: Site) -> list[Route]:
    """The platform API; in front of everything with placeholders in its path."""
    return [
        Route("/v1/models/requests/by-endpoint", keyed(partial(_past, site)), methods=["GET"]),
        Route("/.well-known/jwks.json", partial(_keys, site), methods=["GET"]),
    ]


async def _keys(site: Site, _: Request) -> Response:
    return JSONResponse(fal_keys(site.store.key(_WIRE)))


def queue_routes(site: Site) -> list[Route]:
    """The queue. Its submit route takes any path, so it comes after all others."""
    one = "/{owner}/{app}/requests/{id}"
    table: list[tuple[str, str, _Act]] = [
        ("GET", f"{one}/status", _status),
        ("GET", f"{one}/status/stream", _stream),
        ("PUT", f"{one}/cancel", _cancel),
        ("GET", one, _result),
        ("POST", "/sync/{endpoint:path}", _run),
        ("POST", "/{endpoint:path}", _submit),
    ]
    return [Route(path, keyed(partial(act, site)), methods=[verb]) for verb, path, act in table]


def keyed(act: _Endpoint) -> _Endpoint:
    """Any key will do, but there must be one; and every answer carries a request id."""

    @wraps(act)
    async def endpoint(request: Request) -> Response:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        # Uploads to the CDN come with the short-lived token that the storage gave out.
        if scheme.lower() not in ("key", "bearer") or not key.strip():
            raise _refuse(401, {"detail": "Authentication is required to access this application."})
        reply = await act(request)
        reply.headers.setdefault(_ID_HEADER, str(uuid.uuid4()))
        return reply

    return endpoint


def _refuse(status: int, body: JsonObject, id_: str | None = None) -> Refusal:
    headers = {_ID_HEADER: id_ or str(uuid.uuid4())}
    if isinstance(body.get("error_type"), str):
        headers["x-fal-error-type"] = body["error_type"]
    return Refusal(status, body, headers)


def _detail(problems: list[Problem], given: JsonObject) -> JsonObject:
    """The list that fal's model errors come as."""
    return {
        "detail": [
            {
                "loc": ["body", one.field],
                "msg": one.message,
                "type": one.kind,
                "url": f"{_ERRORS}#{one.kind}",
                "input": given if one.kind == "missing" else given.get(one.field),
            }
            for one in problems
        ]
    }


async def _submit(site: Site, request: Request) -> Response:
    if request.headers.get("host", "").split(":")[0] == "fal.run":
        return await _run(site, request)
    known = await _accepted(site, request)
    if url := request.query_params.get("fal_webhook"):
        webhook = Webhook(url, ("completed",), partial(_hooked, site, request), signed_by_fal, site.store.key(_WIRE))
        await notify(site, known, webhook, fate_of(request))
    told = _told(site, request, known, logs=False) | {"gateway_request_id": known.order.id}
    return JSONResponse(told, headers={_ID_HEADER: known.order.id})


async def _run(site: Site, request: Request) -> Response:
    known = await _accepted(site, request)
    done = await site.until_final(_WIRE, known.order.id, _SYNC_SECONDS)
    return _answer(site, request, done or known)


async def _accepted(site: Site, request: Request) -> Prediction:
    model = find_model(_WIRE, request.path_params["endpoint"])
    if model is None:
        raise _refuse(404, {"detail": f'Application "{request.path_params["endpoint"]}" not found'})
    given = await read_object(request)
    if given is None:
        nothing = Problem("body", "Input should be a valid dictionary", "dict_type")
        raise _refuse(422, _detail([nothing], {}))
    if problems := model.problems(given):
        raise _refuse(422, _detail(problems, given))
    start_by = _start_by(site, request)
    return site.accept(str(uuid.uuid4()), model, given, start_by=start_by, fate=fate_of(request))


def _hooked(site: Site, request: Request, known: Prediction) -> JsonObject:
    """What a webhook says: the result, or the model's error, in an envelope."""
    try:
        reply = _answer(site, request, known)
    except Refusal as refusal:
        reply = refusal.response
    told = {
        "request_id": known.order.id,
        "gateway_request_id": known.order.id,
        "payload": json.loads(bytes(reply.body)),
    }
    if reply.status_code == _OK:
        return told | {"status": "OK"}
    return told | {"status": "ERROR", "error": f"Unexpected status code: {reply.status_code}"}


def _start_by(site: Site, request: Request) -> float | None:
    headers = request.headers
    asked = headers.get("x-fal-request-start-timeout", headers.get("x-fal-request-timeout"))
    try:
        return None if asked is None else site.clock() + float(asked)
    except ValueError as problem:
        wrong = {"detail": "X-Fal-Request-Timeout is not a number of seconds.", "error_type": "bad_request"}
        raise _refuse(400, wrong) from problem


async def _found(site: Site, request: Request, *, hold: bool = True) -> Prediction:
    path = request.path_params
    known = await site.look(_WIRE, path["id"], hold=hold)
    if known is None or not known.order.model.startswith(f"{path['owner']}/{path['app']}"):
        raise _refuse(404, {"detail": "Request not found", "status": "NOT_FOUND"}, path["id"])
    return known


def _told(site: Site, request: Request, known: Prediction, *, logs: bool) -> JsonObject:
    """A status object. `logs` and `queue_position` are always there: clients read them without asking."""
    order, stage = known.order, known.stage(site.clock())
    one = f"{site.base(request)}/{'/'.join(order.model.split('/')[:2])}/requests/{order.id}"
    told: JsonObject = {
        "status": _OPEN.get(stage, "COMPLETED"),
        "request_id": order.id,
        "response_url": one,
        "status_url": f"{one}/status",
        "cancel_url": f"{one}/cancel",
        "logs": _logs(known, stage) if logs else None,
        "queue_position": site.queue_position(known) if stage is Stage.QUEUED else 0,
        "metrics": {},
    }
    if known.started is not None and (completed := known.completed(site.clock())) is not None:
        told["metrics"] = {"inference_time": round(max(0.0, completed - known.started), 3)}
    if failure := _failure(known, stage):
        told |= {"error": failure.message, "error_type": failure.kind}
    return told


def _logs(known: Prediction, stage: Stage) -> list[JsonObject]:
    if stage is Stage.QUEUED or known.started is None:
        return []
    stamp = _iso(known.started)
    return [{"timestamp": stamp, "level": "INFO", "source": "USER", "message": line} for line in known.logs]


def _failure(known: Prediction, stage: Stage) -> Failure | None:
    if stage in (Stage.CANCELED, Stage.ABORTED):
        return Failure("The request was cancelled by the client.", "client_cancelled")
    if stage is Stage.EXPIRED:
        return Failure("The request did not start in time.", "request_timeout")
    return known.outcome.failure if known.outcome is not None and stage is Stage.FAILED else None


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


async def _status(site: Site, request: Request) -> Response:
    known = await _found(site, request)
    logs = request.query_params.get("logs", "").lower() in ("1", "true")
    told = _told(site, request, known, logs=logs)
    status = 200 if told["status"] == "COMPLETED" else 202
    return JSONResponse(told, status, {_ID_HEADER: known.order.id})


async def _stream(site: Site, request: Request) -> Response:
    """Every change at once; while nothing changes, a repetition every second shows that the line is open."""
    known = await _found(site, request, hold=False)
    logs = request.query_params.get("logs", "").lower() in ("1", "true")

    async def events() -> AsyncIterator[str]:
        last, silent = "", 0
        while True:
            now = await site.look(_WIRE, known.order.id, hold=False) or known
            told = _told(site, request, now, logs=logs)
            event = f"data: {json.dumps(told)}\n\n"
            silent = silent + 1 if event == last else 0
            if silent % _REPEAT_LOOKS == 0:
                yield event
            if told["status"] == "COMPLETED":
                return
            last = event
            await anyio.sleep(_LOOK_SECONDS)

    return StreamingResponse(events(), media_type="text/event-stream", headers={_ID_HEADER: known.order.id})


async def _result(site: Site, request: Request) -> Response:
    return _answer(site, request, await _found(site, request))


def _answer(site: Site, request: Request, known: Prediction) -> Response:
    """The output, or the model's own error."""
    id_, stage = known.order.id, known.stage(site.clock())
    if stage is Stage.SUCCEEDED:
        return JSONResponse(site.output(known, site.base(request)), headers={_ID_HEADER: id_})
    if not stage.final:
        raise _refuse(400, {"detail": "Request is still in progress"}, id_)
    failure = _failure(known, stage) or Failure("The request failed.")
    if failure.field is not None:
        problem = Problem(failure.field, failure.message, failure.kind)
        raise _refuse(422, _detail([problem], known.order.input), id_)
    status = {"client_cancelled": 499, "request_timeout": 504}.get(failure.kind, 500)
    refusal = _refuse(status, {"detail": failure.message, "error_type": failure.kind}, id_)
    if stage is Stage.EXPIRED:
        refusal.response.headers["x-fal-request-timeout-type"] = "user"
    raise refusal


async def _cancel(site: Site, request: Request) -> Response:
    known = site.store.get(request.path_params["id"])
    if known is None or known.order.wire != _WIRE:
        return JSONResponse({"status": "NOT_FOUND"}, 404)
    headers = {_ID_HEADER: known.order.id}
    stage = known.stage(site.clock())
    if stage.final:
        return JSONResponse({"status": "ALREADY_COMPLETED"}, 400, headers)
    site.cancel(known)
    if stage is Stage.QUEUED:
        return JSONResponse({"status": "OK"}, 200, headers)
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202, headers)


async def _past(site: Site, request: Request) -> Response:
    """What was submitted to one endpoint, the latest first; what went in and came out only where that is asked for."""
    model = find_model(_WIRE, request.query_params.get("endpoint_id", ""))
    if model is None:
        raise _refuse(404, {"detail": "Endpoint not found"})
    limit, skipped, since = whole(request, "limit", 50), whole(request, "cursor", 0), moment(request, "start")

    def is_one(mark: Mark) -> bool:
        return mark.model == model.name and (since is None or mark.created >= since)

    page, more = site.page(_WIRE, skipped, limit, is_one)
    payloads = "payloads" in request.query_params.getlist("expand")
    return JSONResponse(
        {
            "items": [_row(site, request, one, payloads=payloads) for one in page],
            "next_cursor": str(skipped + limit) if more else None,
            "has_more": more,
        }
    )


def _row(site: Site, request: Request, known: Prediction, *, payloads: bool) -> JsonObject:
    stage, completed = known.stage(site.clock()), known.completed(site.clock())
    failed: Any = 422 if stage is Stage.FAILED else 499
    row: JsonObject = {
        "request_id": known.order.id,
        "endpoint_id": known.order.model,
        "sent_at": _iso(known.order.created),
        "started_at": _iso(known.started) if known.started is not None else None,
        "ended_at": _iso(completed) if completed is not None else None,
        "status_code": None if not stage.final else 200 if stage is Stage.SUCCEEDED else failed,
    }
    if not payloads:
        return row
    return {**row, "json_input": known.order.input, "json_output": site.output(known, site.base(request))}
