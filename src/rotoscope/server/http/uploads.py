"""The routes of uploads: where a file is sent to, whole or in parts, and the page for a person.

Whoever has the address may use it, once: the ticket in it is 256 random bits, and says whose the file will be. There is
no sign-in on these routes, because the person at the page has none in their browser.

    PUT     the file: 201 and the artifact
    PUT     a part, `Content-Range: bytes 0-8388607/20000000`: 308 and `Range: bytes=0-8388607`; with the last one 201
    PUT     nothing, `Content-Range: bytes */20000000`: 308 and how far it is; 200 and the artifact where it is done
    POST    the file, or a form with it: 201; a browser without script is sent back to the page
    GET     the page (`Accept: text/html`), or its state as JSON; HEAD its state in headers
    DELETE  204: what has come is dropped, to begin with another file
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, UserMistake
from rotoscope.server.http.upload_bodies import BodyLimits, BodySlots, ReceivedBody, read_form_file, write_body
from rotoscope.server.http.upload_page import PageView, page_headers, render_page
from rotoscope.server.upload_calls import UPLOADS_PATH, describe_upload

if TYPE_CHECKING:
    from rotoscope.store.uploads import Upload
    from rotoscope.studio.uploads import Uploads

__all__ = ["UploadSite", "upload_routes"]

_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
_PART = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_QUESTION = re.compile(r"bytes \*/(?:\d{1,15}|\*)")
_STATUSES = {
    "bad_range": 400,
    "no_file": 400,
    "wrong_origin": 403,
    "unknown_upload": 404,
    "too_slow": 408,
    "out_of_order": 409,
    "upload_busy": 409,
    "upload_used": 409,
    "wrong_total": 409,
    "upload_expired": 410,
    "too_large": 413,
    "not_media": 415,
    "unsupported": 415,
}
_RETRY_SECONDS = "2"
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


@dataclass(frozen=True, slots=True)
class UploadSite:
    """What the routes need.

    Attributes:
        open_uploads: takes the files; opened at the first use.
        public_url: the address at which clients reach the server, without a slash at its end.
        limits: how much comes in at once, and how slowly it may.
    """

    open_uploads: "Callable[[], Awaitable[Uploads]]"
    public_url: str
    limits: BodyLimits = field(default_factory=BodyLimits)


def upload_routes(site: UploadSite) -> list[BaseRoute]:
    """The routes below `/uploads/`."""
    desk = _UploadEndpoint(site, BodySlots(site.limits))
    return [Route(f"{UPLOADS_PATH}/{{ticket}}", desk.answer, methods=_METHODS)]


@dataclass(frozen=True, slots=True)
class _UploadRequest:
    """One request, and the upload that it is about."""

    request: Request
    uploads: "Uploads"
    upload: "Upload"
    ticket: str


@dataclass(frozen=True, slots=True)
class _UploadEndpoint:
    """Answers requests about one ticket."""

    site: UploadSite
    slots: BodySlots

    async def answer(self, request: Request) -> Response:
        """The answer; every refusal is one sentence with a code, as JSON or on the page."""
        if request.method == "OPTIONS":
            return self._options(request)
        ticket: str = request.path_params["ticket"]
        try:
            self._check_origin(request)
            uploads = await self.site.open_uploads()
            if request.method in ("GET", "HEAD"):
                return self._show(request, await uploads.find(ticket), ticket, uploads.clock())
            call = _UploadRequest(request, uploads, await uploads.find_open(ticket), ticket)
            return await self._receive(call)
        except RotoscopeError as error:
            return await self._refuse(request, ticket, error)

    async def _receive(self, call: _UploadRequest) -> Response:
        method, content_range = call.request.method, call.request.headers.get("content-range")
        if method == "DELETE":
            _require_idle(call.upload, call.uploads.clock())
            await call.uploads.clear(call.upload)
            return Response(status_code=204, headers=_HEADERS)
        if content_range is None:
            return await self._receive_whole(call)
        if method != "PUT":
            raise _range_error("Only PUT takes parts.")
        if _QUESTION.fullmatch(content_range):
            return self._progress(call, await call.uploads.take_whole(call.upload))
        return await self._receive_part(call, content_range)

    async def _receive_whole(self, call: _UploadRequest) -> Response:
        request, upload, uploads = call.request, call.upload, call.uploads
        _require_idle(upload, uploads.clock())
        length = _content_length(request)
        content_type = request.headers.get("content-type", "")
        is_form = content_type.lower().startswith("multipart/form-data")
        if not is_form and length is not None:
            _check_size(upload, length)
        chunks = _body_chunks(request)
        with self.slots.hold(upload.principal):
            async with uploads.scratch() as file:
                content = read_form_file(chunks, content_type) if is_form else chunks
                body = await write_body(content, file, self.site.limits, most=upload.max_bytes)
                if body.end == "whole":
                    _require_bytes(body)
                    return self._taken(call, await uploads.take_file(upload, file))
                if body.size and not is_form and not upload.received:
                    upload = await uploads.take_part(upload, file, 0, length)
        return self._progress(call, upload, body)

    async def _receive_part(self, call: _UploadRequest, content_range: str) -> Response:
        upload, uploads = call.upload, call.uploads
        start, size, total = _parse_part(content_range)
        _check_size(upload, total)
        if upload.sha256 is not None and total == upload.total:
            return self._progress(call, upload)  # sent again, because the answer was lost
        _require_idle(upload, uploads.clock())
        if upload.total not in (None, total):
            hint = f"Go on with that file, or DELETE this address to begin with another one of {total} bytes."
            raise InvalidInput(f"The file began with {upload.total} bytes in all.", hint=hint, code="wrong_total")
        if start > upload.received:
            hint = f"Send the part that begins at byte {upload.received}."
            raise InvalidInput("This part does not follow what has come.", hint=hint, code="out_of_order")
        skip = upload.received - start
        with self.slots.hold(upload.principal):
            async with uploads.scratch() as file:
                chunks = _body_chunks(call.request)
                try:
                    body = await write_body(chunks, file, self.site.limits, most=size, skip=skip)
                except TooLarge as error:
                    raise _range_error("The body is longer than its Content-Range says.") from error
                if body.size == total:
                    return self._taken(call, await uploads.take_file(upload, file))
                if body.size:
                    upload = await uploads.take_part(upload, file, upload.received, total)
        return self._progress(call, upload, body)

    def _progress(self, call: _UploadRequest, upload: "Upload", body: ReceivedBody | None = None) -> Response:
        """How far a file is that is sent in parts."""
        if upload.sha256 is not None:
            return self._taken(call, upload)
        if upload.is_being_checked(call.uploads.clock()):
            return self._state(call, upload, 202, {"retry-after": _RETRY_SECONDS})
        if body is not None and body.end == "too_slow":
            raise InvalidInput(
                "The file came too slowly, and was cut off.", hint="Go on from where it stands.", code="too_slow"
            )
        return self._state(call, upload, 308)

    def _taken(self, call: _UploadRequest, upload: "Upload") -> Response:
        """The artifact; 201 for who has just made it."""
        if call.request.method == "POST" and _wants_page(call.request):
            return RedirectResponse(str(call.request.url.path), 303, _HEADERS)
        return self._state(call, upload, 201 if call.upload.sha256 is None else 200)

    def _state(
        self, call: _UploadRequest, upload: "Upload", status: int, headers: dict[str, str] | None = None
    ) -> Response:
        content = describe_upload(upload, call.ticket, self._address(call.ticket), call.uploads.clock())
        return JSONResponse(
            content.model_dump(mode="json"), status, {**_HEADERS, **_state_headers(upload), **(headers or {})}
        )

    def _show(self, request: Request, upload: "Upload", ticket: str, now: float) -> Response:
        shown = describe_upload(upload, ticket, self._address(ticket), now)
        status = 410 if upload.is_expired(now) else 200
        if request.method == "GET" and _wants_page(request):
            page = render_page(PageView.of_upload(upload, shown, request.url.path))
            return Response(page, status, page_headers(), "text/html")
        return JSONResponse(shown.model_dump(mode="json"), status, {**_HEADERS, **_state_headers(upload)})

    async def _refuse(self, request: Request, ticket: str, error: RotoscopeError) -> Response:
        status = _STATUSES.get(error.code, 422 if isinstance(error, UserMistake) else 503)
        headers = {**_HEADERS, **({"retry-after": _RETRY_SECONDS} if status == 503 else {})}  # noqa: PLR2004 - as above
        if _wants_page(request) and request.method in ("GET", "POST"):
            view = await self._page_of_refusal(ticket, error, request.url.path)
            return Response(render_page(view), status, {**headers, **page_headers()}, "text/html")
        if error.code in ("out_of_order", "too_slow", "wrong_total"):
            headers |= _state_headers(await (await self.site.open_uploads()).find(ticket))
        problem = {"code": error.code, "message": error.message, "hint": error.hint}
        return JSONResponse({"error": problem}, status, headers)

    async def _page_of_refusal(self, ticket: str, error: RotoscopeError, path: str) -> PageView:
        """The page with the sentence; with the form again where there is such an upload."""
        try:
            uploads = await self.site.open_uploads()
            upload = await uploads.find(ticket)
        except RotoscopeError:
            return PageView.closed(error)
        shown = describe_upload(upload, ticket, self._address(ticket), uploads.clock())
        return PageView.of_upload(upload, shown, path, error)

    def _address(self, ticket: str) -> str:
        return f"{self.site.public_url}{UPLOADS_PATH}/{ticket}"

    def _options(self, request: Request) -> Response:
        headers = {**_HEADERS, "allow": ", ".join(_METHODS)}
        origin = request.headers.get("origin")
        if origin is not None and self._is_own_origin(request, origin):
            headers |= {"access-control-allow-origin": origin, "access-control-allow-methods": ", ".join(_METHODS)}
            headers |= {"access-control-allow-headers": "content-range, content-type, accept", "vary": "Origin"}
        return Response(status_code=204, headers=headers)

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another origin sends, even if it knows the address."""
        origin = request.headers.get("origin")
        if origin is not None and not self._is_own_origin(request, origin):
            raise InvalidInput(
                "Pages of other origins may not send files here.", hint="Use the page itself.", code="wrong_origin"
            )

    def _is_own_origin(self, request: Request, origin: str) -> bool:
        """Whether it is that of the public address, or of the name that the server was called by."""
        own = {self.site.public_url.lower(), f"{request.url.scheme}://{request.headers.get('host', '')}".lower()}
        return any(one == origin.lower() or one.startswith(f"{origin.lower()}/") for one in own)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _body_chunks(request: Request) -> AsyncIterator[bytes]:
    return request.stream()


