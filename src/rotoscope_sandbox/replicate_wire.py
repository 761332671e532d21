"""Replicate's wire, and the same one under the path of a gateway.

The gateway differs as the real ones do: it answers a create with 200, takes community models by their path, and
hands out `urls` that point to api.replicate.com, where its key is worth nothing.
Webhooks go to this machine only (`webhooks`); others are accepted and never sent.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rotoscope_sandbox.core import (
    Core,
    Endpoint,
    integer_parameter,
    make_routes,
    read_chunks,
    read_forced_outcome,
    read_object,
    time_parameter,
)
from rotoscope_sandbox.models import InputProblem, Model
from rotoscope_sandbox.predictions import HIDDEN, JsonObject, Prediction, RunStatus
from rotoscope_sandbox.replicate_models import (
    CATALOG,
    UnknownPathRoute,
    invalid_input,
    list_page,
    not_found,
    replicate_error,
)
from rotoscope_sandbox.store import ListEntry, UploadedFile, new_id
from rotoscope_sandbox.webhooks import REPLICATE_PAUSES, Webhook, notify, replicate_secret, sign_like_replicate

__all__ = ["replicate_routes"]

_WIRE = "replicate"
_HOME = "https://api.replicate.com"
_STATUS = {
    RunStatus.QUEUED: "starting",
    RunStatus.RUNNING: "processing",
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELED: "canceled",
    RunStatus.ABORTED: "aborted",
}
_RETENTION_SECONDS = 3600.0
_UPLOAD_SECONDS = 24 * 3600.0
_PAGE = 100
_STREAM_SECONDS = 3600.0
_DEFAULT_WAIT = 60.0  # seconds
_EVENTS = ("start", "output", "logs", "completed")
_PREFER = re.compile(r"wait(?:=(\d{1,2}))?")
_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def replicate_routes(core: Core) -> list[Route]:
    """Every route, once at the root and once under `/replicate`."""
    table: list[tuple[str, str, str, Endpoint]] = [
        ("list", "GET", "/predictions", _list_predictions),
        ("submit", "POST", "/predictions", _create),
        ("ask", "GET", "/predictions/{id}", _get_prediction),
        ("cancel", "POST", "/predictions/{id}/cancel", _cancel),
        ("submit", "POST", "/models/{owner}/{name}/predictions", _create_by_model),
        *(("other", "GET", path, endpoint) for path, endpoint in CATALOG.items()),
        ("other", "GET", "/webhooks/default/secret", _get_webhook_secret),
        ("other", "GET", "/files", _list_files),
        ("upload", "POST", "/files", _upload_file),
        ("other", "GET", "/files/{id}", _get_file),
        ("other", "DELETE", "/files/{id}", _delete_file),
        ("other", "GET", "/files/{id}/download", _download_file),
    ]
    sides = (("replicate", "/v1"), ("gateway", "/replicate/v1"))
    rows = [(f"{wire}:{name}", verb, base + path, act) for wire, base in sides for name, verb, path, act in table]
    # The address of a stream is its own key: the official clients send none with it.
    streams = [(f"{wire}:other", "GET", f"{base}/streams/{{id}}", _stream_output) for wire, base in sides]
    methods = "GET POST PUT PATCH DELETE"
    unknown = [(f"{wire}:other", methods, f"{base}/{{path:path}}", _unknown_path) for wire, base in sides]
    return [
        *make_routes(core, rows, _check_replicate_key),
        *make_routes(core, streams),
        *make_routes(core, unknown, _check_replicate_key, UnknownPathRoute),
    ]


async def _unknown_path(_: Core, __: Request) -> Response:
    raise not_found()


def _check_replicate_key(request: Request) -> None:
    """Any key will do, but there must be one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() not in ("bearer", "token") or not key.strip():
        raise replicate_error(401, "Unauthenticated", "You did not pass a valid authentication token")


def _is_gateway(request: Request) -> bool:
    return request.url.path.startswith("/replicate/")


async def _create(core: Core, request: Request) -> Response:
    body = await _read_body(request)
    model = _model_by_version(core.models(_WIRE), body.get("version"), is_gateway=_is_gateway(request))
    return await _start(core, request, body, model)


async def _create_by_model(core: Core, request: Request) -> Response:
    model = core.model(_WIRE, f"{request.path_params['owner']}/{request.path_params['name']}")
    # Community models answer 404 here: only official ones run without a version. Gateways take both.
    if model is None or (model.version and not _is_gateway(request)):
        raise not_found()
    return await _start(core, request, await _read_body(request), model)


