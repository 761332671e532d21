"""Segmind's wire: v1, which answers with the picture itself, v2, which is polled, uploads and history.

What the sandbox adds: v1 has no place for more than the picture, so the reply headers `x-sandbox-method`,
`x-sandbox-confidence` and `x-sandbox-notice` say how a mask was made; on v2 it is in `output.sandbox`.
"""

import base64
import binascii
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.core import (
    Core,
    Endpoint,
    ErrorResponse,
    integer_parameter,
    make_routes,
    read_chunks,
    read_forced_outcome,
    read_object,
    utc_time,
)
from rotoscope_sandbox.models import Model
from rotoscope_sandbox.predictions import JsonObject, Prediction, RunStatus
from rotoscope_sandbox.store import UploadedFile, new_id

__all__ = ["segmind_routes"]

_WIRE = "segmind"
_V1_SECONDS = 600.0
_RETENTION_SECONDS = 3600.0
_CREDITS = 1000.0  # US dollars
_STATUS = {
    RunStatus.QUEUED: "QUEUED",
    RunStatus.RUNNING: "PROCESSING",
    RunStatus.SUCCEEDED: "COMPLETED",
}
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4"}


def segmind_routes(core: Core) -> list[Route]:
    """Every route. The ones with a slug answer other methods with 405 in HTML, as the real ones do."""
    history = "/inference-request/request-history"
    rows: list[tuple[str, str, str, Endpoint]] = [
        ("segmind:other", "GET", "/v1/get-user-credits", _get_credits),
        ("segmind:submit-direct", "POST", "/v1/{slug}", _run_v1),
        ("segmind:submit", "POST", "/v2/{slug}", _submit_v2),
        ("segmind:result", "GET", "/v2/requests/{id}", _get_v2_result),
        ("segmind:ask", "GET", "/v2/requests/{id}/status", _get_v2_status),
        ("segmind:upload", "POST", "/upload-asset", _upload_asset),
        ("segmind:list", "GET", history, _list_history),
        ("segmind:list", "GET", f"{history}/{{id}}", _get_history_row),
    ]
    wrong = [("segmind:other", "GET", f"/{version}/{{slug}}", _refuse_method) for version in ("v1", "v2")]
    return [*make_routes(core, rows, _check_segmind_key), *make_routes(core, wrong)]


async def _refuse_method(_: Core, __: Request) -> Response:
    return HTMLResponse("<html><head><title>405 Not Allowed</title></head></html>", 405)


def _segmind_error(status: int, error: str) -> ErrorResponse:
    return ErrorResponse(status, {"error": error})


def _check_segmind_key(request: Request) -> None:
    """Any key will do, but there must be one."""
    if not request.headers.get("x-api-key", "").strip():
        raise _segmind_error(401, "No API Key found in request")


async def _accept(core: Core, request: Request) -> Prediction:
    model = core.model(_WIRE, request.path_params["slug"])
    if model is None:
        raise _segmind_error(404, "The requested URL was not found on the server.")
    given = await _read_input(core, request, model)
    if problems := model.problems(given):
        raise _segmind_error(400, "; ".join(f"{one.field}: {one.message}" for one in problems))
    return core.accept(str(uuid.uuid4()), model, given, forced=read_forced_outcome(request))


async def _read_input(core: Core, request: Request, model: Model) -> JsonObject:
    kind = request.headers.get("content-type", "").split(";")[0]
    if kind == "multipart/form-data":
        return await _read_form(core, request, model)
    if kind != "application/json":
        message = "The Content-Type is not acceptable: send application/json or multipart/form-data."
        raise _segmind_error(406, message)
    given = await read_object(request)
    if given is None:
        raise _segmind_error(400, "The request body is not a JSON object.")
    # The documents name 1 as the default of a boolean, and it is taken as one.
    return {
        name: bool(value) if _is_boolean(model, name) and type(value) is int and value in (0, 1) else value
        for name, value in given.items()
    }


