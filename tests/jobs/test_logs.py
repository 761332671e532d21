"""The end of the model's own log: kept with the job however it ends, shown to a closer look alone."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import SECONDS, perform, segment_arguments, start_job
from mcp import Client
from scripted_provider import ScriptedProvider

from rotoscope.contracts.arguments import GetJob
from rotoscope.contracts.results import JobRecord
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
SIGNED = "https://files.example/in.png?X-Signature=5f0c"
OUTPUT: dict[str, Any] = {"output": {"img": "https://sandbox.invalid/out.png", "response": "Sure, [SEG]."}}


async def shown_logs(studio: Studio, job_id: str) -> list[str]:
    record = await studio.result(await studio.job(job_id, "local"), JobRecord)
    assert isinstance(record, JobRecord)
    return record.provider_logs


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ({"status": "succeeded", **OUTPUT}, "succeeded"),
        ({"status": "failed", "error": "CUDA error"}, "failed"),
        ({"status": "canceled"}, "cancelled"),
    ],
    ids=["succeeded", "failed", "cancelled"],
)
async def test_the_end_of_the_log_is_kept_however_a_run_ends(
    studio: Studio, provider: ScriptedProvider, photo: Path, ending: dict[str, Any], status: str
) -> None:
    logs = "\n".join([*(f"line {n}" for n in range(50)), f"read {SIGNED}", "\x1b[31mdone\ud800\u202e"])
    provider.states = [{"status": "processing", "logs": "line 0"}, {**ending, "logs": logs}]
    result = await perform(studio, segment_arguments(photo))
    assert result.status == status
    shown = await shown_logs(studio, result.job_id)
    assert shown == [*(f"line {n}" for n in range(32, 50)), "read https://files.example/in.png?[removed]", "done"]


async def test_the_result_of_a_tool_does_not_hold_the_log(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "succeeded", **OUTPUT, "logs": "a line of the log"}]
    result = await perform(studio, segment_arguments(photo))
    again = await studio.perform("get_job", GetJob(job_id=result.job_id), "local", SECONDS)
    for one in (result, again):
        assert "a line of the log" not in one.model_dump_json()
    assert await shown_logs(studio, result.job_id) == ["a line of the log"]


async def test_the_log_of_a_run_that_still_works_is_shown_and_one_that_is_deleted_later_stays(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing", "logs": "loading\n 40%|####   | 4/10"}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(SECONDS):
        while not await shown_logs(studio, job.id):  # noqa: ASYNC110 - there is no event of it
            await anyio.sleep(0.01)
    assert await shown_logs(studio, job.id) == ["loading", "40%|#### | 4/10"]
    provider.states = [{"status": "failed", "error": "out of memory", "logs": ""}]
    ended = await studio.wait(await studio.job(job.id, "local"), SECONDS)
    assert ended.state == "failed"
    assert await shown_logs(studio, job.id) == ["loading", "40%|#### | 4/10"]


@pytest.mark.parametrize("model", ["bytedance/sa2va-4b-image", "fal-ai/sa2va/8b/image"])
async def test_on_both_wires_the_resource_of_a_job_shows_the_log_that_was_polled(
    client: Client, photo: Path, model: str
) -> None:
    tool = "describe_with_masks" if model.startswith("fal") else "segment_image"
    asked = {"image": str(photo), "model": model} | ({} if model.startswith("fal") else {"instruction": "the face"})
    answer = await client.call_tool(tool, asked)
    found = answer.structured_content
    assert found is not None
    assert "provider_logs" not in found
    read = (await client.read_resource(f"job://{found['job_id']}")).contents[0]
    logs = json.loads(read.text)["provider_logs"]  # type: ignore[union-attr]
    assert logs
    assert not any(line in json.dumps(found) for line in logs)
