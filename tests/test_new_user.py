"""As a new user: the wheel alone, in an environment and a home of its own, far away from the checkout."""

import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from fresh_install import TOP, Stranger, install_wheel
from mcp import Client, StdioServerParameters
from mcp_types import TextResourceContents
from photos import PHOTO
from PIL import Image

import rotoscope

SECONDS = 180
BOX = {"left": 350, "top": 2, "right": 462, "bottom": 285}
_ONLY_IN_A_CHECKOUT = re.compile(rf"\bdocs/|\bmake [a-z]|checkout|{re.escape(str(TOP))}|Traceback|\.venv")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    folder = tmp_path_factory.mktemp("stranger")
    yield install_wheel(folder)
    shutil.rmtree(folder)  # thousands of files


def said_to(stranger: Stranger, *words: str, code: int = 0) -> tuple[str, str]:
    """What a command prints on each stream, after it ended with that code; nothing in it needs a checkout."""
    done = stranger.run(*words)
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    assert _ONLY_IN_A_CHECKOUT.findall(done.stdout + done.stderr) == []
    assert not stranger.seen.exists(), stranger.seen.read_text(encoding="utf-8")
    return done.stdout, done.stderr


def test_a_file_of_the_checkout_that_is_opened_is_noticed(stranger: Stranger) -> None:
    """Else the other tests would prove nothing."""
    readme = TOP / "README.md"
    assert stranger.run("python", "-c", f"open({str(readme)!r}).close()").returncode == 0
    assert stranger.seen.read_text(encoding="utf-8").split() == [str(readme)]
    stranger.seen.unlink()


@pytest.mark.parametrize("words", [("rotoscope",), ("python", "-m", "rotoscope")])
def test_the_command_and_the_module_say_the_version(stranger: Stranger, words: tuple[str, ...]) -> None:
    assert said_to(stranger, *words, "--version") == (f"rotoscope {rotoscope.__version__}\n", "")


def test_without_a_command_it_says_how_to_begin(stranger: Stranger) -> None:
    printed, said = said_to(stranger, "rotoscope", code=2)
    assert printed == ""
    for begin in ("rotoscope demo", "rotoscope install CLIENT", "rotoscope doctor"):
        assert begin in said


def test_the_demo_works_without_a_network_and_says_what_is_missing_and_what_comes_next(stranger: Stranger) -> None:
    printed, said = said_to(stranger, "rotoscope", "demo")
    first, *_, last = printed.splitlines()
    assert "no key is used and nothing is paid" in first
    assert "No weights came (its release file: " in said
    assert "rotoscope sandbox weights tries again" in said
    assert "by colours alone" in printed
    assert "rotoscope install CLIENT" in last
    out = stranger.home / "demo-out"
    assert f"contact sheet: {out / 'contact-sheet.jpg'}" in printed
    assert {"contact-sheet.jpg", "box-mask-0.png", "describe-coco.json", "video-video.mp4", "edit-video.mp4"} <= {
        path.name for path in out.iterdir()
    }
    assert {path.name for path in stranger.home.iterdir()} == {"demo-out", ".local"}  # nothing is left elsewhere


async def first_session(parameters: StdioServerParameters, photo: Path) -> tuple[set[str], str, Mapping[str, Any]]:
    """A client's first session: the names of the tools, the viewer's page, and the masks of a photo."""
    async with Client(parameters, mode="legacy") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        (page,) = (await client.read_resource("ui://rotoscope/viewer.html")).contents
        assert isinstance(page, TextResourceContents)
        call = {"image": str(photo), "box": BOX}
        found = (await client.call_tool("segment_image", call)).structured_content
        while found is not None and not found["job_id"]:  # it is still being checked
            found = (await client.call_tool("segment_image", call)).structured_content
        while found is not None and found["status"] in ("queued", "running"):
            asked = {"job_id": found["job_id"], "wait_seconds": 10}
            found = (await client.call_tool("get_job", asked)).structured_content
    assert found is not None
    return tools, page.text, found


@pytest.mark.anyio
async def test_the_printed_entry_starts_a_server_that_gives_a_mask(stranger: Stranger) -> None:
    """As a desktop program starts it: with a home, without a path, from the top of the disk."""
    printed, _ = said_to(stranger, "rotoscope", "install", "--print", "claude-desktop")
    entry = json.loads(printed)["mcpServers"]["rotoscope"]
    assert (entry["command"], entry["args"]) == (str(stranger.bin / "rotoscope"), ["serve"])
    photo = stranger.home / "photo.jpg"
    shutil.copy(PHOTO, photo)
    env = {**stranger.env, "PATH": "", **entry.get("env", {})}
    parameters = StdioServerParameters(command=entry["command"], args=entry["args"], env=env, cwd="/")
    with anyio.fail_after(SECONDS):
        tools, page, found = await first_session(parameters, photo)
    assert {"segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"} <= tools
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert (found["status"], found["sandbox"]) == ("succeeded", True)
    kept = Path(found["masks"][0]["media"]["path"])
    assert kept.is_relative_to(stranger.home / ".local" / "share" / "rotoscope")
    with Image.open(io.BytesIO(kept.read_bytes())) as mask:
        assert (mask.format, mask.size) == ("PNG", (512, 512))
        assert mask.convert("L").getextrema() == (0, 255)
    assert not stranger.seen.exists(), stranger.seen.read_text(encoding="utf-8")


def test_the_doctor_finds_no_problem_and_says_what_is_next(stranger: Stranger) -> None:
    printed, said = said_to(stranger, "rotoscope", "doctor")
    assert "problem" not in printed
    assert said == ""
    assert "Run rotoscope sandbox weights" in printed
    assert "rotoscope install CLIENT --print" in printed


def test_the_doctor_prints_the_same_as_a_document(stranger: Stranger) -> None:
    printed, said = said_to(stranger, "rotoscope", "doctor", "--json", "--offline")
    document = json.loads(printed)
    states = {check["id"]: check["state"] for check in document["checks"]}
    assert (said, document["state"]) == ("", "warning")
    assert [states[name] for name in ("python", "packages", "fast_start", "manifests", "codecs")] == ["ok"] * 5
    assert all(check["advice"] for check in document["checks"] if check["state"] != "ok")


def test_error_codes_are_explained_from_the_wheel(stranger: Stranger) -> None:
    assert "budget" in said_to(stranger, "rotoscope", "explain")[0].split()
    assert "ROTOSCOPE_MAX_USD_PER_CALL" in said_to(stranger, "rotoscope", "explain", "budget")[0]
    assert "Did you mean budget?" in said_to(stranger, "rotoscope", "explain", "budgit", code=2)[1]


def test_who_looks_for_jobs_or_keys_before_there_are_any_reads_what_to_do(stranger: Stranger, tmp_path: Path) -> None:
    fresh = Stranger(stranger.bin, tmp_path, stranger.seen)
    assert "There are no jobs" in said_to(fresh, "rotoscope", "jobs", "list")[0]
    assert "rotoscope install CLIENT" in said_to(fresh, "rotoscope", "keys", "list", code=2)[1]