async def _read_body(request: Request) -> JsonObject:
    body = await read_object(request)
    if body is None:
        raise replicate_error(400, "Bad request", "The request body is not a JSON object.")
    if not isinstance(body.get("input"), dict):
        raise invalid_input([InputProblem("input", "input is required", "missing")], None, {})
    return body


def _model_by_version(models: Iterable[Model], version: object, *, is_gateway: bool) -> Model:
    """The model that a version names: 64 hex digits, `owner/name:64hex`, or `owner/name` of an official model."""
    name, _, hexadecimal = str(version or "").rpartition(":")
    for model in models:
        if model.version and hexadecimal == model.version and name in ("", model.name):
            return model
        if version == model.name and (is_gateway or not model.version):
            return model
    detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    raise replicate_error(422, "Invalid version or not permitted", detail)


async def _start(core: Core, request: Request, body: JsonObject, model: Model) -> Response:
    if problems := model.problems(body["input"]):
        raise invalid_input(problems, model, body["input"])
    span = _read_span(request.headers.get("cancel-after"))
    deadline = None if span is None else core.clock() + span
    forced = read_forced_outcome(request)
    known: Prediction | None = core.accept(new_id(), model, body["input"], deadline=deadline, forced=forced)
    if known is not None and isinstance(body.get("webhook"), str):
        await notify(core, known, _webhook(core, request, body), forced)
    wait = _read_wait(request.headers.get("prefer", ""))
    if known is None or wait is None:
        return JSONResponse(_prediction_body(core, request, known), 200 if _is_gateway(request) else 201)
    known = await core.until_final(_WIRE, known.request.id, wait)
    answer = _prediction_body(core, request, known)
    if answer["status"] == "processing":
        answer["status"] = "starting"
    return JSONResponse(answer, 200 if _is_gateway(request) else 202 if answer["output"] is None else 201)


def _webhook(core: Core, request: Request, body: JsonObject) -> Webhook:
    chosen = body.get("webhook_events_filter")
    events = tuple(event for event in _EVENTS if not isinstance(chosen, list) or not chosen or event in chosen)
    make_body = partial(_prediction_body, core, request)
    key = core.store.key(_WIRE)
    return Webhook(body["webhook"], events, make_body, sign_like_replicate, key, pauses=REPLICATE_PAUSES)


async def _get_webhook_secret(core: Core, _: Request) -> Response:
    return JSONResponse({"key": replicate_secret(core.store.key(_WIRE))})


def _read_wait(prefer: str) -> float | None:
    match = _PREFER.fullmatch(prefer.strip())
    return float(match[1] or _DEFAULT_WAIT) if match else None


def _read_span(span: str | None) -> float | None:
    """`Cancel-After` in seconds: whole hours, minutes and seconds, such as `1h`, `90s`, `1m30s`."""
    if span is None:
        return None
    parts = _SPAN.fullmatch(span.strip())
    if parts is None or not any(parts.groups()):
        raise replicate_error(400, "Bad request", "Cancel-After is not a duration such as 90s, 1m or 1h.")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds


def _iso_time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _prediction_body(core: Core, request: Request, known: Prediction | None) -> JsonObject:
    """The prediction in Replicate's form.

    Raises:
        ErrorResponse: there is none.
    """
    if known is None:
        raise not_found()
    accepted, now = known.request, core.clock()
    status, ended = known.status(now), known.end_time(now)
    started = known.started if known.started is not None and known.started <= (ended or now) else None
    is_removed = ended is not None and now - ended >= _RETENTION_SECONDS
    failure = known.failure(now)
    body: JsonObject = {
        "id": accepted.id,
        "model": accepted.model,
        "version": accepted.version,
        "input": {} if is_removed else accepted.input,
        "logs": "" if is_removed or started is None else "\n".join(known.logs),
        "output": None if is_removed else core.output(known, core.base(request)),
        "data_removed": is_removed,
        "error": failure.message if failure else None,
        "source": "api",
        "status": _STATUS[status],
        "created_at": _iso_time(accepted.created),
        "started_at": _iso_time(started),
        "completed_at": _iso_time(ended),
        "urls": _urls(core, request, known),
    }
    if accepted.deadline is not None:
        body["deadline"] = _iso_time(accepted.deadline)
    if ended is not None:
        predict_time = round(ended - started, 6) if started is not None else 0.0
        measured = known.outcome.metrics if known.outcome and status is RunStatus.SUCCEEDED else {}
        times = {"predict_time": predict_time, "total_time": round(ended - accepted.created, 6)}
        body["metrics"] = {**measured, **times}
    return body


