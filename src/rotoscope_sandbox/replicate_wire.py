"""Replicate's wire, and the same one under the path of a gateway.

The gateway differs as the real ones do: it answers a create with 200, takes community models by their path, and
hands out `urls` that point to api.replicate.com, where its key is worth nothing.
Webhooks go to this machine only (`webhooks`); others are accepted and never sent.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, TypeAlias

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rotoscope_sandbox.models import Model, Problem, all_models, find_model
from rotoscope_sandbox.predictions import HIDDEN, JsonObject, Prediction, Stage
from rotoscope_sandbox.replicate_catalog import CATALOG, LostRoute, nowhere
from rotoscope_sandbox.replicate_words import invalid_body
from rotoscope_sandbox.site import Refusal, Site, fate_of, moment, pieces, read_object, whole
from rotoscope_sandbox.store import Mark, Upload, new_id
from rotoscope_sandbox.webhooks import Webhook, notify, replicate_secret, signed_by_replicate

__all__ = ["replicate_routes"]

_WIRE = "replicate"
_HOME = "https://api.replicate.com"
_STATUS = {
    Stage.QUEUED: "starting",
    Stage.RUNNING: "processing",
    Stage.SUCCEEDED: "succeeded",
    Stage.FAILED: "failed",
    Stage.CANCELED: "canceled",
    Stage.ABORTED: "aborted",
}
_RETENTION_SECONDS = 3600.0
_UPLOAD_SECONDS = 24 * 3600.0
_PAGE = 100
_STREAM_SECONDS = 3600.0
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_DEFAULT_WAIT = 60.0
_EVENTS = ("start", "output", "logs", "completed")
_PREFER = re.compile(r"wait(?:=(\d{1,2}))?")
_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")

_Act: TypeAlias = Callable[[Site, Request], Awaitable[Response]]
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def replicate_routes(site: Site) -> list[Route]:
    """Every route, once at the root and once under `/replicate`."""
    table: list[tuple[str, str, _Act]] = [
        ("GET", "/predictions", _list),
        ("POST", "/predictions", _create),
        ("GET", "/predictions/{id}", _get),
        ("POST", "/predictions/{id}/cancel", _cancel),
        ("POST", "/models/{owner}/{name}/predictions", _create_by_model),
        *CATALOG,
        ("GET", "/webhooks/default/secret", _secret),
        ("GET", "/files", _list_files),
        ("POST", "/files", _upload),
        ("GET", "/files/{id}", _file),
        ("DELETE", "/files/{id}", _delete_file),
        ("GET", "/files/{id}/download", _download),
    ]
    known = [
        Route(f"{prefix}/v1{path}", _keyed(partial(act, site)), methods=[method])
        for prefix in ("", "/replicate")
        for method, path, act in table
    ]
    # The address of a stream is its own key: the official clients send none with it.
    streams = [Route(f"{prefix}/v1/streams/{{id}}", partial(_stream, site)) for prefix in ("", "/replicate")]
    lost = [LostRoute(f"{prefix}/v1/{{path:path}}", _keyed(_lost), methods=_METHODS) for prefix in ("", "/replicate")]
    return [*known, *streams, *lost]


async def _lost(_: Request) -> Response:
    raise nowhere()


def _refuse(status: int, title: str, detail: str, **more: object) -> Refusal:
    return Refusal(status, {"title": title, "detail": detail, "status": status, **more})


def _keyed(act: _Endpoint) -> _Endpoint:
    """Any key will do, but there must be one."""

    @wraps(act)
    async def endpoint(request: Request) -> Response:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not key.strip():
            raise _refuse(401, "Unauthenticated", "You did not pass a valid authentication token")
        return await act(request)

    return endpoint


def _is_gateway(request: Request) -> bool:
    return request.url.path.startswith("/replicate/")


async def _create(site: Site, request: Request) -> Response:
    body = await _body(request)
    return await _start(site, request, body, _by_version(body.get("version"), gateway=_is_gateway(request)))


async def _create_by_model(site: Site, request: Request) -> Response:
    model = find_model(_WIRE, f"{request.path_params['owner']}/{request.path_params['name']}")
    # Community models answer 404 here: only official ones run without a version. Gateways take both.
    if model is None or (model.version and not _is_gateway(request)):
        raise nowhere()
    return await _start(site, request, await _body(request), model)


async def _body(request: Request) -> JsonObject:
    body = await read_object(request)
    if body is None:
        raise _refuse(400, "Bad request", "The request body is not a JSON object.")
    if not isinstance(body.get("input"), dict):
        raise _invalid([Problem("input", "input is required", "missing")], None, {})
    return body


def _by_version(version: object, *, gateway: bool) -> Model:
    """The model that a version names: 64 hex digits, `owner/name:64hex`, or `owner/name` of an official model."""
    name, _, hexadecimal = str(version or "").rpartition(":")
    for model in all_models():
        known = model.wire == _WIRE and model.version
        if known and hexadecimal == model.version and name in ("", model.name):
            return model
        if model.wire == _WIRE and version == model.name and (gateway or not model.version):
            return model
    detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    raise _refuse(422, "Invalid version or not permitted", detail)


def _invalid(problems: list[Problem], model: Model | None, given: JsonObject) -> Refusal:
    body = invalid_body(problems, model, given)
    return _refuse(422, "Input validation failed", body["detail"], invalid_fields=body["invalid_fields"])


async def _start(site: Site, request: Request, body: JsonObject, model: Model) -> Response:
    if problems := model.problems(body["input"]):
        raise _invalid(problems, model, body["input"])
    span = _seconds(request.headers.get("cancel-after"))
    deadline = None if span is None else site.clock() + span
    fate = fate_of(request)
    known: Prediction | None = site.accept(new_id(), model, body["input"], deadline=deadline, fate=fate)
    if known is not None and isinstance(body.get("webhook"), str):
        await notify(site, known, _webhook(site, request, body), fate)
    wait = _wait(request.headers.get("prefer", ""))
    if known is None or wait is None:
        return JSONResponse(_told(site, request, known), 200 if _is_gateway(request) else 201)
    known = await site.until_final(_WIRE, known.order.id, wait)
    told = _told(site, request, known)
    if told["status"] == "processing":
        told["status"] = "starting"
    return JSONResponse(told, 200 if _is_gateway(request) else 202 if told["output"] is None else 201)


def _webhook(site: Site, request: Request, body: JsonObject) -> Webhook:
    wanted = body.get("webhook_events_filter")
    events = tuple(event for event in _EVENTS if not isinstance(wanted, list) or not wanted or event in wanted)
    return Webhook(body["webhook"], events, partial(_told, site, request), signed_by_replicate, site.store.key(_WIRE))


async def _secret(site: Site, _: Request) -> Response:
    return JSONResponse({"key": replicate_secret(site.store.key(_WIRE))})


def _wait(prefer: str) -> float | None:
    asked = _PREFER.fullmatch(prefer.strip())
    return float(asked[1] or _DEFAULT_WAIT) if asked else None


def _seconds(span: str | None) -> float | None:
    """`Cancel-After`: whole hours, minutes and seconds, such as `1h`, `90s`, `1m30s`."""
    if span is None:
        return None
    parts = _SPAN.fullmatch(span.strip())
    if parts is None or not any(parts.groups()):
        raise _refuse(400, "Bad request", "Cancel-After is not a duration such as 90s, 1m or 1h.")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _told(site: Site, request: Request, known: Prediction | None) -> JsonObject:
    """The prediction as Replicate words it."""
    if known is None:
        raise nowhere()
    order, now = known.order, site.clock()
    stage, completed = known.stage(now), known.completed(now)
    started = known.started if known.started is not None and known.started <= (completed or now) else None
    removed = completed is not None and now - completed >= _RETENTION_SECONDS
    failure = known.outcome.failure if known.outcome and stage is Stage.FAILED else None
    told: JsonObject = {
        "id": order.id,
        "model": order.model,
        "version": order.version,
        "input": {} if removed else order.input,
        "logs": "" if removed or started is None else "\n".join(known.logs),
        "output": None if removed else site.output(known, site.base(request)),
        "data_removed": removed,
        "error": failure.message if failure else None,
        "source": "api",
        "status": _STATUS[stage],
        "created_at": _iso(order.created),
        "started_at": _iso(started),
        "completed_at": _iso(completed),
        "urls": _urls(site, request, known),
    }
    if order.deadline is not None:
        told["deadline"] = _iso(order.deadline)
    if completed is not None:
        ran = completed - started if started is not None else 0.0
        measured = known.outcome.metrics if known.outcome and stage is Stage.SUCCEEDED else {}
        times = {"predict_time": round(ran, 6), "total_time": round(completed - order.created, 6)}
        told["metrics"] = {**measured, **times}
    return told


def _urls(site: Site, request: Request, known: Prediction) -> JsonObject:
    """Official models have a stream as well, and a gateway's documents tell one of every model."""
    id_, gateway = known.order.id, _is_gateway(request)
    base = _HOME if gateway else site.base(request)
    one = f"{base}/v1/predictions/{id_}"
    urls = {"cancel": f"{one}/cancel", "get": one, "web": f"{base}/p/{id_}"}
    official = known.order.version == HIDDEN
    return urls | ({"stream": f"{base}/v1/streams/{id_}"} if official or gateway else {})


