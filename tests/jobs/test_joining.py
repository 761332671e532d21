"""Joining: a request that is sent again, from anywhere and at any time, pays once for one result."""

import base64
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, Until, open_job, segment_arguments
from ledger_file import ledger_file
from mcp import Client
from PIL import Image
from scripted_provider import ScriptedProvider
from vaults import stored_path

from rotoscope.contracts.arguments import (
    Arguments,
    DescribeWithMasks,
    GenerateVideo,
    GetJob,
    SegmentImage,
    ViewMedia,
    parse_arguments,
)
from rotoscope.contracts.results import JobResult, MaskResult
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import Settings, read_settings
from rotoscope.store.deliveries import LATE_REDELIVERY_SECONDS
from rotoscope.store.records import OpenResult
from rotoscope.store.timing import REDELIVERY_SECONDS
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio


async def performed(studio: Studio, arguments: Arguments, seconds: float = 10) -> JobResult:
    with anyio.fail_after(180):
        result = await studio.perform("segment_image", arguments, "local", seconds)
        assert isinstance(result, JobResult)
        await studio.mark_delivered(result, "local")
    return result


async def finished(studio: Studio, opening: OpenResult) -> None:
    with anyio.fail_after(180):
        assert (await studio.wait(opening.job, 60)).is_final


async def test_an_open_job_is_joined(studio: Studio, provider: ScriptedProvider, photo: Path) -> None:
    provider.hold = anyio.Event()
    first, second = await open_job(studio, segment_arguments(photo)), await open_job(studio, segment_arguments(photo))
    assert (first.is_joined, second.is_joined, second.job.id) == (False, True, first.job.id)
    provider.hold.set()
    await finished(studio, first)
    assert provider.posts == 1


