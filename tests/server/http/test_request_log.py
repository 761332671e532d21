"""Requests are noted: each has an id that its answer names, and a line of the log that holds nothing secret."""

import base64
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from http_client import HttpBuilder, connect, running

from rotoscope.logs import configure_logging
from rotoscope.server.http.request_log import RequestLog

pytestmark = pytest.mark.anyio
SECRET = "t0ken-that-lets-somebody-in"


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    top = logging.getLogger()
    former, level = top.handlers[:], top.level
    yield
    top.handlers[:] = former
    top.setLevel(level)
    logging.getLogger("rotoscope").setLevel(logging.NOTSET)


@pytest.fixture
def photo_argument(photo: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()


def log_as_json() -> None:
    logging.getLogger().handlers[:] = []
    configure_logging("json")


@pytest.mark.parametrize("given", ["from-the-proxy.1", "", "a b", "x" * 65, "line\tbreak"])
async def test_an_answer_names_the_id_of_its_request(build_http: HttpBuilder, given: str) -> None:
    async with running(build_http()) as http:
        answer = await http.get("/healthz", headers={"x-request-id": given})
    named = answer.headers["x-request-id"]
    assert named == given if given == "from-the-proxy.1" else re.fullmatch("[0-9a-f]{16}", named)


@pytest.mark.parametrize("path", ["/files/{}.png?inline={}", "/uploads/{}", "/keys/{}", "/sign-in/links/{}", "/{}"])
async def test_a_line_names_a_request_without_what_lets_somebody_in(
    build_http: HttpBuilder, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    log_as_json()
    async with running(build_http()) as http:
        asked = path.format(SECRET, SECRET) if path != "/{}" else f"/mcp?token={SECRET}"
        await http.get(asked, headers={"x-request-id": "r1", "authorization": f"Bearer {SECRET}"})
    shown = capsys.readouterr().err
    (line,) = [one for one in map(json.loads, shown.splitlines()) if one.get("request") == "r1"]
    assert line["message"].startswith(f"GET /{asked[1:].partition('/')[0].partition('?')[0]}")
    assert re.search(r"\b[2345]\d\d, \d+ ms$", line["message"])
    assert SECRET not in shown


async def test_the_lines_of_a_job_name_it_and_the_request_that_began_it(
    build_http: HttpBuilder, capsys: pytest.CaptureFixture[str], photo_argument: str
) -> None:
    log_as_json()
    async with running(build_http()) as http, connect(http, "auto") as client:
        answer = await client.call_tool("segment_image", {"image": photo_argument, "points": [{"x": 200, "y": 200}]})
    assert answer.structured_content is not None
    job_id = answer.structured_content["job_id"]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    of_job = [line for line in lines if line.get("job") == job_id]
    assert [line["message"].split()[1] for line in of_job] == ["prepare", "submit", "watch", "fetch", "finish"]
    assert all(line["request"] for line in of_job)


async def test_a_request_that_fails_without_an_answer_is_logged_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("a fault of ours")

    log_as_json()
    noted = RequestLog(fail, clock=iter([1.0, 1.5]).__next__, make_id=lambda: "made")
    with pytest.raises(ValueError, match="a fault of ours"):
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(noted), base_url="http://x") as http:
            await http.get("/mcp")
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["message"], json.loads(line)["request"]) == ("GET /mcp without an answer, 500 ms", "made")