async def _stream(site: Site, request: Request) -> Response:
    """Server-sent events: every output, then `done`; a failure is an `error` before it."""
    known = await site.look(_WIRE, request.path_params["id"])
    if known is None:
        raise nowhere()

    async def events() -> AsyncIterator[str]:
        final = await site.until_final(_WIRE, known.order.id, _STREAM_SECONDS) or known
        told = _told(site, request, final)
        outputs = told["output"] if isinstance(told["output"], list) else [told["output"]]
        for number, output in enumerate(outputs if told["output"] is not None else ()):
            yield f"event: output\nid: {int(site.clock())}:{number}\ndata: {_line(output)}\n\n"
        if told["error"] is not None:
            yield f"event: error\ndata: {json.dumps({'detail': told['error']})}\n\n"
        reason = {"failed": "error", "canceled": "canceled", "aborted": "canceled"}.get(told["status"])
        yield f"event: done\ndata: {json.dumps({'reason': reason} if reason else {})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _line(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


async def _get(site: Site, request: Request) -> Response:
    return JSONResponse(_told(site, request, await site.look(_WIRE, request.path_params["id"])))


async def _cancel(site: Site, request: Request) -> Response:
    known = site.store.get(request.path_params["id"])
    mine = known is not None and known.order.wire == _WIRE
    return JSONResponse(_told(site, request, site.cancel(known) if known and mine else None))


