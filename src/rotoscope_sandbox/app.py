"""The sandbox as one ASGI app: three wires on one base, their files, and a journal of what was asked.

What the sandbox adds to the providers' replies is one object, `sandbox`, beside the fields of an output:
`{"method": "grabcut from a box", "confidence": 0.53, "notice": "..." | null}`. It says how a mask was made, how far
to trust it (0 to 1) and what to know about it. Where an output has no fields (a video on Replicate is one URL) it
is in the prediction's `metrics`. On Segmind's v1, which answers with bare bytes, the same three are
reply headers: `x-sandbox-method`, `x-sandbox-confidence`, `x-sandbox-notice`.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.fal_storage import storage_routes
from rotoscope_sandbox.fal_wire import queue_routes, rest_routes
from rotoscope_sandbox.faults.middleware import FaultInjection
from rotoscope_sandbox.faults.rules import Faults
from rotoscope_sandbox.predictions import Order
from rotoscope_sandbox.replicate_wire import replicate_routes
from rotoscope_sandbox.segmind_wire import segmind_routes
from rotoscope_sandbox.site import Refusal, Site
from rotoscope_sandbox.store import Store
from rotoscope_sandbox.tally import Tally, ledger_routes
from rotoscope_sandbox.work import Crew

__all__ = ["Seen", "build"]

_REMEMBERED = 1000
_BODY_KEPT = 64 * 1024
_SHOWN = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "video/mp4",
    "video/webm",
    "video/quicktime",
    "audio/mpeg",
    "audio/wav",
    "audio/mp4",
)
_ENDINGS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}


@dataclass(slots=True)
class Seen:
    """One request as it came in: no headers, so no key; of the body the first 64 KiB."""

    method: str
    path: str
    query: str
    body: bytearray = field(default_factory=bytearray)


class _Journal:
    """Writes down every request before it is answered."""

    def __init__(self, app: ASGIApp, pages: deque[Seen], tally: Tally) -> None:
        self._app = app
        self._pages = pages
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = Seen(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        self._pages.append(seen)
        self._tally.note(seen.method, seen.path)

        async def noted() -> Message:
            message = await receive()
            seen.body.extend(message.get("body", b"")[: _BODY_KEPT - len(seen.body)])
            return message

        await self._app(scope, noted, send)


def build(
    folder: Path,
    *,
    pace: float = 1.0,
    clock: Callable[[], float] = time.time,
    public_url: str | None = None,
    faults: Path | None = None,
    stand_ins: bool = False,
) -> Starlette:
    """The app.

    `state.requests` is its journal, `state.accepted` the ids of the predictions it accepted, `state.faults` what
    goes wrong, `state.tally` what came in. `GET /sandbox/ledger` counts (`tally`).
    """
    store = Store(folder)
    site = Site(store, Crew(store, clock, stand_ins=stand_ins), clock, pace, public_url)
    pages: deque[Seen] = deque(maxlen=_REMEMBERED)
    tally, wrongs = Tally(), Faults(faults)
    files = [
        Route("/outputs/{id}/{name}", partial(_output, site)),
        Route("/files/{name}", partial(_upload, site)),
    ]
    app = Starlette(
        routes=[
            *files,
            *ledger_routes(site, tally),
            *storage_routes(site),
            *rest_routes(site),
            *replicate_routes(site),
            *segmind_routes(site),
            *queue_routes(site),
            # fal's submit route takes any path: without this, an unknown path would be a wrong method.
            Route("/{path:path}", _nowhere, methods=["GET", "PUT", "DELETE", "PATCH"]),
        ],
        middleware=[
            Middleware(_Journal, pages, tally),
            Middleware(FaultInjection, faults=wrongs, find=partial(_order, store), clock=clock),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _missing},
    )
    app.state.requests = pages
    app.state.accepted = site.accepted
    app.state.faults = wrongs
    app.state.tally = tally
    app.state.site = site
    return app


def _order(store: Store, id_: str) -> Order | None:
    known = store.get(id_)
    return None if known is None else known.order


async def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response


async def _nowhere(_: Request) -> Response:
    raise HTTPException(404, "Not Found")


async def _missing(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return JSONResponse({"detail": problem.detail}, problem.status_code)


async def _output(site: Site, request: Request) -> Response:
    place = site.store.output(request.path_params["id"], request.path_params["name"])
    return _file(place, _ENDINGS.get(place.suffix, "") if place else "")


async def _upload(site: Site, request: Request) -> Response:
    id_ = request.path_params["name"].partition(".")[0]
    upload = site.store.upload(id_)
    return _file(site.store.upload_path(id_) if upload else None, upload.content_type if upload else "")


def _file(place: Path | None, content_type: str) -> Response:
    """A file as what it is, unless a browser could run it."""
    if place is None:
        raise HTTPException(404, "Not found")
    kind = content_type if content_type in _SHOWN else "application/octet-stream"
    return FileResponse(place, media_type=kind, headers={"x-content-type-options": "nosniff"})