def _urls(core: Core, request: Request, known: Prediction) -> JsonObject:
    """Official models have a stream as well, and a gateway's documents show one for every model."""
    id_, gateway = known.request.id, _is_gateway(request)
    base = _HOME if gateway else core.base(request)
    one = f"{base}/v1/predictions/{id_}"
    urls = {"cancel": f"{one}/cancel", "get": one, "web": f"{base}/p/{id_}"}
    is_official = known.request.version == HIDDEN
    return urls | ({"stream": f"{base}/v1/streams/{id_}"} if is_official or gateway else {})


async def _stream_output(core: Core, request: Request) -> Response:
    """Server-sent events: every output, then `done`; a failure is an `error` before it."""
    known = await core.find(_WIRE, request.path_params["id"])
    if known is None:
        raise not_found()

    async def events() -> AsyncIterator[str]:
        final = await core.until_final(_WIRE, known.request.id, _STREAM_SECONDS) or known
        body = _prediction_body(core, request, final)
        outputs = body["output"] if isinstance(body["output"], list) else [body["output"]]
        for number, output in enumerate(outputs if body["output"] is not None else ()):
            yield f"event: output\nid: {int(core.clock())}:{number}\ndata: {_event_data(output)}\n\n"
        if body["error"] is not None:
            yield f"event: error\ndata: {json.dumps({'detail': body['error']})}\n\n"
        reason = {"failed": "error", "canceled": "canceled", "aborted": "canceled"}.get(body["status"])
        yield f"event: done\ndata: {json.dumps({'reason': reason} if reason else {})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event_data(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


async def _get_prediction(core: Core, request: Request) -> Response:
    return JSONResponse(_prediction_body(core, request, await core.find(_WIRE, request.path_params["id"])))


async def _cancel(core: Core, request: Request) -> Response:
    known = core.store.get(request.path_params["id"])
    is_ours = known is not None and known.request.wire == _WIRE
    return JSONResponse(_prediction_body(core, request, core.cancel(known) if known and is_ours else None))


async def _list_predictions(core: Core, request: Request) -> Response:
    after, before = (time_parameter(request, name) for name in ("created_after", "created_before"))
    skip = integer_parameter(request, "cursor", 0)

    def is_between(one: ListEntry) -> bool:
        return (after is None or one.created >= after) and (before is None or one.created < before)

    page, has_more = core.page(_WIRE, skip, _PAGE, is_between)
    here = request.url.include_query_params
    return list_page(
        (_prediction_body(core, request, one) for one in page),
        before=str(here(cursor=max(0, skip - _PAGE))) if skip else None,
        after=str(here(cursor=skip + _PAGE)) if has_more else None,
    )


async def _upload_file(core: Core, request: Request) -> Response:
    async with request.form(max_files=4, max_part_size=100 * 1024 * 1024) as form:
        parts = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        content = next((value for name, value in parts if name != "metadata"), None)
        if content is None:
            raise replicate_error(400, "Bad request", "Missing content")
        given = form.get("metadata")
        metadata = await given.read() if isinstance(given, UploadFile) else (given or "{}")
        name = form.get("filename") or content.filename or "file"
        kind = form.get("type") or content.content_type or "application/octet-stream"
        upload = UploadedFile(new_id(), str(name), str(kind), core.clock(), metadata=_read_metadata(metadata))
        return JSONResponse(_file_body(core, request, await core.receive(upload, read_chunks(content))), 201)


def _read_metadata(text: bytes | str) -> JsonObject:
    try:
        parsed: Any = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _file_body(core: Core, request: Request, upload: UploadedFile) -> JsonObject:
    return {
        "id": upload.id,
        "name": upload.name,
        "content_type": upload.content_type,
        "size": upload.size,
        "etag": upload.md5,
        "checksums": {"sha256": upload.sha256, "md5": upload.md5},
        "metadata": upload.metadata or {},
        "created_at": _iso_time(upload.created),
        "expires_at": _iso_time(upload.created + _UPLOAD_SECONDS),
        "urls": {"get": f"{core.base(request)}/v1/files/{upload.id}"},
    }


def _find_file(core: Core, request: Request) -> UploadedFile:
    upload = core.store.upload(request.path_params["id"])
    if upload is None or upload.size is None:
        raise not_found()
    return upload


async def _get_file(core: Core, request: Request) -> Response:
    return JSONResponse(_file_body(core, request, _find_file(core, request)))


async def _list_files(core: Core, request: Request) -> Response:
    return list_page(_file_body(core, request, one) for one in core.store.uploads() if one.size is not None)


async def _delete_file(core: Core, request: Request) -> Response:
    core.store.forget_upload(_find_file(core, request).id)
    return Response(status_code=204)


async def _download_file(core: Core, request: Request) -> Response:
    place = core.store.upload_path(_find_file(core, request).id)
    if place is None:
        raise not_found()
    return FileResponse(place, media_type="application/octet-stream")