async def _list(site: Site, request: Request) -> Response:
    after, before = (moment(request, name) for name in ("created_after", "created_before"))
    skipped = whole(request, "cursor", 0)

    def is_between(one: Mark) -> bool:
        return (after is None or one.created >= after) and (before is None or one.created < before)

    page, more = site.page(_WIRE, skipped, _PAGE, is_between)
    here = request.url.include_query_params
    return JSONResponse(
        {
            "previous": str(here(cursor=max(0, skipped - _PAGE))) if skipped else None,
            "next": str(here(cursor=skipped + _PAGE)) if more else None,
            "results": [_told(site, request, one) for one in page],
        }
    )


async def _upload(site: Site, request: Request) -> Response:
    async with request.form(max_files=4, max_part_size=100 * 1024 * 1024) as form:
        parts = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        content = next((value for name, value in parts if name != "metadata"), None)
        if content is None:
            raise _refuse(400, "Bad request", "Missing content")
        told = form.get("metadata")
        metadata = await told.read() if isinstance(told, UploadFile) else (told or "{}")
        name = form.get("filename") or content.filename or "file"
        kind = form.get("type") or content.content_type or "application/octet-stream"
        upload = Upload(new_id(), str(name), str(kind), site.clock(), metadata=_metadata(metadata))
        return JSONResponse(_file_told(site, request, await site.receive(upload, pieces(content))), 201)


def _metadata(text: bytes | str) -> JsonObject:
    try:
        parsed: Any = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _file_told(site: Site, request: Request, upload: Upload) -> JsonObject:
    return {
        "id": upload.id,
        "name": upload.name,
        "content_type": upload.content_type,
        "size": upload.size,
        "etag": upload.md5,
        "checksums": {"sha256": upload.sha256, "md5": upload.md5},
        "metadata": upload.metadata or {},
        "created_at": _iso(upload.created),
        "expires_at": _iso(upload.created + _UPLOAD_SECONDS),
        "urls": {"get": f"{site.base(request)}/v1/files/{upload.id}"},
    }


def _found(site: Site, request: Request) -> Upload:
    upload = site.store.upload(request.path_params["id"])
    if upload is None or upload.size is None:
        raise nowhere()
    return upload


async def _file(site: Site, request: Request) -> Response:
    return JSONResponse(_file_told(site, request, _found(site, request)))


async def _list_files(site: Site, request: Request) -> Response:
    told = [_file_told(site, request, one) for one in site.store.uploads() if one.size is not None]
    return JSONResponse({"previous": None, "next": None, "results": told})


async def _delete_file(site: Site, request: Request) -> Response:
    site.store.forget_upload(_found(site, request).id)
    return Response(status_code=204)


async def _download(site: Site, request: Request) -> Response:
    place = site.store.upload_path(_found(site, request).id)
    if place is None:
        raise nowhere()
    return FileResponse(place, media_type="application/octet-stream")
