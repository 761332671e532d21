"""Results over HTTP that are kept in an object store: addresses are the store's, or ours where those are of no use."""

import base64
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from calls import BOX, SECONDS, text_of
from http_client import BASE, connect, running
from object_store import KEYS, ObjectServer, object_server, running_server

from rotoscope.composition.http import HttpServing
from rotoscope.errors import InvalidInput
from rotoscope.settings import read_settings

__all__ = ["object_server", "running_server"]

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


def read_web(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as opened:
        return bytes(opened.read())


async def segment(serving: HttpServing, photo: Path) -> tuple[dict[str, Any], list[bytes]]:
    """The result of a whole call, and what its files' addresses give."""
    picture = "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
    async with running(serving) as http, connect(http, "auto") as client:
        with anyio.fail_after(SECONDS):
            answer = await client.call_tool("segment_image", {"image": picture, "box": BOX})
        result = answer.structured_content
        assert result is not None, text_of(answer)
        assert result["status"] == "succeeded", result["error"]
        files = []
        for file in (result["masks"][0]["media"], result["overlay"], result["coco"]):
            is_ours = file["url"].startswith(BASE)
            content = (
                (await http.get(file["url"])).content
                if is_ours
                else await anyio.to_thread.run_sync(read_web, file["url"])
            )
            assert len(content) == file["file_size"]
            assert file["path"] == ""
            files.append(content)
        return result, files


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1"], ids=["a reachable store", "a store in an inner network"])
async def test_files_open_at_the_address_that_their_client_can_reach(
    build_http: Callable[..., HttpServing], environment: dict[str, str], photo: Path,
    object_server: ObjectServer, host: str,
) -> None:  # fmt: skip
    endpoint = f"http://{host}:{object_server.port}"
    place = {"ROTOSCOPE_STORE_URL": f"s3://{object_server.make_bucket()}/results", "AWS_ENDPOINT_URL": endpoint}
    serving = build_http(settings=read_settings({**environment, **KEYS, **place}))
    result, files = await segment(serving, photo)
    at = result["overlay"]["url"]
    assert at.startswith(object_server.endpoint if host == "127.0.0.1" else f"{BASE}/files/")
    assert files[0].startswith(b"\x89PNG")


def test_a_store_that_no_call_could_use_is_refused_when_the_server_starts(
    build_http: Callable[..., HttpServing], environment: dict[str, str]
) -> None:
    settings = read_settings({**environment, "ROTOSCOPE_STORE_URL": "az://container"})
    with pytest.raises(InvalidInput, match="AZURE_STORAGE_ACCOUNT_NAME"):
        build_http(settings=settings)