def _content_length(request: Request) -> int | None:
    """What the client says; it only serves to refuse early."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None  # noqa: PLR2004 - as ranges


def _parse_part(content_range: str) -> tuple[int, int, int]:
    """Where a part begins, how many bytes it has, and how many the whole file has.

    Raises:
        InvalidInput: `bad_range`.
    """
    found = _PART.fullmatch(content_range)
    if found is None:
        raise _range_error(f"The Content-Range {content_range[:80]!r} is not understood.")
    start, last, total = map(int, found.groups())
    if not start <= last < total:
        raise _range_error(f"The Content-Range {content_range[:80]!r} is no part of a file.")
    return start, last - start + 1, total


def _range_error(message: str) -> InvalidInput:
    hint = "Write `Content-Range: bytes FIRST-LAST/TOTAL`, or `bytes */TOTAL` to ask how far it is."
    return InvalidInput(message, hint=hint, code="bad_range")


def _check_size(upload: "Upload", size: int) -> None:
    if size > upload.max_bytes:
        raise TooLarge(
            f"The file has {size / 1e6:.1f} MB; at most {upload.max_bytes / 1e6:.0f} MB are taken.",
            hint="Send a smaller file.",
        )


def _require_bytes(body: ReceivedBody) -> None:
    if not body.size:
        raise InvalidInput("The file is empty.", hint="Send the content of a file as the body.", code="no_file")


def _require_idle(upload: "Upload", now: float) -> None:
    """Refuse to begin where the upload has its file, or one is being checked.

    Raises:
        InvalidInput: `upload_used` or `upload_busy`.
    """
    from rotoscope.studio.uploads import require_unused

    require_unused(upload)
    if upload.is_being_checked(now):
        raise InvalidInput(
            "The file that came before is being checked.", hint="Ask again in a moment.", code="upload_busy"
        )


def _state_headers(upload: "Upload") -> dict[str, str]:
    """How far it is: `Range` as an answer to a question of how far, and the same as a number."""
    headers = {
        "upload-offset": str(upload.received),
        "upload-complete": "?0" if upload.sha256 is None else "?1",
        "upload-limit": f"max-size={upload.max_bytes}",
    }
    if upload.received and upload.sha256 is None:
        headers["range"] = f"bytes=0-{upload.received - 1}"
    return headers