async def test_a_result_that_was_not_delivered_is_joined_and_then_delivered_once(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    opening = await open_job(studio, segment_arguments(photo))
    await finished(studio, opening)
    retried = await performed(studio, segment_arguments(photo))
    assert (retried.job_id, retried.status, provider.posts) == (opening.job.id, "succeeded", 1)
    assert any("nothing was sent or paid again" in warning for warning in retried.warnings)


async def test_after_delivery_an_equal_request_joins_once_more_and_then_is_a_new_job(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    """A client that gave up in silence looks like one that was answered."""
    first, again, third = [await performed(studio, segment_arguments(photo)) for _ in range(3)]
    assert (again.job_id, again.status) == (first.job_id, "succeeded")
    assert third.job_id != first.job_id
    assert provider.posts == 2
    assert not any("paid again" in warning for warning in third.warnings)


async def test_a_minute_after_delivery_an_equal_request_is_a_new_job(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    now = [1_000_000.0]
    async with opened(settings, provider, clock=lambda: now[0]) as studio:
        first = await performed(studio, segment_arguments(photo))
        now[0] += REDELIVERY_SECONDS + 1
        assert (await performed(studio, segment_arguments(photo))).job_id != first.job_id
    assert provider.posts == 2


async def reported(studio: Studio, arguments: Arguments, *, late: bool) -> JobResult:
    with anyio.fail_after(180):
        result = await studio.perform("segment_image", arguments, "local", 60)
        assert isinstance(result, JobResult)
        await studio.mark_delivered(result, "local", late=late)
    return result


async def test_a_result_that_was_delivered_late_is_delivered_again_until_once_in_time(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    """Some clients give up in silence, and their users come back after minutes."""
    now = [1_000_000.0]
    async with opened(settings, provider, clock=lambda: now[0]) as studio:
        first = await reported(studio, segment_arguments(photo), late=True)
        for late in (True, True, False):
            now[0] += REDELIVERY_SECONDS + 60
            again = await reported(studio, segment_arguments(photo), late=late)
            assert (again.job_id, provider.posts) == (first.job_id, 1)
            assert any("perhaps too late to be heard" in warning for warning in again.warnings)
        assert (await reported(studio, segment_arguments(photo), late=False)).job_id != first.job_id
    assert provider.posts == 2


async def test_a_late_delivery_is_not_repeated_for_ever(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    now = [1_000_000.0]
    async with opened(settings, provider, clock=lambda: now[0]) as studio:
        first = await reported(studio, segment_arguments(photo), late=True)
        now[0] += LATE_REDELIVERY_SECONDS + 1
        assert (await reported(studio, segment_arguments(photo), late=False)).job_id != first.job_id


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("link", ["job://{job}", "job://{job}/masks/0", "{uri}", "{path}"])
async def test_a_request_that_uses_an_output_counts_as_the_delivery_of_its_job(
    studio: Studio, provider: ScriptedProvider, photo: Path, late: bool, link: str
) -> None:
    """An equal request after that is meant."""
    first = await reported(studio, segment_arguments(photo), late=late)
    assert isinstance(first, MaskResult)
    media = first.masks[0].media
    used = ViewMedia(uri=link.format(job=first.job_id, uri=media.uri, path=media.path))
    await studio.note_job_use(used, "somebody else")
    await studio.note_job_use(GetJob(job_id=f"job://{first.job_id}"), "local")
    assert await studio.find_open_job(await studio.plan("segment_image", segment_arguments(photo), "local"))
    await studio.note_job_use(used, "local")
    assert (await reported(studio, segment_arguments(photo), late=False)).job_id != first.job_id
    assert provider.posts == 2


async def test_another_seed_is_another_request_also_after_a_late_delivery(
    studio: Studio, provider: ScriptedProvider
) -> None:
    film = GenerateVideo(prompt="a storm", seed=1)
    openings = [
        await studio.start(await studio.plan("generate_video", film.model_copy(update={"seed": n}), "local"))
        for n in (1, 2)
    ]
    assert isinstance(openings[0], OpenResult)
    assert isinstance(openings[1], OpenResult)
    assert openings[0].job.id != openings[1].job.id


async def test_a_result_that_get_job_has_given_is_delivered(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    opening = await open_job(studio, segment_arguments(photo))
    await finished(studio, opening)
    result = await studio.perform("get_job", GetJob(job_id=opening.job.id), "local", 60)
    assert isinstance(result, JobResult)
    assert (await open_job(studio, segment_arguments(photo))).is_joined, "the answer has not left yet"
    await studio.mark_delivered(result, "local")
    assert (await open_job(studio, segment_arguments(photo))).is_redelivery
    assert not (await open_job(studio, segment_arguments(photo))).is_joined


async def test_an_answer_that_a_job_still_runs_is_not_its_end(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    early = await performed(studio, segment_arguments(photo), seconds=0.01)
    assert early.status in ("queued", "running")
    provider.hold.set()
    retried = await performed(studio, segment_arguments(photo))
    assert (retried.job_id, retried.status, provider.posts) == (early.job_id, "succeeded", 1)


async def test_a_failure_that_was_not_delivered_is_delivered_to_the_retry_and_not_run_again(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "failed", "error": "CUDA out of memory"}]
    opening = await open_job(studio, segment_arguments(photo))
    await finished(studio, opening)
    assert (await performed(studio, segment_arguments(photo))).status == "failed"
    assert provider.posts == 1


async def test_a_job_in_review_is_joined_until_a_person_has_resolved_it(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.created = (500, b"oops")
    doubtful = await performed(studio, segment_arguments(photo))
    for _ in range(2):
        again = await performed(studio, segment_arguments(photo))
        assert (again.job_id, again.status, provider.posts) == (doubtful.job_id, "needs_review", 1)
    await studio.context.ledger.resolve_review(doubtful.job_id, "local", None)
    reported = await performed(studio, segment_arguments(photo))
    assert (reported.job_id, reported.status) == (doubtful.job_id, "failed")
    provider.created = (201, {"status": "starting"})
    fresh = await performed(studio, segment_arguments(photo))
    assert (fresh.job_id == doubtful.job_id, fresh.status, provider.posts) == (False, "succeeded", 2)


async def test_a_cancelled_request_is_not_joined(studio: Studio, provider: ScriptedProvider, photo: Path) -> None:
    """Who cancels and asks again wants a new run, also while the old one is still being stopped."""
    provider.hold = anyio.Event()
    first = await open_job(studio, segment_arguments(photo))
    await studio.cancel(first.job.id, "local")
    second = await open_job(studio, segment_arguments(photo))
    assert not second.is_joined
    provider.hold.set()
    await finished(studio, second)


async def test_a_request_that_may_be_charged_is_joined_although_a_cancel_was_requested(
    studio: Studio, provider: ScriptedProvider, photo: Path, until: Until
) -> None:
    """The cancel comes too late, or is not taken: whoever asks again gets what is being paid for, once."""
    provider.hold, provider.cancelled = anyio.Event(), list(provider.states)
    first = await open_job(studio, segment_arguments(photo))

    async def sent() -> bool:
        return bool(provider.posts)

    await until(sent)
    await studio.cancel(first.job.id, "local")
    assert (await open_job(studio, segment_arguments(photo))).is_joined
    provider.hold.set()
    await finished(studio, first)
    result = await performed(studio, segment_arguments(photo))
    assert (result.job_id, result.status, provider.posts) == (first.job.id, "succeeded", 1)


@pytest.mark.parametrize(
    ("change", "joined"),
    [
        ({}, True),
        ({"instruction": "the flag"}, False),
        ({"overlay": False}, False),
        ({"model": "sam-v2-image"}, False),
    ],
    ids=["same", "other input", "other result", "other model"],
)
async def test_only_the_same_request_joins(
    studio: Studio, provider: ScriptedProvider, photo: Path, change: dict[str, Any], joined: bool
) -> None:
    provider.hold = anyio.Event()
    first = await open_job(studio, segment_arguments(photo))
    second = await open_job(studio, segment_arguments(photo, **change))
    assert (second.is_joined, second.job.id == first.job.id) == (joined, joined)
    provider.hold.set()


async def test_another_principals_equal_request_is_another_job(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    mine, theirs = (
        await open_job(studio, segment_arguments(photo)),
        await open_job(studio, segment_arguments(photo), "somebody else"),
    )
    assert not theirs.is_joined
    assert theirs.job.id != mine.job.id
    provider.hold.set()


async def test_another_tool_is_another_request(studio: Studio, provider: ScriptedProvider, photo: Path) -> None:

    provider.hold = anyio.Event()
    await open_job(studio, segment_arguments(photo))
    asked = DescribeWithMasks(image=str(photo), prompt="the helmet")
    assert not (await open_job(studio, asked, tool="describe_with_masks")).is_joined
    provider.hold.set()


async def test_a_picture_is_the_same_by_its_content_whatever_its_name(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    copy = photo.with_name("copy.jpg")
    copy.write_bytes(photo.read_bytes())
    other = photo.with_name("other.png")
    Image.new("RGB", (64, 64), "red").save(other)
    first = await open_job(studio, segment_arguments(photo))
    assert (await open_job(studio, segment_arguments(copy))).job.id == first.job.id
    assert not (await open_job(studio, segment_arguments(other))).is_joined
    provider.hold.set()


async def test_a_seed_that_we_drew_does_not_count_and_a_users_does(studio: Studio, provider: ScriptedProvider) -> None:
    def asked(**more: Any) -> GenerateVideo:
        return GenerateVideo(prompt="a fox runs", model="bytedance/seedance-2.0", **more)

    async def opened(**more: Any) -> OpenResult:
        return await open_job(studio, asked(**more), tool="generate_video")

    provider.hold = anyio.Event()
    drawn, drawn_again = await opened(), await opened()
    seven, seven_again, eight = await opened(seed=7), await opened(seed=7), await opened(seed=8)
    assert (drawn_again.job.id, seven_again.job.id) == (drawn.job.id, seven.job.id)
    assert len({drawn.job.id, seven.job.id, eight.job.id}) == 3
    provider.hold.set()


async def test_two_processes_that_race_with_one_request_get_one_job_and_pay_once(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    results: list[JobResult] = []

    async def race(studio: Studio) -> None:
        results.append(await performed(studio, segment_arguments(photo)))

    provider.hold = anyio.Event()
    async with (
        opened(settings, provider) as first,
        opened(settings, provider) as second,
        anyio.create_task_group() as tasks,
    ):
        for studio in (first, second) * 4:
            tasks.start_soon(race, studio)
        await rows_of(settings, "job_events WHERE type = 'joined'", 7)
        provider.hold.set()
    assert len({result.job_id for result in results}) == 1
    assert {result.status for result in results} == {"succeeded"}
    assert provider.posts == 1


async def rows_of(settings: Settings, table: str, wanted: int) -> None:
    with anyio.fail_after(180):
        while True:
            with ledger_file(settings.home / "ledger.sqlite3") as ledger:
                try:
                    (count,) = ledger.execute(f"SELECT count(*) FROM {table}").fetchone()
                except sqlite3.OperationalError:
                    count = 0  # not there yet
            if count == wanted:
                return
            await anyio.sleep(0.02)


async def test_a_caller_that_is_cut_off_only_stops_waiting_and_its_retry_joins(
    studio: Studio, provider: ScriptedProvider, photo: Path, until: Until
) -> None:
    provider.hold = anyio.Event()

    async def out() -> bool:
        return bool(provider.posts)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(performed, studio, segment_arguments(photo))
        await until(out)
        tasks.cancel_scope.cancel()
    provider.hold.set()
    (job,) = await studio.context.ledger.jobs("local", None, 10)
    with anyio.fail_after(180):
        job = await studio.wait(job, 60)
    assert (job.state, job.cancel_requested, job.delivered_at) == ("succeeded", False, None)
    retried = await performed(studio, segment_arguments(photo))
    assert (retried.job_id, retried.status, provider.posts) == (job.id, "succeeded", 1)


def data_uri(file: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"


async def shown(studio: Studio, arguments: Arguments) -> str:
    """The picture as a dry run shows that it would be sent."""
    result = await studio.perform("segment_image", arguments, "local", 60)
    assert isinstance(result, JobResult)
    assert result.planned_input is not None
    return str(result.planned_input["image"])


async def test_a_picture_is_the_same_by_its_link_as_by_its_path_and_however_it_is_given(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    link = await shown(studio, segment_arguments(photo, dry_run=True))
    assert link.startswith("artifact://")
    first = await open_job(studio, segment_arguments(photo))
    kept = stored_path(studio.context.vault, link)
    ways = [link, photo.as_uri(), str(photo.parent / "x" / ".." / photo.name), data_uri(photo), f" {photo}\n"]
    for way in (*ways, data_uri(kept)):
        again = SegmentImage(image=way, instruction="the helmet", model="bytedance/sa2va-4b-image")
        assert (await open_job(studio, again)).job.id == first.job.id, way[:60]
        assert (
            await shown(
                studio,
                SegmentImage(image=way, instruction="the helmet", model="bytedance/sa2va-4b-image", dry_run=True),
            )
            == link
        )
    provider.hold.set()


async def test_a_mask_is_the_same_by_its_job_as_by_its_link(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    done = await performed(studio, segment_arguments(photo))
    assert isinstance(done, MaskResult)
    provider.hold = anyio.Event()
    ways = [f"job://{done.job_id}", f"job://{done.job_id}/masks/0", done.masks[0].media.uri, done.masks[0].media.path]
    openings = [
        await open_job(studio, SegmentImage(image=way, instruction="the white", model="bytedance/sa2va-4b-image"))
        for way in ways
    ]
    assert len({opening.job.id for opening in openings}) == 1
    provider.hold.set()


@pytest.mark.parametrize("blanks", ["{} ", "\n{}", "\t{}\r\n", "{}\u00a0"])
async def test_blanks_around_a_text_make_no_other_request_and_are_not_sent(
    studio: Studio, provider: ScriptedProvider, photo: Path, blanks: str
) -> None:
    provider.hold = anyio.Event()
    first = await open_job(studio, segment_arguments(photo, instruction=blanks.format("the helmet")))
    assert (await open_job(studio, segment_arguments(photo))).job.id == first.job.id
    provider.hold.set()
    await finished(studio, first)
    assert [sent["instruction"] for sent in provider.inputs] == ["the helmet"]
    assert first.job.args["instruction"] == "the helmet"


FILMS: list[dict[str, Any]] = [
    {},
    {"duration": 5},
    {"duration": "5", "resolution": "720p"},
    {"aspect_ratio": "16:9", "generate_audio": True},
    {"aspect_ratio": " 16:9 ", "reference_images": [], "reference_videos": [], "reference_audios": []},
    {"first_frame": None, "seed": -1, "resolution": ""},
    {"prompt": "a fox runs\n", "duration": 5.0},
]


async def test_a_film_with_its_defaults_named_is_the_film_without(studio: Studio, provider: ScriptedProvider) -> None:
    provider.hold = anyio.Event()

    async def opened(**more: Any) -> str:
        asked = parse_arguments(GenerateVideo, {"prompt": "a fox runs", **more})
        return (await open_job(studio, asked, tool="generate_video")).job.id

    assert len({await opened(**more) for more in FILMS}) == 1
    others: list[dict[str, Any]] = [
        {"duration": 6},
        {"resolution": "480p"},
        {"generate_audio": False},
        {"prompt": "a fox  runs"},
        {"seed": 0},
    ]
    assert len({await opened(**more) for more in [{}, *others]}) == 1 + len(others)
    provider.hold.set()


async def test_after_the_manifest_moved_to_another_version_or_form_the_same_arguments_are_another_request(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    """The old model's result, which nobody received, is no answer to who asks the new one."""
    shipped = (manifest_folder() / "models" / "sa2va-4b-image.toml").read_text(encoding="utf-8")
    (settings.home / "models").mkdir(parents=True)
    versions = [
        shipped,
        shipped.replace("ccf8e583", "0cf8e583"),
        shipped.replace('form = "version"', 'form = "official"'),
    ]
    found = []
    for text in [*versions, shipped]:
        (settings.home / "models" / "own.toml").write_text(text, encoding="utf-8")
        async with opened(settings, provider) as studio:
            opening = await open_job(studio, segment_arguments(photo))
            await finished(studio, opening)
            found.append(opening.job.id)
    assert len(set(found)) == 3
    assert (found[3], provider.posts) == (found[0], 3)


async def test_addresses_that_the_provider_reads_are_compared_in_one_spelling(
    opened: StudioOpener, tmp_path: Path, provider: ScriptedProvider
) -> None:
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "r8_none_of_yours"}

    def asked(address: str) -> SegmentImage:
        return SegmentImage(image=address, instruction="the cat", model="bytedance/sa2va-4b-image")

    async with opened(read_settings(environ), provider) as studio:

        async def key(address: str) -> str:
            return (await studio.plan("segment_image", asked(address), "local")).new_job.quote_key

        usual = await key("https://example.com/a%2Fb.png?y=2&x=1")
        for same in ("HTTPS://EXAMPLE.com:443/a%2fb.png?y=2&x=1#top", " https://example.com/a%2Fb.png?y=2&x=1\n"):
            assert await key(same) == usual
        for other in ("https://example.com/a%2Fb.png?x=1&y=2", "https://example.com/A%2Fb.png?y=2&x=1"):
            assert await key(other) != usual
        assert await key("https://example.com") == await key("https://example.com/")
        (sent,) = {await shown(studio, asked("https://EXAMPLE.com/c.png#x").model_copy(update={"dry_run": True}))}
    assert sent == "https://example.com/c.png"


PAIRS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("segment_image", {"instruction": "the helmet"}, {"instruction": " the helmet\n", "overlay": True, "points": None}),
    ("segment_image", {"points": [{"x": 200, "y": 100}]}, {"points": [{"x": "200.3", "y": 99.8, "keep": True}]}),
    ("describe_with_masks", {}, {"prompt": "Could you please give me a brief description of the image? "}),
    ("generate_video", {"prompt": "a fox"}, {"prompt": "a fox ", "duration": "5", "reference_videos": []}),
]


@pytest.mark.parametrize(("tool", "first", "second"), PAIRS, ids=[f"{p[0]} {n}" for n, p in enumerate(PAIRS)])
@pytest.mark.parametrize("way", ["path", "link"])
async def test_two_calls_that_spell_one_request_differently_pay_once(
    environment: dict[str, str], serve: Any, sandbox: Any, photo: Path, tool: str, first: dict[str, Any],
    second: dict[str, Any], way: str,
) -> None:  # fmt: skip
    """Through the tools of the server, as an assistant that gave up waiting sees them."""
    medium = "reference_images" if tool == "generate_video" else "image"
    server = serve(read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "0"}), sandbox)
    async with Client(server) as client:

        async def call(name: str = tool, **arguments: Any) -> dict[str, Any]:
            with anyio.fail_after(180):
                answer = await client.call_tool(name, arguments)
            assert answer.structured_content is not None, answer
            return dict(answer.structured_content)

        planned = (await call(**first, **{medium: str(photo)}, dry_run=True))["planned_input"]
        link = next(value for value in planned.values() if "artifact://" in str(value))
        again = photo.as_uri() if way == "path" else link
        jobs = [await call(**first, **{medium: str(photo)}), await call(**second, **{medium: again})]
        with anyio.fail_after(180):
            while (await call("get_job", job_id=jobs[0]["job_id"]))["status"] in ("queued", "running"):
                await anyio.lowlevel.checkpoint()
    assert jobs[0]["job_id"] == jobs[1]["job_id"]
    assert len(sandbox.state.accepted) == 1
