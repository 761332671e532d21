"""fal's storage: the CDN with its short-lived token, upload URLs that take a PUT, and files that come in parts.

Everything streams to disk. The part forms are the ones that the two official clients speak: the npm one sends its
parts to `{upload_url}/{number}?{the same query}`, the Python one to `{access_url}/multipart/{id}/{number}`.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.fal_wire import keyed
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.site import Refusal, Site, poured, read_object
from rotoscope_sandbox.store import Upload, new_id

__all__ = ["storage_routes"]

_TOKEN_HOURS = 1
_MOST_PARTS = 10_000

_Act: TypeAlias = Callable[[Site, Request], Awaitable[Response]]


def storage_routes(site: Site) -> list[Route]:
    """Every route of the storage; in front of everything with placeholders in its path."""
    # Who holds a fresh upload URL may write there once asked for, without a key: as with the real storage.
    free: list[tuple[str, str, _Act]] = [
        ("PUT", "/storage/put/{id}", _put),
        ("PUT", "/storage/parts/{id}/{number:int}", _part),
        ("POST", "/storage/parts/{id}/complete", _complete),
    ]
    table: list[tuple[str, str, _Act]] = [
        ("POST", "/storage/auth/token", _token),
        ("POST", "/storage/upload/initiate", _initiate),
        ("POST", "/storage/upload/initiate-multipart", _initiate_parts),
        ("POST", "/files/upload", _upload),
        ("POST", "/files/upload/multipart", _begin_parts),
        ("PUT", "/files/{name}/multipart/{id}/{number:int}", _part),
        ("POST", "/files/{name}/multipart/{id}/complete", _complete),
    ]
    return [
        *(Route(path, partial(act, site), methods=[verb]) for verb, path, act in free),
        *(Route(path, keyed(partial(act, site)), methods=[verb]) for verb, path, act in table),
    ]


async def _token(site: Site, request: Request) -> Response:
    until = datetime.now(UTC) + timedelta(hours=_TOKEN_HOURS)
    return JSONResponse(
        {
            "token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "base_url": site.base(request),
            "expires_at": until.isoformat(),
        }
    )


async def _upload(site: Site, request: Request) -> Response:
    upload = await site.receive(_named(site, request), request.stream())
    return JSONResponse({"access_url": site.upload_url(upload, site.base(request))})


def _named(site: Site, request: Request) -> Upload:
    kind = request.headers.get("content-type", "application/octet-stream")
    return Upload(new_id(), request.headers.get("x-fal-file-name", "file"), kind, site.clock())


async def _initiate(site: Site, request: Request) -> Response:
    return await _initiated(site, request, "put", "")


async def _initiate_parts(site: Site, request: Request) -> Response:
    return await _initiated(site, request, "parts", f"?upload={secrets.token_hex(8)}")


async def _initiated(site: Site, request: Request, way: str, query: str) -> Response:
    asked = await read_object(request) or {}
    kind = str(asked.get("content_type") or "application/octet-stream")
    upload = site.store.expect(Upload(new_id(), str(asked.get("file_name") or "file"), kind, site.clock()))
    base = site.base(request)
    return JSONResponse(
        {
            "upload_url": f"{base}/storage/{way}/{upload.id}{query}",
            "file_url": site.upload_url(upload, base),
        }
    )


async def _begin_parts(site: Site, request: Request) -> Response:
    upload = site.store.expect(_named(site, request))
    return JSONResponse({"access_url": site.upload_url(upload, site.base(request)), "uploadId": upload.id})


def _awaited(site: Site, request: Request) -> Upload:
    upload = site.store.upload(request.path_params["id"])
    if upload is None:
        raise Refusal(404, {"detail": "Not found"})
    return upload


async def _put(site: Site, request: Request) -> Response:
    upload = await site.receive(_awaited(site, request), request.stream())
    return Response(status_code=200, headers={"etag": f'"{upload.md5}"'})


async def _part(site: Site, request: Request) -> Response:
    """One part; its etag is told both as a header and in the body, because each client reads another place."""
    number = request.path_params["number"]
    if not 1 <= number <= _MOST_PARTS:
        raise Refusal(400, {"detail": f"Part numbers go from 1 to {_MOST_PARTS}."})
    with site.store.receive_part(_awaited(site, request), number) as came:
        await poured(request.stream(), came)
        came.settle()
    etag = f'"{came.md5}"'
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"etag": etag})


async def _complete(site: Site, request: Request) -> Response:
    upload, parts = _awaited(site, request), (await read_object(request) or {}).get("parts")
    numbers = [_number(part) for part in parts] if isinstance(parts, list) else []
    if not numbers or None in numbers:
        raise Refusal(400, {"detail": "parts is not a list of {partNumber, etag}."})
    ordered = sorted(number for number in numbers if number is not None)
    if await to_thread.run_sync(site.store.join, upload, ordered) is None:
        raise Refusal(400, {"detail": "A part is missing."})
    told: JsonObject = {"access_url": site.upload_url(upload, site.base(request))}
    return JSONResponse(told)


def _number(part: object) -> int | None:
    number = part.get("partNumber") if isinstance(part, Mapping) else None
    return number if isinstance(number, int) and number > 0 else None