def _is_boolean(model: Model, name: str) -> bool:
    return name in model.fields and model.fields[name].type == "boolean"


async def _read_form(core: Core, request: Request, model: Model) -> JsonObject:
    """Form fields as the JSON input they stand for; a file part becomes an upload."""
    given: JsonObject = {}
    async with request.form(max_files=4) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                kind = value.content_type or "application/octet-stream"
                upload = UploadedFile(new_id(), value.filename or "file", kind, core.clock())
                upload = await core.receive(upload, read_chunks(value))
                given[name] = core.upload_url(upload, core.base(request))
            elif _is_boolean(model, name):
                given[name] = value.lower() in ("true", "1")
            else:
                given[name] = value
    return given


async def _run_v1(core: Core, request: Request) -> Response:
    accepted = await _accept(core, request)
    known = await core.until_final(_WIRE, accepted.request.id, _V1_SECONDS) or accepted
    status = known.status(core.clock())
    if status is not RunStatus.SUCCEEDED or known.outcome is None or known.outcome.output is None:
        failure = known.outcome.failure if known.outcome else None
        message = failure.message if failure else "The request did not finish in time."
        raise _segmind_error(400 if failure and failure.field else 500, message)
    output, model = known.outcome.output, core.model(_WIRE, known.request.model)
    made = output.get("sandbox") if isinstance(output, dict) else known.outcome.metrics.get("sandbox")
    headers = _v1_headers(core, known, made or {})
    if model is not None and model.answers_with_json and not isinstance(output, str):
        return JSONResponse(core.output(known, core.base(request)), headers=headers)
    reference = Path(output if isinstance(output, str) else output["image"])
    place = core.store.output(reference.parent.name, reference.name)
    content = place.read_bytes() if place is not None else b""
    if known.request.input.get("base64"):
        return JSONResponse({"image": base64.b64encode(content).decode()}, headers=headers)
    return Response(content, headers=headers, media_type=_MEDIA_TYPES.get(reference.suffix, "image/jpeg"))


def _v1_headers(core: Core, known: Prediction, made: JsonObject) -> dict[str, str]:
    now = core.clock()
    headers = {
        "x-request-id": known.request.id,
        "x-generation-time": f"{_run_seconds(known, now):.3f}",
        "x-cost": str(_cost(core, known)),
        "x-remaining-credits": str(_credits_left(core)),
    }
    return headers | {f"x-sandbox-{name}": str(value) for name, value in made.items() if value is not None}


def _credits_left(core: Core) -> float:
    """What is left after the runs that this process has accepted."""
    return round(max(_CREDITS - core.charged_usd(_WIRE), 0.0), 6)


def _run_seconds(known: Prediction, now: float) -> float:
    ended = known.end_time(now)
    return max(0.0, ended - known.started) if ended is not None and known.started is not None else 0.0


def _cost(core: Core, known: Prediction) -> float:
    """What was charged, in US dollars."""
    return round(core.bill(known).usd, 6)


async def _get_credits(core: Core, _: Request) -> Response:
    return JSONResponse({"credits": _credits_left(core)})


async def _submit_v2(core: Core, request: Request) -> Response:
    known = await _accept(core, request)
    one = f"{core.base(request)}/v2/requests/{known.request.id}"
    return JSONResponse(
        {
            "request_id": known.request.id,
            "status": "QUEUED",
            "poll_url": f"{one}/status",
            "status_url": f"{one}/status",
            "response_url": one,
        }
    )


async def _find_run(core: Core, request: Request) -> Prediction:
    known = await core.find(_WIRE, request.path_params["id"])
    # Records live one hour after submission.
    if known is None or core.clock() - known.request.created >= _RETENTION_SECONDS:
        raise _segmind_error(404, "Request not found")
    return known


async def _get_v2_status(core: Core, request: Request) -> Response:
    return _v2_response(core, await _find_run(core, request), {})


async def _get_v2_result(core: Core, request: Request) -> Response:
    known = await _find_run(core, request)
    output = core.output(known, core.base(request))
    return _v2_response(core, known, {"request_id": known.request.id, "output": output})


