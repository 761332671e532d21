"""What goes wrong is a tool error with a code, a sentence and a next step; the protocol's own faults stay its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from calls import BOX, text_of
from mcp import Client, MCPError

from rotoscope import errors
from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.present.text import error_answer
from rotoscope.settings import read_settings
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio


def every(root: type[RotoscopeError]) -> Iterator[type[RotoscopeError]]:
    yield root
    for child in root.__subclasses__():
        yield from every(child)


@pytest.mark.parametrize("kind", sorted({kind.__name__ for kind in every(RotoscopeError)} & set(errors.__all__)))
@pytest.mark.parametrize("hint", ["", "Do this."])
def test_every_error_of_the_tree_is_answered_with_its_code_and_a_next_step(kind: str, hint: str) -> None:
    error = getattr(errors, kind)("It went wrong.", hint=hint)
    answer = error_answer(error)
    assert answer.is_error
    assert answer.structured_content is None
    assert text_of(answer).startswith(f"{error.code}: It went wrong. ")
    assert len(text_of(answer)) > len(f"{error.code}: It went wrong. ")


@pytest.mark.parametrize(
    ("raised", "code"),
    [(StorageFailed("The disk is full.", hint="Free some space."), "storage"), (RuntimeError("secret"), "internal")],
)
async def test_a_failure_of_ours_is_a_tool_error_that_tells_no_secrets_and_the_server_goes_on(
    client: Client, photo: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str
) -> None:
    async def failing(*_: Any, **__: Any) -> None:
        raise raised

    with monkeypatch.context() as patched:
        patched.setattr(Studio, "carry_out", failing)
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
    assert answer.is_error
    assert text_of(answer).startswith(f"{code}: ")
    assert "secret" not in text_of(answer)
    assert len(text_of(answer).split(". ")) >= 2, "no next step"
    assert not (await client.call_tool("list_jobs", {})).is_error


async def test_a_fault_of_the_protocol_stays_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: Any, **__: Any) -> None:
        raise MCPError(-32021, "The client cannot do that.")

    monkeypatch.setattr(Studio, "perform", failing)
    with pytest.raises(MCPError) as caught:
        await client.call_tool("list_jobs", {})
    assert caught.value.code == -32021


@pytest.mark.parametrize("raised", [StorageFailed("The disk is gone."), OSError(5, "secret")])
async def test_a_resource_that_is_there_and_cannot_be_read_is_an_internal_error(
    client: Client, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    async def failing(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(Studio, "job", failing)
    with pytest.raises(MCPError) as caught:
        await client.read_resource("job://" + "0" * 32)
    assert caught.value.code == -32603
    assert "secret" not in str(caught.value)


async def test_a_job_that_failed_is_a_tool_error_that_still_tells_all_that_is_known(
    client: Client, photo: Path, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(studio: Studio, job: Any, shape: Any = None) -> Any:
        found = await given(studio, job, shape)
        problem = {"code": "prediction_failed", "message": "The model ran and failed.", "hint": "Try another picture."}
        return type(found).model_validate({**found.model_dump(), "status": "failed", "error": problem})

    given = Studio.result
    monkeypatch.setattr(Studio, "result", failing)
    with anyio.fail_after(180):
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
    found = answer.structured_content
    assert answer.is_error
    assert found is not None
    assert found["error"]["code"] == "prediction_failed"
    for fact in ("prediction_failed", found["job_id"], found["next_step"]):
        assert fact in text_of(answer)


@pytest.mark.parametrize(
    ("tool", "given", "words"),
    [
        ("get_job", {"job_id": "0" * 32, "wait_second": 3}, "'wait_seconds'"),
        ("view_media", {"url": "job://1"}, "'uri'"),
        ("generate_video", {"prompt": "a", "duration": True}, "'duration'"),
        ("generate_video", {"prompt": "a", "duration": "five"}, "'duration'"),
        ("list_jobs", {"limit": 0}, "'limit'"),
        ("list_jobs", {"limit": False}, "'limit'"),
        ("list_jobs", {"status": "done"}, "'status'"),
        ("segment_image", {"image": "a.png", "box": [1, 2, 3, 4]}, "'box'"),
    ],
)
async def test_a_wrong_argument_is_named(client: Client, tool: str, given: dict[str, Any], words: str) -> None:
    answer = await client.call_tool(tool, given)
    assert answer.is_error
    assert text_of(answer).startswith("invalid_argument: ")
    assert words in text_of(answer)


async def test_numbers_given_as_strings_are_taken(client: Client) -> None:
    assert not (await client.call_tool("list_jobs", {"limit": "5"})).is_error
    given = {"prompt": "a", "duration": "4", "seed": "7", "dry_run": "true"}
    planned = (await client.call_tool("generate_video", given)).structured_content
    assert planned is not None
    assert (planned["planned_input"]["duration"], planned["seed"]) == (4, 7)


async def test_a_setting_that_is_refused_is_reported_to_who_calls_also_when_jobs_were_left_open(
    environment: dict[str, str], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs that were left open are taken up without a call: nobody is there to be reported, and the session goes on."""
    settings = read_settings({**environment, "FAL_KEY": "bad key"})
    opener = make_studio_opener(settings, stdio_roots(settings, home, home))
    server = build_server(
        opener, read_client_profiles(manifest_folder() / "clients.toml"), 1.0, has_open_jobs=lambda: True
    )
    async with Client(server) as client:
        with anyio.fail_after(180):
            while not any("left open" in line.getMessage() for line in caplog.records):
                await anyio.lowlevel.checkpoint()
            answer = await client.call_tool("list_jobs", {})
    assert answer.is_error
    assert "FAL_KEY" in getattr(answer.content[0], "text", "")
    assert "bad key" not in caplog.text
