"""The `upload_media` tool: a ticket for one file, and whether the file has come."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_types import CallToolResult

from rotoscope.contracts.arguments import UploadMedia
from rotoscope.contracts.results import Problem
from rotoscope.contracts.times import timestamp
from rotoscope.contracts.upload_results import UploadStatus, UploadTicket
from rotoscope.errors import InvalidInput
from rotoscope.server.present.text import upload_answer

if TYPE_CHECKING:
    from rotoscope.store.uploads import Upload
    from rotoscope.studio.studio import Studio

__all__ = ["UPLOADS_PATH", "answer_upload", "describe_upload", "upload_status"]

UPLOADS_PATH = "/uploads"
"""Below it each ticket has its address."""

_POLL_HINT = "then call upload_media again with this ticket and wait_seconds 30"
_NEXT_STEPS: dict[UploadStatus, str] = {
    "waiting": "If you can reach the file: curl -T FILE upload_url. Else ask the person to open page_url in a browser; "
    f"{_POLL_HINT}.",
    "receiving": f"The file is on its way; {_POLL_HINT.removeprefix('then ')}.",
    "checking": f"The file is being checked; {_POLL_HINT.removeprefix('then ')}.",
    "refused": f"Say why, and have another file sent to the same address; {_POLL_HINT}.",
    "ready": "Give the artifact link to any tool as its image, video, mask or reference.",
    "expired": "Call upload_media without a ticket for a new one.",
}


async def answer_upload(
    studio: "Studio", arguments: UploadMedia, principal: str, public_url: str, seconds: float
) -> CallToolResult:
    """The answer to a call: of a new ticket, or of one that was given before.

    Args:
        studio: takes the file.
        arguments: what is asked.
        principal: on whose behalf.
        public_url: the address at which clients reach the server, without a slash at its end.
        seconds: how long the call may stay open.

    Raises:
        InvalidInput: the principal has no such ticket, or too many.
    """
    wait = min(arguments.wait_seconds, seconds)
    if arguments.ticket is None:
        if arguments.wait_seconds:
            hint = "Call it without wait_seconds; then with the ticket that it gives."
            raise InvalidInput("There is no ticket yet whose file could be waited for.", hint=hint)
        ticket, upload = await studio.uploads.open(principal, arguments.name, arguments.kind)
    else:
        ticket = arguments.ticket.rstrip("/").rpartition("/")[2]  # some give the address
        upload = await studio.uploads.wait(ticket, principal, wait)
    address = f"{public_url}{UPLOADS_PATH}/{ticket}"
    return upload_answer(describe_upload(upload, ticket, address, studio.uploads.clock()))


def describe_upload(upload: "Upload", ticket: str, address: str, now: float) -> UploadTicket:
    """An upload as a result."""
    status, facts = upload_status(upload, now), upload.facts
    problem = None if upload.problem is None else Problem(**asdict(upload.problem))
    return UploadTicket.model_validate(
        {
            "ticket": ticket,
            "status": status,
            "upload_url": address,
            "page_url": address,
            "artifact": upload.uri,
            "received_bytes": upload.received,
            "max_bytes": upload.max_bytes,
            "expires_at": timestamp(upload.expires_at),
            "warnings": facts.get("notes", []),
            "error": problem,
            "next_step": _NEXT_STEPS[status],
            **{name: facts.get(name) for name in ("content_type", "width", "height", "duration_seconds")},
        }
    )


def upload_status(upload: "Upload", now: float) -> UploadStatus:
    """Where an upload stands.

    Args:
        upload: the upload.
        now: the time in Unix seconds.
    """
    if upload.sha256 is not None:
        return "ready"
    if upload.is_being_checked(now):
        return "checking"
    if upload.is_expired(now):
        return "expired"
    if upload.received:
        return "receiving"
    return "waiting" if upload.problem is None else "refused"
