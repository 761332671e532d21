"""What a signed-in client does: it uploads a picture, has it segmented, follows the job and fetches the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
from calls import BOX, SECONDS
from mcp import Client
from mcp_types import CallToolResult

__all__ = ["FINAL", "fetch_results", "finish_job", "segment_upload"]

FINAL = frozenset({"succeeded", "failed", "cancelled", "needs_review"})


def _structured(answer: CallToolResult) -> dict[str, Any]:
    assert not answer.is_error, answer.content
    found: dict[str, Any] | None = answer.structured_content
    assert found is not None
    return found


async def segment_upload(
    client: Client, http: httpx2.AsyncClient, photo: Path, box: Mapping[str, int] = BOX
) -> dict[str, Any]:
    """Upload a picture to the address that a tool gives, without signing in, and segment it; the first answer."""
    ticket = _structured(await client.call_tool("upload_media", {"name": photo.name}))
    sent = await http.put(ticket["upload_url"], content=photo.read_bytes())
    assert sent.status_code == 201, sent.text
    arguments = {"image": sent.json()["artifact"], "box": box}
    with anyio.fail_after(SECONDS):
        # A call whose time is over before its request is checked has no job yet, and says to make it again.
        while not (answer := _structured(await client.call_tool("segment_image", arguments)))["job_id"]:
            assert "again" in answer["next_step"]
    return answer


async def finish_job(client: Client, answer: dict[str, Any]) -> dict[str, Any]:
    """The result of a job that a call left unfinished, by `get_job`."""
    with anyio.fail_after(SECONDS):
        while answer["status"] not in FINAL:
            asked = {"job_id": answer["job_id"], "wait_seconds": 45}
            answer = _structured(await client.call_tool("get_job", asked))
    assert answer["status"] == "succeeded", answer
    return answer


async def fetch_results(http: httpx2.AsyncClient, result: dict[str, Any], address: str) -> None:
    """Fetch the files of a result from their addresses, without signing in."""
    mask = result["masks"][0]["media"]
    assert mask["url"].startswith(f"{address}/files/")
    for file in (mask, result["overlay"]):
        got = await http.get(file["url"])
        assert got.status_code == 200, got.text
        assert got.headers["content-type"] == file["content_type"], file
        assert len(got.content) == file["file_size"]
