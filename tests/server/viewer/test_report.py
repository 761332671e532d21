"""A report: one file with the job and its media, bounded, without what is of this machine alone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from calls import BOX
from mcp import Client
from mcp.server.mcpserver import MCPServer
from viewer_site import find_violations, open_browser, take_shot

from rotoscope.cli.commands import run_command
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio


@pytest.fixture
def as_user(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)


@pytest.fixture
def job_id(as_user: None, photo: Path, capsys: pytest.CaptureFixture[str]) -> str:
    asked = json.dumps({"image": str(photo)})
    assert run_command(["call", "describe_with_masks", "--json", asked]) == 0
    return str(json.loads(capsys.readouterr().out)["job_id"])


def data_of(report: str) -> dict[str, Any]:
    found = re.search(r'id="rotoscope-data">(.*?)</script>', report, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def write(job: str, out: Path, *more: str) -> str:
    assert run_command(["report", job, "--out", str(out), *more]) == 0
    return out.read_text(encoding="utf-8")


def test_a_report_holds_the_media_and_no_path(
    job_id: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(job_id, tmp_path / "report.html")
    data = data_of(text)
    assert data["left_out"] == []
    record = data["record"]
    wanted = {record["overlay"]["uri"], record["coco"]["uri"], record["inputs"][0]["uri"]}
    assert set(data["files"]) == wanted | {one["media"]["uri"] for one in record["masks"]}
    assert str(home) not in text
    assert str(tmp_path) not in text
    assert record["request"]["image"] == "astronaut.jpg"
    assert "Content-Security-Policy" in text
    assert "report.html" in capsys.readouterr().out


def test_what_does_not_fit_is_named(job_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(write(job_id, tmp_path / "report.html", "--max-mb", "0"))
    assert data["files"] == {}
    assert any(sentence.startswith("overlay: it has 0.1 MB") for sentence in data["left_out"])
    assert "left out: overlay" in capsys.readouterr().err


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0" * 32, "--out", "r.html"], "There is no such job"),
        (["x", "--out", "nowhere/r.html"], "There is no folder nowhere"),
        (["x", "--out", "r.html", "--max-mb", "-1"], "is not 0 to 500"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
async def test_a_report_opens_without_a_server(
    server: MCPServer[LazyStudio], photo: Path, tmp_path: Path, environment: dict[str, str], home: Path
) -> None:
    import anyio.to_thread

    from rotoscope.cli.report import make_report
    from rotoscope.settings import read_settings

    async with Client(server) as client:
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
    assert answer.structured_content is not None
    made = await make_report(read_settings(environment), answer.structured_content["job_id"], 15_000_000)
    file = tmp_path / "report.html"
    await anyio.to_thread.run_sync(file.write_text, made.html)
    async with open_browser() as context:
        tab = await context.new_page()
        log: list[str] = []
        tab.on("console", lambda message: log.append(f"{message.type}: {message.text}"))
        await tab.goto(file.as_uri())
        await tab.locator("[data-ready]").wait_for()
        await tab.evaluate("document.querySelector('main canvas').getContext('2d').getImageData(0, 0, 1, 1)")
        assert await tab.get_by_role("button", name="Correct this mask").count() == 0, "there is no server to ask"
        async with tab.expect_download() as saving:
            await tab.get_by_role("button", name="Mask (PNG)").click()
        assert (await saving.value).suggested_filename.endswith("-mask-0.png")
        await take_shot(tab, "report", tmp_path)
        assert await find_violations(tab) == []
        assert [line for line in log if line.startswith("error")] == []
        await tab.close()
