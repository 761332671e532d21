"""Whole jobs whose results are kept in an S3 store: their addresses, and that no outage loses what was paid for."""

import io
import json
import sqlite3
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from calls import BOX, SECONDS, StudioOpener, Until, perform, segment_arguments, start_job
from object_store import KEYS, ObjectServer, object_server, open_object_vault, running_server
from PIL import Image
from scripted_provider import ScriptedProvider

from rotoscope.cli.demo_clip import draw_clip
from rotoscope.contracts.arguments import (
    Arguments,
    DescribeWithMasks,
    EditVideoWithMask,
    GenerateVideo,
    GetJob,
    SegmentImage,
)
from rotoscope.contracts.results import JobResult, MediaFile, SegmentResult
from rotoscope.errors import StorageFailed
from rotoscope.media.object_vault import ObjectVault
from rotoscope.server.present.text import result_answer
from rotoscope.settings import Settings, read_settings
from rotoscope.store.timing import Intervals
from rotoscope.studio.preview import make_view
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox

__all__ = ["object_server", "running_server"]

pytestmark = pytest.mark.anyio
EAGER = Intervals(held_look=0.05, storage_pauses=(0.0,), prediction_id_pauses=())


@pytest.fixture
def bucket(object_server: ObjectServer) -> str:
    return object_server.make_bucket()


@pytest.fixture
def on_store(environment: dict[str, str], object_server: ObjectServer, bucket: str) -> Settings:
    """Settings by which an operator names the store."""
    place = {"ROTOSCOPE_STORE_URL": f"s3://{bucket}/results", "AWS_ENDPOINT_URL": object_server.endpoint}
    return read_settings({**environment, **KEYS, **place})


@pytest.fixture
def vault(object_server: ObjectServer, bucket: str, settings: Settings) -> ObjectVault:
    """The vault of a process that does not wait long for a store that is away."""
    return open_object_vault(object_server, settings.home / "objects", bucket)


