"""fal's storage: the CDN with its short-lived token, upload URLs that take a PUT, and files that come in parts.

Everything streams to disk. The part forms are the ones that the two official clients speak: the npm one sends its
parts to `{upload_url}/{number}?{the same query}`, the Python one to `{access_url}/multipart/{id}/{number}`.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.core import Core, Endpoint, ErrorResponse, make_routes, read_object, write_chunks
from rotoscope_sandbox.fal_wire import make_fal_routes
from rotoscope_sandbox.store import UploadedFile, new_id

__all__ = ["storage_routes"]

_TOKEN_HOURS = 1
_MOST_PARTS = 10_000


def storage_routes(core: Core) -> list[Route]:
    """Every route of the storage; in front of everything with placeholders in its path."""
    # A fresh upload URL is its own key, as with the real storage.
    without_key: list[tuple[str, str, Endpoint]] = [
        ("PUT", "/storage/put/{id}", _put_file),
        ("PUT", "/storage/parts/{id}/{number:int}", _put_part),
        ("POST", "/storage/parts/{id}/complete", _join_parts),
    ]
    with_key: list[tuple[str, str, Endpoint]] = [
        ("POST", "/storage/auth/token", _make_token),
        ("POST", "/storage/upload/initiate", _initiate_upload),
        ("POST", "/storage/upload/initiate-multipart", _initiate_parts),
        ("POST", "/files/upload", _upload_to_cdn),
        ("POST", "/files/upload/multipart", _begin_parts),
        ("PUT", "/files/{name}/multipart/{id}/{number:int}", _put_part),
        ("POST", "/files/{name}/multipart/{id}/complete", _join_parts),
    ]
    return [
        *make_routes(core, [("fal:upload", *row) for row in without_key]),
        *make_fal_routes(core, [("fal:upload", *row) for row in with_key]),
    ]


async def _make_token(core: Core, request: Request) -> Response:
    until = datetime.now(UTC) + timedelta(hours=_TOKEN_HOURS)
    return JSONResponse(
        {
            "token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "base_url": core.base(request),
            "expires_at": until.isoformat(),
        }
    )


async def _upload_to_cdn(core: Core, request: Request) -> Response:
    upload = await core.receive(_upload_of(core, request), request.stream())
    return JSONResponse({"access_url": core.upload_url(upload, core.base(request))})


def _upload_of(core: Core, request: Request) -> UploadedFile:
    kind = request.headers.get("content-type", "application/octet-stream")
    return UploadedFile(new_id(), request.headers.get("x-fal-file-name", "file"), kind, core.clock())


async def _initiate_upload(core: Core, request: Request) -> Response:
    return await _initiate(core, request, "put", "")


async def _initiate_parts(core: Core, request: Request) -> Response:
    return await _initiate(core, request, "parts", f"?upload={secrets.token_hex(8)}")


async def _initiate(core: Core, request: Request, folder: str, query: str) -> Response:
    body = await read_object(request) or {}
    kind = str(body.get("content_type") or "application/octet-stream")
    upload = core.store.announce_upload(
        UploadedFile(new_id(), str(body.get("file_name") or "file"), kind, core.clock())
    )
    base = core.base(request)
    return JSONResponse(
        {
            "upload_url": f"{base}/storage/{folder}/{upload.id}{query}",
            "file_url": core.upload_url(upload, base),
        }
    )


async def _begin_parts(core: Core, request: Request) -> Response:
    upload = core.store.announce_upload(_upload_of(core, request))
    return JSONResponse({"access_url": core.upload_url(upload, core.base(request)), "uploadId": upload.id})


def _find_upload(core: Core, request: Request) -> UploadedFile:
    upload = core.store.upload(request.path_params["id"])
    if upload is None:
        raise ErrorResponse(404, {"detail": "Not found"})
    return upload


async def _put_file(core: Core, request: Request) -> Response:
    upload = await core.receive(_find_upload(core, request), request.stream())
    return Response(status_code=200, headers={"etag": f'"{upload.md5}"'})


async def _put_part(core: Core, request: Request) -> Response:
    """Store one part; its etag is both a header and in the body, because each client reads another place."""
    number = request.path_params["number"]
    if not 1 <= number <= _MOST_PARTS:
        raise ErrorResponse(400, {"detail": f"Part numbers go from 1 to {_MOST_PARTS}."})
    with core.store.receive_part(_find_upload(core, request), number) as incoming:
        await write_chunks(request.stream(), incoming)
        incoming.settle()
    etag = f'"{incoming.md5}"'
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"etag": etag})


async def _join_parts(core: Core, request: Request) -> Response:
    upload, parts = _find_upload(core, request), (await read_object(request) or {}).get("parts")
    numbers = [_part_number(part) for part in parts] if isinstance(parts, list) else []
    if not numbers or None in numbers:
        raise ErrorResponse(400, {"detail": "parts is not a list of {partNumber, etag}."})
    ordered = sorted(number for number in numbers if number is not None)
    if await to_thread.run_sync(core.store.join, upload, ordered) is None:
        raise ErrorResponse(400, {"detail": "A part is missing."})
    return JSONResponse({"access_url": core.upload_url(upload, core.base(request))})


def _part_number(part: object) -> int | None:
    number = part.get("partNumber") if isinstance(part, Mapping) else None
    return number if isinstance(number, int) and number > 0 else None
