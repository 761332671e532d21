"""The sandbox as one ASGI app: three wires on one base, their files, and a journal of what was asked.

What the sandbox adds to the providers' replies is one object, `sandbox`, beside the fields of an output:
`{"method": "grabcut from a box", "confidence": 0.53, "notice": "..." | null}`. It says how a mask was made, how far
to trust it (0 to 1) and what to know about it. Where an output has no fields (a video on Replicate is one URL) it
is in the prediction's `metrics`. On Segmind's v1, which answers with bare bytes, the same three are
reply headers: `x-sandbox-method`, `x-sandbox-confidence`, `x-sandbox-notice`.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from rotoscope_sandbox.core import Core, Endpoint, ErrorResponse, make_routes
from rotoscope_sandbox.fal_platform import platform_routes
from rotoscope_sandbox.fal_storage import storage_routes
from rotoscope_sandbox.fal_wire import queue_routes, rest_routes
from rotoscope_sandbox.faults.middleware import FaultInjection
from rotoscope_sandbox.faults.operations import check_route_names
from rotoscope_sandbox.faults.rules import Faults
from rotoscope_sandbox.journal import Counters, Journal, ledger_response
from rotoscope_sandbox.own_models import OwnModel, play_model
from rotoscope_sandbox.predictions import AcceptedRequest
from rotoscope_sandbox.replicate_wire import replicate_routes
from rotoscope_sandbox.segmind_wire import segmind_routes
from rotoscope_sandbox.store import Store
from rotoscope_sandbox.webhook_post import PostWebhook, post_by_http
from rotoscope_sandbox.weights import Weights
from rotoscope_sandbox.workers import WorkerPool

__all__ = ["build"]

_ENDINGS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}
_HARMLESS = {*_ENDINGS.values(), "video/webm", "video/quicktime", "audio/mpeg", "audio/wav", "audio/mp4"}
"""Content types that no browser runs."""


def build(
    folder: Path,
    *,
    pace: float = 1.0,
    clock: Callable[[], float] = time.time,
    public_url: str | None = None,
    faults: Path | None = None,
    stand_ins: bool = False,
    own_models: Iterable[OwnModel] = (),
    weights: Path | None = None,
    post_webhook: PostWebhook = post_by_http,
) -> Starlette:
    """Build the app; `build_sandbox` has the arguments, and `Sandbox` what its `state` holds.

    Raises:
        UnknownFault: the file of rules cannot be used.
        ValueError: the name of a route does not say which operation it is.
    """
    store, rules, counters = Store(folder), Faults(faults), Counters()
    own = tuple(map(play_model, own_models))
    workers = WorkerPool(store, clock, Weights(weights), stand_ins=stand_ins, own_models=own)
    core = Core(store, workers, clock, pace, public_url, own, post_webhook)
    files_and_counts: list[tuple[str, str, str, Endpoint]] = [
        ("any:output", "GET", "/outputs/{id}/{name}", _output_file),
        ("any:other", "GET", "/files/{name}", _upload_file),
        ("any:other", "GET", "/sandbox/ledger", partial(ledger_response, counters)),
    ]
    routes = [
        *make_routes(core, files_and_counts),
        *storage_routes(core),
        *platform_routes(core),
        *rest_routes(core),
        *replicate_routes(core),
        *segmind_routes(core),
        *queue_routes(core),
        # fal's submit route takes any path: without this, an unknown path would be a wrong method.
        *make_routes(core, [("any:other", "GET PUT DELETE PATCH", "/{path:path}", _unknown_path)]),
    ]
    check_route_names(routes)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Journal, counters, routes),
            Middleware(FaultInjection, faults=rules, find=partial(_find_request, store), clock=clock),
        ],
        exception_handlers={ErrorResponse: _answer_error, HTTPException: _answer_http_exception},
    )
    app.state.requests = counters.requests
    app.state.accepted = core.accepted
    app.state.faults = rules
    app.state.counters = counters
    app.state.core = core
    return app


def _find_request(store: Store, id_: str) -> AcceptedRequest | None:
    known = store.get(id_)
    return None if known is None else known.request


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ErrorResponse)
    return error.response


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


async def _unknown_path(_: Core, __: Request) -> Response:
    raise HTTPException(404, "Not Found")


async def _output_file(core: Core, request: Request) -> Response:
    place = core.store.output(request.path_params["id"], request.path_params["name"])
    return _file_response(place, _ENDINGS.get(place.suffix, "") if place else "")


async def _upload_file(core: Core, request: Request) -> Response:
    id_ = request.path_params["name"].partition(".")[0]
    upload = core.store.upload(id_)
    return _file_response(core.store.upload_path(id_) if upload else None, upload.content_type if upload else "")


def _file_response(place: Path | None, content_type: str) -> Response:
    """A file as what it is, unless a browser could run it."""
    if place is None:
        raise HTTPException(404, "Not found")
    media_type = content_type if content_type in _HARMLESS else "application/octet-stream"
    return FileResponse(place, media_type=media_type, headers={"x-content-type-options": "nosniff"})
