"""Bad input ends before anything is paid for: one clear sentence as a tool error, and the server goes on."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import TextContent

pytestmark = pytest.mark.anyio


def bomb(width: int, height: int) -> bytes:
    """A small PNG that declares a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def written(home: Path, name: str, content: bytes) -> str:
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return str(file)


def photo_bytes(home: Path) -> bytes:
    return (home / "astronaut.jpg").read_bytes()


BOX = {"left": 20, "top": 5, "right": 420, "bottom": 500}
Made = Callable[[Path], dict[str, Any]]
CASES: dict[str, tuple[Made, str, str]] = {
    "a missing file": (lambda home: {"image": str(home / "none.jpg"), "box": BOX}, "path_missing", "no file"),
    "a folder": (lambda home: {"image": str(home), "box": BOX}, "path_invalid", "folder"),
    "a hidden file": (
        lambda home: {"image": written(home, ".secret/a.jpg", photo_bytes(home)), "box": BOX},
        "path_denied",
        "Hidden",
    ),
    "a path outside": (
        lambda home: {"image": written(home.parent, "a.jpg", photo_bytes(home)), "box": BOX},
        "path_denied",
        "outside",
    ),
    "a system file": (lambda _: {"image": "/etc/passwd", "box": BOX}, "path_denied", "outside"),
    "a link that is no URL": (lambda _: {"image": "file://[x", "box": BOX}, "path_invalid", "not usable"),
    "a link with a zero byte": (lambda _: {"image": "file:///tmp/a%00.png", "box": BOX}, "path_invalid", "not usable"),
    "a link to another machine": (
        lambda home: {"image": f"file://evil.example{home}/astronaut.jpg", "box": BOX},
        "path_denied",
        "another machine",
    ),
    "an http URL": (lambda _: {"image": "http://example.com/a.jpg", "box": BOX}, "url_scheme", "https"),
    "a private URL": (lambda _: {"image": "https://127.0.0.1/a.jpg", "box": BOX}, "url_blocked", ""),
    "another scheme": (lambda _: {"image": "ftp://example.com/a.jpg", "box": BOX}, "url_scheme", ""),
    "an unknown model": (
        lambda home: {"image": str(home / "astronaut.jpg"), "box": BOX, "model": "no/such"},
        "unknown_model",
        "no model",
    ),
    "a model for other prompts": (
        lambda home: {"image": str(home / "astronaut.jpg"), "box": BOX, "model": "bytedance/sa2va-4b-image"},
        "invalid_argument",
        "does not take a box",
    ),
    "a point outside": (
        lambda home: {"image": str(home / "astronaut.jpg"), "points": [{"x": 512, "y": 10}]},
        "invalid_argument",
        "outside the picture, which is 512x512",
    ),
    "a box outside": (
        lambda home: {"image": str(home / "astronaut.jpg"), "box": {**BOX, "right": 600}},
        "invalid_argument",
        "beyond the picture",
    ),
    "an empty box": (
        lambda home: {"image": str(home / "astronaut.jpg"), "box": {**BOX, "right": 20}},
        "invalid_argument",
        "empty",
    ),
    "an empty instruction": (
        lambda home: {"image": str(home / "astronaut.jpg"), "instruction": "  "},
        "invalid_argument",
        "what to segment",
    ),
    "an instruction with a control character": (
        lambda home: {"image": str(home / "astronaut.jpg"), "instruction": "a \0 cat"},
        "invalid_argument",
        "control character U+0000",
    ),
    "no prompt at all": (lambda home: {"image": str(home / "astronaut.jpg")}, "invalid_argument", "what to segment"),
    "only points to leave out": (
        lambda home: {"image": str(home / "astronaut.jpg"), "points": [{"x": 1, "y": 1, "keep": False}]},
        "invalid_argument",
        "No point",
    ),
    "a text file": (lambda home: {"image": written(home, "a.jpg", b"hello there"), "box": BOX}, "not_media", ""),
    "an SVG": (lambda home: {"image": written(home, "a.svg", b"<svg></svg>"), "box": BOX}, "unsupported", ""),
    "a truncated photo": (
        lambda home: {"image": written(home, "cut.jpg", photo_bytes(home)[:20_000]), "box": BOX},
        "corrupt",
        "",
    ),
    "a picture of 200 megapixels": (
        lambda home: {"image": written(home, "bomb.png", bomb(20_000, 10_000)), "box": BOX},
        "too_large",
        "",
    ),
    "an empty image argument": (lambda _: {"image": "", "box": BOX}, "invalid_argument", "image"),
    "no image argument": (lambda _: {"box": BOX}, "invalid_argument", "'image' is missing"),
    "an unknown argument": (
        lambda home: {"image": str(home / "astronaut.jpg"), "instruktion": "a"},
        "invalid_argument",
        "'instruction'",
    ),
    "an unknown part of a point": (
        lambda home: {"image": str(home / "astronaut.jpg"), "points": [{"x": 5, "y": 1, "kep": True}]},
        "invalid_argument",
        "'keep'",
    ),
    "a list for a box": (
        lambda home: {"image": str(home / "astronaut.jpg"), "box": [20, 5, 420, 500]},
        "invalid_argument",
        "left, top, right, bottom",
    ),
    "true for a number": (
        lambda home: {"image": str(home / "astronaut.jpg"), "points": [{"x": True, "y": 1}]},
        "invalid_argument",
        "points",
    ),
    "a broken data URI": (lambda _: {"image": "data:image/png;base64,@@@", "box": BOX}, "data_uri_invalid", ""),
    "an unknown artifact": (lambda _: {"image": "artifact://" + "0" * 64, "box": BOX}, "unknown_resource", ""),
    "an unknown job's output": (lambda _: {"image": "job://" + "0" * 32, "box": BOX}, "unknown_job", ""),
}


@pytest.mark.parametrize("case", CASES)
async def test_bad_input_is_a_tool_error_with_a_code_a_sentence_and_a_next_step(
    client: Client, photo: Path, home: Path, case: str
) -> None:
    make, code, words = CASES[case]
    with anyio.fail_after(180):
        answer = await client.call_tool("segment_image", make(home))
    assert answer.is_error
    text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
    assert text.startswith(f"{code}: ")
    assert words in text
    assert "Traceback" not in text
    assert len(text) < 2000
    assert len(text.split(". ")) >= 2, "no next step"
    after = await client.call_tool("list_jobs", {})
    assert after.structured_content == {"jobs": [], "left_out": 0}


async def test_a_job_that_does_not_exist_is_a_tool_error(client: Client) -> None:
    for tool in ("get_job", "cancel_job"):
        answer = await client.call_tool(tool, {"job_id": "0" * 32})
        assert answer.is_error


async def test_a_tool_that_does_not_exist_is_an_error_and_the_server_goes_on(client: Client) -> None:
    answer = await client.call_tool("make_tea", {})
    assert answer.is_error
    assert (await client.list_tools()).tools


async def test_what_assistants_get_wrong_in_form_is_taken_as_it_was_meant(client: Client, photo: Path) -> None:
    """Numbers as strings, JSON as a string, one item for a list, and Gemini's own argument."""
    meant = {"image": str(photo), "points": '{"x": "220", "y": 100}', "wait_for_previous": True, "dry_run": True}
    answer = await client.call_tool("segment_image", meant)
    assert not answer.is_error
    assert answer.structured_content is not None
    assert answer.structured_content["planned_input"]["point_prompts"] == [{"label": 1, "x": 220, "y": 100}]
