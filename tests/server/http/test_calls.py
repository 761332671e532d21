"""Calls over HTTP in both eras of the protocol: a result's files are read at its addresses."""

import base64
from pathlib import Path
from typing import Any

import pytest
from calls import BOX, text_of
from http_client import HttpBuilder, connect, running
from mcp import Client

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def picture(photo: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()


async def segment(client: Client, photo: Path) -> dict[str, Any]:
    answer = await client.call_tool("segment_image", {"image": picture(photo), "box": BOX})
    assert answer.structured_content is not None, text_of(answer)
    found: dict[str, Any] = answer.structured_content
    return found


@ERAS
async def test_a_call_ends_with_files_that_open_at_their_addresses(
    build_http: HttpBuilder, photo: Path, mode: str
) -> None:
    async with running(build_http()) as http, connect(http, mode) as client:
        result = await segment(client, photo)
        assert result["status"] == "succeeded"
        for file in (result["masks"][0]["media"], result["overlay"], result["coco"]):
            assert file["path"] == ""
            assert file["url"].startswith("http://127.0.0.1:8000/files/")
            fetched = await http.get(file["url"])
            assert (fetched.status_code, fetched.headers["content-type"]) == (200, file["content_type"])
            assert len(fetched.content) == file["file_size"]