def _v2_response(core: Core, known: Prediction, more: JsonObject) -> Response:
    """A v2 body; a failed request has an ordinary one under HTTP 422."""
    now = core.clock()
    status = known.status(now)
    body: JsonObject = {"status": _STATUS.get(status, "FAILED"), **more, "metrics": {}}
    if status is RunStatus.SUCCEEDED:
        body["metrics"] = {
            "inference_time": round(_run_seconds(known, now), 3),
            "cost": _cost(core, known),
            "remaining_credits": _credits_left(core),
        }
    if body["status"] != "FAILED":
        return JSONResponse(body)
    failure = known.outcome.failure if known.outcome else None
    return JSONResponse(body | {"error": failure.message if failure else "The request was stopped."}, 422)


async def _upload_asset(core: Core, request: Request) -> Response:
    uris = (await read_object(request) or {}).get("data_urls")
    if not isinstance(uris, list) or not uris or not all(isinstance(uri, str) for uri in uris):
        raise _segmind_error(400, "data_urls is not a list of data URLs.")
    uploads = [await _receive_data_url(core, uri) for uri in uris]
    urls = [core.upload_url(upload, core.base(request)) for upload in uploads]
    return JSONResponse({"file_urls": urls, "message": "Files uploaded successfully"})


async def _receive_data_url(core: Core, uri: str) -> UploadedFile:
    head, _, body = uri.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64")
    try:
        content = base64.b64decode(body, validate=True)
    except binascii.Error as problem:
        raise _segmind_error(400, "A data URL is not valid base64.") from problem

    async def one_chunk() -> AsyncIterator[bytes]:
        yield content

    return await core.receive(
        UploadedFile(new_id(), f"asset.{_ENDINGS.get(kind, 'bin')}", kind, core.clock()), one_chunk()
    )


async def _list_history(core: Core, request: Request) -> Response:
    query = request.query_params
    page, size = max(1, integer_parameter(request, "page", 1)), integer_parameter(request, "per_page", 10)
    rows = [_history_row(core, request, one) for one in core.recent(_WIRE) if _is_of_days(one, query)]
    matching = [
        row
        for row in rows
        if query.get("model_name") in (None, "", row["model_name"])
        and query.get("status") in (None, "", row["model_status"])
    ]
    if query.get("sort_order", "desc").lower() == "asc":
        matching.reverse()
    shown = matching[(page - 1) * size : page * size]
    return JSONResponse({"data": shown, "page": page, "per_page": size, "total": len(matching)})


def _is_of_days(known: Prediction, query: Mapping[str, Any]) -> bool:
    day = datetime.fromtimestamp(known.request.created, UTC).date()
    try:
        first = date.fromisoformat((query.get("from_date") or "1970-01-01")[:10])
        last = date.fromisoformat((query.get("to_date") or "9999-12-30")[:10])
    except ValueError as problem:
        raise _segmind_error(400, "from_date and to_date are days such as 2026-01-31.") from problem
    return first <= day < last + timedelta(days=1)


async def _get_history_row(core: Core, request: Request) -> Response:
    known = core.store.get(request.path_params["id"])
    if known is None or known.request.wire != _WIRE:
        raise _segmind_error(404, "Request not found")
    return JSONResponse(_history_row(core, request, known))


def _history_row(core: Core, request: Request, known: Prediction) -> JsonObject:
    now = core.clock()
    status, failure = known.status(now), known.failure(now)
    output = core.output(known, core.base(request)) or {}
    return {
        "request_id": known.request.id,
        "model_name": known.request.model,
        "model_status": "PENDING" if not status.is_final else _STATUS.get(status, "FAILED"),
        "credits_deduction": _cost(core, known),
        "request_body": known.request.input,
        "generation_url": output.get("image"),
        "latency_ms": round(_run_seconds(known, now) * 1000),
        "error": failure.message if failure else None,
        "created_at": utc_time(known.request.created),
    }
