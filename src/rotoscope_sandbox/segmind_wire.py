"""Segmind's wire: v1, which answers with the picture itself, v2, which is asked about, uploads and history.

What the sandbox adds: v1 has no place for more than the picture, so it tells how a mask was made in the reply
headers `x-sandbox-method`, `x-sandbox-confidence` and `x-sandbox-notice`; v2 tells it in `output.sandbox`.
"""

import base64
import binascii
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeAlias

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.models import Model, find_model
from rotoscope_sandbox.predictions import JsonObject, Prediction, Stage
from rotoscope_sandbox.site import Refusal, Site, fate_of, pieces, read_object, whole
from rotoscope_sandbox.store import Upload, new_id

__all__ = ["segmind_routes"]

_WIRE = "segmind"
_V1_SECONDS = 600.0
_RETENTION_SECONDS = 3600.0
_CREDITS = 1000.0  # US dollars
_STATUS = {
    Stage.QUEUED: "QUEUED",
    Stage.RUNNING: "PROCESSING",
    Stage.SUCCEEDED: "COMPLETED",
}
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4"}

_Act: TypeAlias = Callable[[Site, Request], Awaitable[Response]]
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def segmind_routes(site: Site) -> list[Route]:
    """Every route. The ones with a slug answer other methods with 405 in HTML, as the real ones do."""
    table: list[tuple[str, str, _Act]] = [
        ("POST", "/v1/{slug}", _sync),
        ("POST", "/v2/{slug}", _submit),
        ("GET", "/v2/requests/{id}", _result),
        ("GET", "/v2/requests/{id}/status", _status),
        ("POST", "/upload-asset", _upload),
        ("GET", "/inference-request/request-history", _history),
        ("GET", "/inference-request/request-history/{id}", _past),
    ]
    keyed = [Route(path, _keyed(partial(act, site)), methods=[verb]) for verb, path, act in table]
    return [*keyed, *(Route(f"/{version}/{{slug}}", _wrong_method, methods=["GET"]) for version in ("v1", "v2"))]


async def _wrong_method(_: Request) -> Response:
    return HTMLResponse("<html><head><title>405 Not Allowed</title></head></html>", 405)


def _refuse(status: int, error: str) -> Refusal:
    return Refusal(status, {"error": error})


def _keyed(act: _Endpoint) -> _Endpoint:
    """Any key will do, but there must be one."""

    @wraps(act)
    async def endpoint(request: Request) -> Response:
        if not request.headers.get("x-api-key", "").strip():
            raise _refuse(401, "No API Key found in request")
        return await act(request)

    return endpoint


async def _accepted(site: Site, request: Request) -> Prediction:
    model = find_model(_WIRE, request.path_params["slug"])
    if model is None:
        raise _refuse(404, "The requested URL was not found on the server.")
    given = await _given(site, request, model)
    if problems := model.problems(given):
        raise _refuse(400, "; ".join(f"{one.field}: {one.message}" for one in problems))
    return site.accept(str(uuid.uuid4()), model, given, fate=fate_of(request))


async def _given(site: Site, request: Request, model: Model) -> JsonObject:
    kind = request.headers.get("content-type", "").split(";")[0]
    if kind == "multipart/form-data":
        return await _form(site, request, model)
    if kind != "application/json":
        raise _refuse(406, "The Content-Type is not acceptable: send application/json or multipart/form-data.")
    given = await read_object(request)
    if given is None:
        raise _refuse(400, "The request body is not a JSON object.")
    return {name: _flag(model, name, value) for name, value in given.items()}


def _flag(model: Model, name: str, value: Any) -> Any:
    """The documents name 1 as the default of a boolean, and it is taken as one."""
    is_flag = name in model.fields and model.fields[name].type == "boolean"
    return bool(value) if is_flag and type(value) is int and value in (0, 1) else value


async def _form(site: Site, request: Request, model: Model) -> JsonObject:
    """Form fields as the JSON input they stand for; a file part becomes an upload."""
    given: JsonObject = {}
    async with request.form(max_files=4) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                given[name] = await _kept(site, request, value)
            elif name in model.fields and model.fields[name].type == "boolean":
                given[name] = value.lower() in ("true", "1")
            else:
                given[name] = value
    return given


async def _kept(site: Site, request: Request, part: UploadFile) -> str:
    kind = part.content_type or "application/octet-stream"
    upload = await site.receive(Upload(new_id(), part.filename or "file", kind, site.clock()), pieces(part))
    return site.upload_url(upload, site.base(request))


async def _sync(site: Site, request: Request) -> Response:
    accepted = await _accepted(site, request)
    known = await site.until_final(_WIRE, accepted.order.id, _V1_SECONDS) or accepted
    stage = known.stage(site.clock())
    if stage is not Stage.SUCCEEDED or known.outcome is None or known.outcome.output is None:
        failure = known.outcome.failure if known.outcome else None
        message = failure.message if failure else "The request did not finish in time."
        raise _refuse(400 if failure and failure.field else 500, message)
    output = known.outcome.output
    place = site.store.output(*_place(output["image"]))
    content = place.read_bytes() if place is not None else b""
    headers = _headers(site, known, output.get("sandbox", {}))
    if known.order.input.get("base64"):
        return JSONResponse({"image": base64.b64encode(content).decode()}, headers=headers)
    return Response(content, headers=headers, media_type="image/jpeg")


def _place(reference: str) -> tuple[str, str]:
    path = Path(reference)
    return path.parent.name, path.name