def open_address(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as opened:
        return bytes(opened.read())


def request_of(tool: str, home: Path, photo: Path) -> Arguments:
    match tool:
        case "segment_image":
            return SegmentImage.model_validate({"image": str(photo), "box": BOX})
        case "describe_with_masks":
            return DescribeWithMasks(image=str(photo))
        case "generate_video":
            return GenerateVideo(prompt="a calm sea", duration=4, resolution="480p", first_frame=str(photo))
        case _:
            draw_clip(home / "clip.mp4")
            mask = Image.new("L", (832, 480), 0)
            mask.paste(255, (100, 100, 300, 300))
            mask.save(home / "mask.png")
            files = {"video": str(home / "clip.mp4"), "mask": str(home / "mask.png")}
            return EditVideoWithMask.model_validate({"prompt": "an empty street", **files})


def files_of(result: JobResult) -> list[MediaFile]:
    return list(result.to_any_result().named_files().values())


@pytest.mark.parametrize("tool", ["segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"])
async def test_every_file_of_a_result_opens_at_its_signed_address(
    on_store: Settings, opened: StudioOpener, sandbox: Sandbox, home: Path, photo: Path, tool: str
) -> None:
    async with opened(on_store, sandbox) as studio:
        result = await perform(studio, request_of(tool, home, photo), tool)
        assert result.status == "succeeded", result.error
        files = files_of(result)
        assert len(files) >= 2
        for file in files:
            assert file.path == ""
            assert len(await anyio.to_thread.run_sync(open_address, file.url)) == file.file_size
        assert files[0].uri in str(result_answer(result).content)
        view = await make_view(studio, f"job://{result.job_id}", "local")
        assert view.place.startswith("http://127.0.0.1:")
    assert not (on_store.home / "vault").exists()
    assert not list((on_store.home / "objects" / "spool").iterdir())
    assert not list((on_store.home / "objects" / "scratch").iterdir())


async def test_results_are_taken_as_input_by_their_links_on_another_host(
    object_server: ObjectServer, bucket: str, opened: StudioOpener, sandbox: Sandbox, photo: Path, settings: Settings
) -> None:
    """The other host shares the ledger and the store, and no disk."""
    here, there = (open_object_vault(object_server, settings.home / name, bucket) for name in ("here", "there"))
    async with opened(settings, sandbox, vault=here) as studio:
        first = await perform(studio, SegmentImage.model_validate({"image": str(photo), "box": BOX}))
        assert isinstance(first, SegmentResult)
        assert first.overlay is not None
    async with opened(settings, sandbox, vault=there) as studio:
        for link in (first.overlay.uri, f"job://{first.job_id}/overlay"):
            again = await perform(studio, SegmentImage.model_validate({"image": link, "box": BOX}))
            assert again.status == "succeeded", again.error
        coco = first.coco
        assert coco is not None
        async with studio.open_artifact(coco.sha256, "local") as found:
            assert found is not None
            images = json.loads(found[0].read_text())["images"]
        assert [one["file_name"] for one in images] == [photo.name]


async def test_files_that_are_gone_from_the_store_are_restored(
    opened: StudioOpener, sandbox: Sandbox, photo: Path, settings: Settings,
    object_server: ObjectServer, bucket: str, vault: ObjectVault,
) -> None:  # fmt: skip
    async with opened(settings, sandbox, vault=vault) as studio:
        result = await perform(studio, SegmentImage.model_validate({"image": str(photo), "box": BOX}))
        assert isinstance(result, SegmentResult)
        lost = result.masks[0].media.sha256
        object_server.set_written_at(bucket, lost, 1000)
        assert vault.delete(lost, before=2000)
        await studio.perform("get_job", GetJob(job_id=result.job_id), "local", SECONDS)
        assert vault.address(lost) is not None


async def run_until_held(studio: Studio, object_server: ObjectServer, provider: ScriptedProvider, photo: Path) -> str:
    """Begin a job whose store goes away when it is paid for; its id."""
    provider.hold = anyio.Event()
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(SECONDS):
        while not provider.posts:  # noqa: ASYNC110 - there is no event of it
            await anyio.sleep(0.01)
    await anyio.to_thread.run_sync(object_server.stop)
    provider.hold.set()
    return job.id


def reports_outage(studio: Studio, job_id: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        job = await studio.job(job_id, "local")
        assert not job.is_final, job.error
        return "cannot be reached" in job.message

    return look


def has_ended(studio: Studio, job_id: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await studio.job(job_id, "local")).is_final

    return look


async def test_an_outage_that_is_longer_than_the_provider_keeps_a_result_loses_nothing(
    opened: StudioOpener, until: Until, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    async with opened(settings, provider, vault=vault, intervals=EAGER) as studio:
        job_id = await run_until_held(studio, object_server, provider, photo)
        await until(reports_outage(studio, job_id))
        result = await studio.result(await studio.job(job_id, "local"))
        assert result.status == "running"
        assert f"s3://{vault.client.place.bucket}/results" in result.message
        assert result.error is not None
        assert "ROTOSCOPE_STORE_URL" in result.error.hint
        (held,) = vault.spool.hashes()
        provider.files.clear()  # its hour is over
    # The process is gone; what lives next on this host knows the file by the ledger and its own disk.
    with closing(sqlite3.connect(settings.home / "ledger.sqlite3")) as ledger:
        (data,) = ledger.execute("SELECT data FROM jobs").fetchone()
    assert [one["sha256"] for one in json.loads(data)["held"]] == [held]
    later = open_object_vault(object_server, settings.home / "objects", vault.client.place.bucket)
    async with opened(settings, provider, vault=later, intervals=EAGER) as studio:
        await until(reports_outage(studio, job_id))
        await anyio.to_thread.run_sync(object_server.start)
        await until(has_ended(studio, job_id))
        result = await studio.result(await studio.job(job_id, "local"))
    assert result.status == "succeeded", result.error
    assert (provider.posts, provider.asked.count("GET /out.png")) == (1, 1)
    assert later.spool.hashes() == []
    assert later.address(held) is not None


async def test_all_files_of_a_result_are_held_before_the_store_is_asked(
    opened: StudioOpener, until: Until, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    """A store that is away must not keep the second file at a provider that removes it."""
    names = ("/one.png", "/two.png", "/three.png")
    for number, name in enumerate(names):
        picture = Image.new("L", (64, 64), 0)
        picture.paste(255, (8, 8, 40 + number, 40))
        content = io.BytesIO()
        picture.save(content, "PNG")
        provider.files[name] = content.getvalue()
    output = [f"https://sandbox.invalid{name}" for name in names]
    provider.states = [{"status": "succeeded", "output": {"img": output, "response": "Sure, [SEG]."}}]
    async with opened(settings, provider, vault=vault, intervals=EAGER) as studio:
        job_id = await run_until_held(studio, object_server, provider, photo)
        await until(reports_outage(studio, job_id))
        assert len(vault.spool.hashes()) == len(names)
        provider.files.clear()
        await anyio.to_thread.run_sync(object_server.start)
        await until(has_ended(studio, job_id))
        assert (await studio.job(job_id, "local")).state == "succeeded"


async def test_another_host_waits_for_a_result_that_this_one_holds(
    opened: StudioOpener, until: Until, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault, tmp_path: Path,
) -> None:  # fmt: skip
    async with opened(settings, provider, vault=vault, intervals=EAGER) as studio:
        job_id = await run_until_held(studio, object_server, provider, photo)
        await until(reports_outage(studio, job_id))
    provider.files.clear()
    await anyio.to_thread.run_sync(object_server.start)
    other = open_object_vault(object_server, tmp_path / "other", vault.client.place.bucket)
    async with opened(settings, provider, vault=other, intervals=EAGER) as studio:

        async def waits() -> bool:
            job = await studio.job(job_id, "local")
            assert not job.is_final, job.error
            return "the disk of another host" in job.message

        await until(waits)
        (held,) = vault.spool.hashes()
        await anyio.to_thread.run_sync(vault.put_held, held)  # the host is back
        await until(has_ended(studio, job_id))
        assert (await studio.job(job_id, "local")).state == "succeeded"
    assert provider.posts == 1


async def test_a_result_that_came_in_the_reply_outlives_an_outage(
    opened: StudioOpener, until: Until, sandbox: Sandbox, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    """Nothing but the bytes of the reply is left of such a run."""
    stopped: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        async def pass_on(message: Any) -> None:
            types = [value for name, value in message.get("headers", ()) if bytes(name).lower() == b"content-type"]
            if scope["method"] == "POST" and any(bytes(value).startswith(b"image/") for value in types):
                stopped.append(scope["path"])
                await anyio.to_thread.run_sync(object_server.stop)
            await send(message)

        await sandbox(scope, receive, pass_on)

    points = [{"x": 200, "y": 150}]
    arguments = SegmentImage.model_validate({"image": str(photo), "points": points, "model": "sam-v2-image"})
    async with opened(settings, app, vault=vault, intervals=EAGER) as studio:
        job = await start_job(studio, arguments)
        await until(reports_outage(studio, job.id))
        assert len(stopped) == 1
    later = open_object_vault(object_server, settings.home / "objects", vault.client.place.bucket)
    async with opened(settings, app, vault=later, intervals=EAGER) as studio:
        await until(reports_outage(studio, job.id))
        await anyio.to_thread.run_sync(object_server.start)
        await until(has_ended(studio, job.id))
        ended = await studio.job(job.id, "local")
    assert ended.state == "succeeded", ended.error
    assert len(stopped) == 1


async def test_an_outage_while_the_result_is_made_is_waited_for(
    opened: StudioOpener, until: Until, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    raw: list[str] = []

    def fault(environ: dict[str, Any]) -> Any:
        is_file = environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].rpartition(".")[2] in (
            "png",
            "jpg",
            "json",
        )
        if not is_file or not provider.posts:
            return None
        raw.append(environ["PATH_INFO"])
        return refuse if len(raw) > 1 else None

    def refuse(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Slow Down", [("Content-Length", "0")])
        return []

    object_server.fault = fault
    async with opened(settings, provider, vault=vault, intervals=EAGER) as studio:
        job = await start_job(studio, segment_arguments(photo))
        await until(reports_outage(studio, job.id))
        object_server.fault = None
        await until(has_ended(studio, job.id))
        assert (await studio.job(job.id, "local")).state == "succeeded"
    assert provider.posts == 1
    assert vault.spool.hashes() == []


async def test_nothing_is_paid_for_while_the_store_is_away(
    opened: StudioOpener, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    async with opened(settings, provider, vault=vault, intervals=EAGER) as studio:
        await studio.list("local", None, 1)
        await anyio.to_thread.run_sync(object_server.stop)
        with pytest.raises(StorageFailed, match="cannot be reached") as refusal:
            await start_job(studio, segment_arguments(photo))
    assert refusal.value.hint
    assert provider.posts == 0


async def test_a_result_names_its_files_by_links_while_the_store_is_away(
    opened: StudioOpener, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, vault: ObjectVault,
) -> None:  # fmt: skip
    async with opened(settings, provider, vault=vault) as studio:
        result = await perform(studio, segment_arguments(photo))
    later = open_object_vault(object_server, settings.home / "objects", vault.client.place.bucket)
    async with opened(settings, provider, vault=later) as studio:
        await anyio.to_thread.run_sync(object_server.stop)
        shown = await studio.perform("get_job", GetJob(job_id=result.job_id), "local", SECONDS)
    assert isinstance(shown, JobResult)
    assert shown.status == "succeeded"
    assert [file.uri for file in files_of(shown)] == [file.uri for file in files_of(result)]
    assert any("cannot be reached" in warning for warning in shown.warnings)
    assert not any("no longer" in warning for warning in shown.warnings)


async def test_what_no_job_needs_any_more_goes_from_the_store(
    opened: StudioOpener, provider: ScriptedProvider, photo: Path, settings: Settings,
    object_server: ObjectServer, bucket: str, vault: ObjectVault,
) -> None:  # fmt: skip
    late = [0.0]
    async with opened(settings, provider, vault=vault, clock=lambda: time.time() + late[0]) as studio:
        result = await perform(studio, segment_arguments(photo))
        await studio.deliver_result(await studio.job(result.job_id, "local"))
        late[0] = 40 * 86_400.0  # it is kept for 30 days
        kept = vault.put_bytes(b"kept", "image/png")
        object_server.set_written_at(bucket, kept.sha256, time.time() + late[0])
        swept = await studio.sweep()
    assert swept.jobs == 1
    assert swept.files >= 3
    assert {key.partition("/")[2] for key in object_server.keys(bucket)} == {
        "id", f"{kept.sha256[:2]}/{kept.sha256}/{kept.sha256[:16]}.png"
    }  # fmt: skip


def home_on(environment: dict[str, str], folder: Path, store: str, database: str | None = None) -> Settings:
    more = {"ROTOSCOPE_DATABASE_URL": database} if database else {}
    return read_settings({**environment, **KEYS, **more, "ROTOSCOPE_HOME": str(folder), "ROTOSCOPE_STORE_URL": store})


async def open_once(opened: StudioOpener, settings: Settings, app: Any) -> StorageFailed | None:
    async with opened(settings, app) as studio:
        try:
            await studio.list("local", None, 1)
        except StorageFailed as error:
            return error
    return None


async def test_a_ledger_and_a_store_belong_together(
    opened: StudioOpener, provider: ScriptedProvider, photo: Path, environment: dict[str, str],
    object_server: ObjectServer, bucket: str, tmp_path: Path,
) -> None:  # fmt: skip
    environment = {**environment, "AWS_ENDPOINT_URL": object_server.endpoint}
    database = f"sqlite:///{tmp_path}/shared.sqlite3"
    one = home_on(environment, tmp_path / "one", f"s3://{bucket}/results", database)
    async with opened(one, provider) as studio:
        await perform(studio, segment_arguments(photo))
    replica = home_on(environment, tmp_path / "replica", f"s3://{bucket}/results", database)
    assert await open_once(opened, replica, provider) is None
    elsewhere = home_on(environment, tmp_path / "elsewhere", f"s3://{bucket}/others", database)
    refused = await open_once(opened, elsewhere, provider)
    assert refused is not None
    assert "belongs to another vault" in refused.message
    assert "ROTOSCOPE_STORE_URL" in refused.hint
    stranger = home_on(environment, tmp_path / "stranger", f"s3://{bucket}/results")
    refused = await open_once(opened, stranger, provider)
    assert refused is not None
    assert "belongs to another ledger" in refused.message
    assert "ROTOSCOPE_STORE_URL" in refused.hint


async def test_a_first_start_that_was_cut_off_is_taken_up(
    opened: StudioOpener, provider: ScriptedProvider, environment: dict[str, str],
    object_server: ObjectServer, bucket: str, tmp_path: Path,
) -> None:  # fmt: skip
    open_object_vault(object_server, tmp_path / "cut off", bucket).write_id("an id that no ledger has yet")
    environment = {**environment, "AWS_ENDPOINT_URL": object_server.endpoint}
    assert await open_once(opened, home_on(environment, tmp_path / "one", f"s3://{bucket}/results"), provider) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [({"ROTOSCOPE_STORE_URL": "s3://no-such-bucket-here"}, "ROTOSCOPE_STORE_URL"), ({"AWS_ACCESS_KEY_ID": ""}, "AWS_")],
    ids=["no bucket", "half a key"],
)
async def test_a_store_that_cannot_be_used_is_said_at_the_first_use(
    opened: StudioOpener, provider: ScriptedProvider, on_store: Settings, change: dict[str, str], named: str
) -> None:
    settings = read_settings({**on_store.variables, **change})
    try:
        refused: Any = await open_once(opened, settings, provider)
    except BaseExceptionGroup as group:
        (refused,) = group.exceptions
    assert named in f"{refused.message} {refused.hint}"
