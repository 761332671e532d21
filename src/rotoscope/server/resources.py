"""Resources: a job's state, a kept file, a model's manifest, each by its link."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import anyio.to_thread
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from rotoscope.contracts.results import JobRecord
from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, UserMistake

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["TEMPLATES", "LinkTemplate", "read_link"]

_JSON = "application/json"
_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OUTPUTS_HINT = (
    "view_media shows what a job has made, such as job://ID/overlay; its artifact:// link, in get_job, is read."
)


@dataclass(frozen=True, slots=True)
class LinkTemplate:
    """A resource template as it is listed; `placeholder` only names its variable."""

    uri: str
    name: str
    description: str
    mime: str
    placeholder: Callable[..., str]


def _declare_job(job_id: str) -> str:
    raise NotImplementedError(job_id)


def _declare_artifact(sha256: str) -> str:
    raise NotImplementedError(sha256)


def _declare_model(model_id: str) -> str:
    raise NotImplementedError(model_id)


# Reads never reach the declared functions: the server's read_resource answers them all.
TEMPLATES = (
    LinkTemplate(
        "job://{job_id}", "job", "A job as get_job gives it, and the end of the model's log.", _JSON, _declare_job
    ),
    LinkTemplate(
        "artifact://{sha256}",
        "artifact",
        "A kept picture, video or document.",
        "application/octet-stream",
        _declare_artifact,
    ),
    LinkTemplate(
        "model://{+model_id}",
        "model",
        "What is known of a model (inputs, limits, price, time), and others like it.",
        _JSON,
        _declare_model,
    ),
)


async def read_link(studio: "Studio", uri: str, principal: str) -> ReadResourceContents:
    """The content behind a link.

    Raises:
        ResourceNotFoundError: there is nothing of that name, or it belongs to another principal.
        ResourceError: it is there and cannot be read.
    """
    scheme, _, name = uri.partition("://")
    readers = {"job": _read_job, "model": _read_model, "artifact": _read_artifact}
    reader = readers.get(scheme)
    if reader is None:
        raise ResourceNotFoundError(f"Unknown resource: {uri[:200]}")
    try:
        return await reader(studio, name.rstrip("/"), principal)
    except TooLarge as error:  # no mistake in the link: the file is there
        raise ResourceError(_error_text(error)) from error
    except UserMistake as error:
        raise ResourceNotFoundError(_error_text(error)) from error
    except RotoscopeError as error:
        raise ResourceError(_error_text(error)) from error
    except (OSError, ValueError) as error:
        raise ResourceError(f"storage: {uri[:200]} cannot be read: {type(error).__name__}. Try again.") from error


def _error_text(error: RotoscopeError) -> str:
    return f"{error.code}: {error.message} {error.hint}"


async def _read_job(studio: "Studio", job_id: str, principal: str) -> ReadResourceContents:
    if "/" in job_id:
        raise InvalidInput("Only job://ID is read.", hint=_OUTPUTS_HINT, code="unknown_resource")
    job = await studio.job(job_id, principal)
    result = await studio.result(job, JobRecord)  # not a delivery: a host may read without showing it to anybody
    return ReadResourceContents(content=result.model_dump_json(indent=1), mime_type=_JSON)


async def _read_model(studio: "Studio", model_id: str, principal: str) -> ReadResourceContents:
    facts = studio.manifest(model_id).model_dump(mode="json", exclude_defaults=True)
    facts["alternatives"] = [asdict(one) for one in await studio.alternatives(model_id, principal)]
    return ReadResourceContents(content=json.dumps(facts, indent=1, ensure_ascii=False), mime_type=_JSON)


async def _read_artifact(studio: "Studio", sha256: str, principal: str) -> ReadResourceContents:
    from rotoscope.media.sniff import HEAD_BYTES, content_type_of

    async with studio.open_artifact(sha256, principal) as found:
        if found is None:
            raise ResourceNotFoundError("There is no such artifact.")
        path, address = found
        if path.stat().st_size > _MAX_MESSAGE_BYTES:
            raise TooLarge("The file is too large for a message.", hint=f"Open it at {address.place}")
        content = await anyio.to_thread.run_sync(path.read_bytes)
    if path.suffix == ".json":
        return ReadResourceContents(content=content.decode(), mime_type=_JSON)
    return ReadResourceContents(content=content, mime_type=content_type_of(content[:HEAD_BYTES]))