def _headers(site: Site, known: Prediction, made: JsonObject) -> dict[str, str]:
    now = site.clock()
    told = {
        "x-request-id": known.order.id,
        "x-generation-time": f"{_took(known, now):.3f}",
        "x-cost": str(_cost(known, now)),
        "x-remaining-credits": str(_credits_left(site, known)),
    }
    return told | {f"x-sandbox-{name}": str(value) for name, value in made.items() if value is not None}


def _credits_left(site: Site, known: Prediction) -> float:
    """What is left after the runs that this process has told the end of."""
    site.charged[known.order.id] = _cost(known, site.clock())
    return round(max(_CREDITS - sum(site.charged.values()), 0.0), 6)


def _took(known: Prediction, now: float) -> float:
    completed = known.completed(now)
    return max(0.0, completed - known.started) if completed is not None and known.started is not None else 0.0


def _cost(known: Prediction, now: float) -> float:
    """What was charged: only successes are billed."""
    model = find_model(_WIRE, known.order.model)
    return model.cost if model is not None and known.stage(now) is Stage.SUCCEEDED else 0.0


async def _submit(site: Site, request: Request) -> Response:
    known = await _accepted(site, request)
    one = f"{site.base(request)}/v2/requests/{known.order.id}"
    return JSONResponse(
        {
            "request_id": known.order.id,
            "status": "QUEUED",
            "poll_url": f"{one}/status",
            "status_url": f"{one}/status",
            "response_url": one,
        }
    )


async def _found(site: Site, request: Request) -> Prediction:
    known = await site.look(_WIRE, request.path_params["id"])
    # Records live one hour after submission.
    if known is None or site.clock() - known.order.created >= _RETENTION_SECONDS:
        raise _refuse(404, "Request not found")
    return known


async def _status(site: Site, request: Request) -> Response:
    known = await _found(site, request)
    return _answer(site, known, {})


async def _result(site: Site, request: Request) -> Response:
    known = await _found(site, request)
    output = site.output(known, site.base(request))
    return _answer(site, known, {"request_id": known.order.id, "output": output})


def _answer(site: Site, known: Prediction, more: JsonObject) -> Response:
    """A v2 body; a failed request has an ordinary one under HTTP 422."""
    now = site.clock()
    stage = known.stage(now)
    body: JsonObject = {"status": _STATUS.get(stage, "FAILED"), **more, "metrics": {}}
    if stage is Stage.SUCCEEDED:
        body["metrics"] = {
            "inference_time": round(_took(known, now), 3),
            "cost": _cost(known, now),
            "remaining_credits": _credits_left(site, known),
        }
    if body["status"] != "FAILED":
        return JSONResponse(body)
    failure = known.outcome.failure if known.outcome else None
    return JSONResponse(body | {"error": failure.message if failure else "The request was stopped."}, 422)


async def _upload(site: Site, request: Request) -> Response:
    asked = (await read_object(request) or {}).get("data_urls")
    if not isinstance(asked, list) or not asked or not all(isinstance(uri, str) for uri in asked):
        raise _refuse(400, "data_urls is not a list of data URLs.")
    uploads = [await site.receive(*_decoded(site, uri)) for uri in asked]
    urls = [site.upload_url(upload, site.base(request)) for upload in uploads]
    return JSONResponse({"file_urls": urls, "message": "Files uploaded successfully"})


def _decoded(site: Site, uri: str) -> tuple[Upload, AsyncIterator[bytes]]:
    head, _, body = uri.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64")
    try:
        content = base64.b64decode(body, validate=True)
    except binascii.Error as problem:
        raise _refuse(400, "A data URL is not valid base64.") from problem
    return Upload(new_id(), f"asset.{_ENDINGS.get(kind, 'bin')}", kind, site.clock()), _at_once(content)


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _history(site: Site, request: Request) -> Response:
    asked = request.query_params
    page, size = max(1, whole(request, "page", 1)), whole(request, "per_page", 10)
    rows = [_row(site, request, one) for one in site.recent(_WIRE) if _between(one, asked)]
    wanted = [
        row
        for row in rows
        if asked.get("model_name") in (None, "", row["model_name"])
        and asked.get("status") in (None, "", row["model_status"])
    ]
    if asked.get("sort_order", "desc").lower() == "asc":
        wanted.reverse()
    shown = wanted[(page - 1) * size : page * size]
    return JSONResponse({"data": shown, "page": page, "per_page": size, "total": len(wanted)})


def _between(known: Prediction, asked: Any) -> bool:
    day = datetime.fromtimestamp(known.order.created, UTC).date()
    try:
        first = date.fromisoformat((asked.get("from_date") or "1970-01-01")[:10])
        last = date.fromisoformat((asked.get("to_date") or "9999-12-30")[:10])
    except ValueError as problem:
        raise _refuse(400, "from_date and to_date are days such as 2026-01-31.") from problem
    return first <= day < last + timedelta(days=1)


async def _past(site: Site, request: Request) -> Response:
    known = site.store.get(request.path_params["id"])
    if known is None or known.order.wire != _WIRE:
        raise _refuse(404, "Request not found")
    return JSONResponse(_row(site, request, known))


def _row(site: Site, request: Request, known: Prediction) -> JsonObject:
    now = site.clock()
    stage = known.stage(now)
    output = site.output(known, site.base(request)) or {}
    failure = known.outcome.failure if known.outcome and stage is Stage.FAILED else None
    return {
        "request_id": known.order.id,
        "model_name": known.order.model,
        "model_status": "PENDING" if not stage.final else _STATUS.get(stage, "FAILED"),
        "credits_deduction": _cost(known, now),
        "request_body": known.order.input,
        "generation_url": output.get("image"),
        "latency_ms": round(_took(known, now) * 1000),
        "error": failure.message if failure else None,
        "created_at": datetime.fromtimestamp(known.order.created, UTC).isoformat(),
    }
