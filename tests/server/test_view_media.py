"""view_media shows a model what was made: a small picture and a line of text, and nothing structured."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ImageContent, Implementation, TextContent
from PIL import Image

from rotoscope.cli.commands import run_command
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio


async def called(client: Client, tool: str, **arguments: Any) -> CallToolResult:
    with anyio.fail_after(180):
        return await client.call_tool(tool, arguments)


async def segmented(client: Client, photo: Path) -> dict[str, Any]:
    found = (await called(client, "segment_image", image=str(photo), box=BOX)).structured_content
    assert found is not None
    return dict(found)


def shown(answer: CallToolResult) -> Image.Image:
    assert not answer.is_error, answer.content
    assert answer.structured_content is None
    text, picture = answer.content
    assert isinstance(text, TextContent)
    assert isinstance(picture, ImageContent)
    content = base64.b64decode(picture.data)
    assert len(picture.data) <= 60_000, "a client may hand it to its model as text"
    image = Image.open(io.BytesIO(content))
    assert Image.MIME[image.format or ""] == picture.mime_type
    assert max(image.size) <= 768
    assert f"{image.width}x{image.height}" in text.text
    return image


async def test_each_output_of_a_job_is_shown_and_the_job_itself_by_its_overlay(client: Client, photo: Path) -> None:
    found = await segmented(client, photo)
    job = f"job://{found['job_id']}"
    overlay = shown(await called(client, "view_media", uri=f"{job}/overlay"))
    makes_text_of_it = client.protocol_version == "2025-11-25"  # one of the clients of this name, which has many
    assert overlay.size == ((384, 384) if makes_text_of_it else (512, 512))
    assert shown(await called(client, "view_media", uri=job)).tobytes() == overlay.tobytes()
    for uri in (found["overlay"]["uri"], found["overlay"]["path"]):
        assert shown(await called(client, "view_media", uri=uri)).tobytes() == overlay.tobytes()
    mask = shown(await called(client, "view_media", uri=f"{job}/masks/0"))
    with Image.open(found["masks"][0]["media"]["path"]) as kept:
        assert mask.convert("L").tobytes() == kept.tobytes()


async def test_a_video_is_shown_by_its_filmstrip_or_by_a_frame(client: Client) -> None:
    found = (await called(client, "generate_video", prompt="a storm", duration=4, resolution="480p")).structured_content
    assert found is not None
    strip = shown(await called(client, "view_media", uri=f"job://{found['job_id']}"))
    assert strip.width > 4 * strip.height
    answer = await called(client, "view_media", uri=found["video"]["uri"])
    assert shown(answer).width == 768
    text = answer.content[0]
    assert isinstance(text, TextContent)
    assert "of 864x496; multiply coordinates by 1.125" in text.text
    assert found["video"]["path"] in text.text


@pytest.mark.parametrize(
    ("name", "most"), [("claude-code", 45_000), ("codex-mcp-client", 45_000), ("nobody-knows-it", 16_000)]
)
async def test_a_client_gets_no_larger_a_picture_than_it_takes(
    server: MCPServer[LazyStudio], photo: Path, name: str, most: int
) -> None:
    async with Client(server, client_info=Implementation(name=name, version="1")) as client:
        found = await segmented(client, photo)
        answer = await called(client, "view_media", uri=f"job://{found['job_id']}/overlay")
    shown(answer)
    assert isinstance(answer.content[1], ImageContent)
    assert len(base64.b64decode(answer.content[1].data)) <= most


async def test_a_client_that_makes_text_of_pictures_gets_its_place(server: MCPServer[LazyStudio], photo: Path) -> None:
    async with Client(server, client_info=Implementation(name="google-adk", version="1")) as client:
        found = await segmented(client, photo)
        (text,) = (await called(client, "view_media", uri=f"job://{found['job_id']}/overlay")).content
        refused = await called(client, "view_media", uri=found["coco"]["uri"])
    assert isinstance(text, TextContent)
    assert "512x512" in text.text
    assert found["overlay"]["path"] in text.text
    assert len(text.text) < 600
    assert refused.is_error


def test_no_row_allows_a_picture_that_takes_more_than_60_000_characters() -> None:
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    known = [clients.default, *clients.clients.values()]
    kinds = [row.variant_for(kind.protocol, kind.declares) for row in clients.clients.values() for kind in row.kinds]
    assert all(len(base64.b64encode(bytes(one.view_bytes))) <= 60_000 for one in [*known, *kinds])
    assert clients.default.view_bytes < min(one.view_bytes for one in known if one.pictures)


CASES = {
    "an unknown job": ("job://" + "0" * 32, "unknown_job"),
    "an unknown artifact": ("artifact://" + "0" * 64, "unknown_resource"),
    "no hash at all": ("artifact://../../etc/passwd", "unknown_resource"),
    "a file": ("/etc/passwd", "path_denied"),
    "a link that is no URL": ("file://[x", "path_denied"),
    "a file of another machine": ("file://evil.example/etc/passwd", "path_denied"),
    "a zero byte": ("file:///tmp/a%00.png", "path_denied"),
    "a URL": ("https://example.com/a.jpg", "path_denied"),
    "a model": ("model://prunaai/vace-14b", "path_denied"),
    "nothing": ("  ", "invalid_argument"),
    "an empty name": ("", "invalid_argument"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_cannot_be_shown_is_a_tool_error_with_a_next_step(client: Client, case: str) -> None:
    uri, code = CASES[case]
    answer = await called(client, "view_media", uri=uri)
    assert answer.is_error
    (text,) = answer.content
    assert isinstance(text, TextContent)
    assert text.text.startswith(f"{code}: ")
    assert len(text.text.split(". ")) >= 2, "no next step"


async def test_an_output_that_is_not_there_and_one_that_is_no_picture_are_tool_errors(
    client: Client, photo: Path
) -> None:
    found = await segmented(client, photo)
    for uri, code in ((f"job://{found['job_id']}/video", "unknown_resource"), (found["coco"]["uri"], "unsupported")):
        answer = await called(client, "view_media", uri=uri)
        assert answer.is_error
        assert isinstance(answer.content[0], TextContent)
        assert answer.content[0].text.startswith(f"{code}: ")


def test_the_command_line_keeps_the_picture_and_prints_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "rotoscope"))
    monkeypatch.chdir(tmp_path)
    with Image.effect_noise((1000, 500), 60) as picture:
        picture.save(tmp_path / "a.png")
    box = {"left": 10, "top": 10, "right": 90, "bottom": 90}
    assert run_command(["call", "segment_image", "--json", json.dumps({"image": "a.png", "box": box})]) == 0
    job_id = json.loads(capsys.readouterr().out)["job_id"]
    assert run_command(["call", "view_media", "--json", json.dumps({"uri": f"job://{job_id}/overlay"})]) == 0
    record = json.loads(capsys.readouterr().out)
    path = Path(record["path"])
    assert path.is_relative_to(tmp_path / "rotoscope" / "vault")
    with Image.open(path) as kept:
        assert (kept.width, kept.height) == (record["width"], record["height"]) == (768, 384)
    assert path.stat().st_size == record["file_size"] <= 100_000
    assert run_command(["call", "view_media", "--json", '{"uri": "/etc/passwd"}']) == 2
