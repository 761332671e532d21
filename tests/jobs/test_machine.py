"""A job from its opening to its end, against a provider that follows a script: what it pays, keeps and says."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image, ImageDraw

from rotoscope.compose import open_roots, open_studio
from rotoscope.contracts.arguments import Arguments, DescribeWithMasks, SegmentImage
from rotoscope.contracts.results import DescribeResult, JobResult, SegmentResult
from rotoscope.jobs.job import Job
from rotoscope.settings import Settings, read_settings
from rotoscope.studio import Studio

pytestmark = pytest.mark.anyio
def words(photo: Path, **more: Any) -> SegmentImage:
    return SegmentImage(image=str(photo), instruction="the helmet", **more)


async def test_a_job_uploads_pays_once_watches_and_collects(studio: Studio, provider: Replicate, photo: Path) -> None:
    provider.states = [{"status": "processing"}, *provider.states]
    result = await ended(studio, words(photo))
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded"
    assert result.masks[0].label == "the helmet"
    assert result.masks[0].box is not None
    assert result.masks[0].box.model_dump() == {"left": 10, "top": 20, "right": 110, "bottom": 70}
    assert result.masks[0].area == pytest.approx(100 * 50 / 512**2, abs=1e-5)
    assert result.masks[0].score is None
    assert result.masks[0].media.source_url == OUT
    assert result.masks[0].media.source_expires_at is not None
    asked = [
        "POST /v1/files",
        "POST /v1/predictions",
        "GET /v1/predictions/p1",
        "GET /v1/predictions/p1",
        "GET /out.png",
    ]
    assert provider.asked == asked


async def test_a_picture_leaves_this_machine_only_as_new_pixels(
    settings: Settings, provider: Replicate, home: Path, photo: Path
) -> None:
    """Text appended to a picture, and what its metadata says, stay here."""
    seen: list[bytes] = []

    async def watched(scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def kept() -> dict[str, Any]:
            message: dict[str, Any] = await receive()
            seen.append(message.get("body", b""))
            return message

        await provider(scope, kept, send)

    exif = Image.Exif()
    exif[0x010E] = "PRIVATE-PLACE"
    tagged = io.BytesIO()
    Image.open(photo).save(tagged, "JPEG", exif=exif)
    (home / "tagged.jpg").write_bytes(tagged.getvalue() + b"PRIVATE-KEY")
    async with opened(settings, home, watched) as studio:
        assert (await ended(studio, words(home / "tagged.jpg"))).status == "succeeded"
    sent = b"".join(seen)
    assert b"PRIVATE" not in sent
    assert len(sent) > 10_000


@pytest.mark.parametrize(
    ("created", "code", "status"),
    [
        ((401, {"detail": "Unauthenticated"}), "auth", "failed"),
        ((402, {"title": "Billing required", "detail": "You need to set up billing"}), "provider_credit", "failed"),
        ((422, {"detail": "Invalid version or not permitted"}), "invalid_input", "failed"),
        ((429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}), "rate_limited", "failed"),
        ((500, b"oops"), "submit_unknown", "needs_review"),
        ((201, b"<html>"), "submit_unknown", "needs_review"),
    ],
    ids=["401", "402", "422", "429", "500", "unreadable"],
)
async def test_a_paying_request_is_sent_once_whatever_is_answered(
    studio: Studio, provider: Replicate, photo: Path, created: Answer, code: str, status: str
) -> None:
    provider.created = created
    result = await ended(studio, words(photo))
    assert result.error is not None
    assert (result.status, result.error.code) == (status, code)
    assert provider.posts == 1
    assert result.next_step


async def test_the_intent_is_in_the_ledger_before_the_paying_request(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.hold = anyio.Event()
    job = await studio.start("segment_image", words(photo), "local")
    assert isinstance(job, Job)
    with anyio.fail_after(10):
        while not provider.posts:
            await anyio.lowlevel.checkpoint()
    intents = await studio.rooms.ledger._transact(
        lambda c: c.exec_driver_sql("SELECT job_id, prediction_id FROM submissions").fetchall()
    )
    assert [tuple(row) for row in intents] == [(job.id, None)]
    provider.hold.set()
    with anyio.fail_after(10):
        assert (await studio.wait(job, 10)).state == "succeeded"


async def test_a_request_that_was_refused_leaves_no_intent(studio: Studio, provider: Replicate, photo: Path) -> None:
    provider.created = (422, {"detail": "no"})
    await ended(studio, words(photo))
    count = await studio.rooms.ledger._transact(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM submissions").scalar_one()
    )
    assert count == 0


async def test_a_model_that_fails_is_a_failed_job_with_its_words_marked_as_the_providers(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.states = [{"status": "failed", "error": "CUDA out of memory"}]
    result = await ended(studio, words(photo))
    assert result.error is not None
    assert result.error.code == "prediction_failed"
    assert "provider's words: 'CUDA out of memory'" in result.error.message


async def test_a_success_without_a_picture_is_an_honest_failure(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.states = [{"status": "succeeded", "output": {"img": None, "response": "I see no helmet."}}]
    result = await ended(studio, words(photo))
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "provider_protocol"
    assert "I see no helmet." in result.error.message


async def test_a_mask_that_is_painted_on_the_photo_is_found_by_what_differs(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    picture = Image.open(photo).convert("RGB")
    red = Image.new("RGB", picture.size, (255, 0, 0))
    shape = Image.open(io.BytesIO(mask_png())).point(lambda value: value // 2)
    provider.files["/out.png"] = encoded(Image.composite(red, picture, shape), "PNG")
    result = await ended(studio, words(photo))
    assert isinstance(result, SegmentResult)
    assert result.masks[0].area == pytest.approx(100 * 50 / 512**2, rel=0.1)
    assert any("painted" in warning for warning in result.warnings)


async def test_a_mask_of_nearly_the_photos_size_is_resized_and_that_is_said(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.files["/out.png"] = mask_png((511, 512))
    result = await ended(studio, words(photo))
    assert isinstance(result, SegmentResult)
    assert (result.masks[0].media.width, result.masks[0].media.height) == (512, 512)
    assert any("resized" in warning for warning in result.warnings)


async def test_an_empty_mask_is_said_to_be_empty(studio: Studio, provider: Replicate, photo: Path) -> None:
    provider.files["/out.png"] = encoded(Image.new("L", (512, 512), 0), "PNG")
    result = await ended(studio, words(photo))
    assert isinstance(result, SegmentResult)
    assert result.masks[0].box is None
    assert any("found nothing" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("content", "code"), [(b"<html>expired</html>", "not_media"), (None, "output_expired")], ids=["html", "404"]
)
async def test_a_result_that_cannot_be_fetched_is_told(
    studio: Studio, provider: Replicate, photo: Path, content: bytes | None, code: str
) -> None:
    provider.files = {} if content is None else {"/out.png": content}
    result = await ended(studio, words(photo))
    assert result.error is not None
    assert result.error.code == code


async def test_a_running_job_is_cancelled_at_the_provider_too(studio: Studio, provider: Replicate, photo: Path) -> None:
    provider.states = [{"status": "processing"}]
    job = await studio.start("segment_image", words(photo), "local")
    assert isinstance(job, Job)
    with anyio.fail_after(10):
        await provider.on_ask.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 10)
    assert job.state == "cancelled"
    assert "POST /v1/predictions/p1/cancel" in provider.asked
    assert "charged" in job.message


async def test_a_cancel_that_comes_too_late_gives_the_result_that_was_paid_for(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    provider.cancelled = {"status": "succeeded", "output": {"img": OUT, "response": "Sure, [SEG]."}}
    job = await studio.start("segment_image", words(photo), "local")
    assert isinstance(job, Job)
    with anyio.fail_after(10):
        await provider.on_ask.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 10)
    assert job.state == "succeeded"


async def test_a_cancel_during_the_paying_request_waits_for_its_answer_and_then_cancels(
    studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.hold = anyio.Event()
    provider.states = [{"status": "processing"}]
    job = await studio.start("segment_image", words(photo), "local")
    assert isinstance(job, Job)
    with anyio.fail_after(10):
        while not provider.posts:
            await anyio.lowlevel.checkpoint()
        await studio.cancel(job.id, "local")
        provider.hold.set()
        job = await studio.wait(job, 10)
    assert job.state == "cancelled"
    assert provider.asked.count("POST /v1/predictions/p1/cancel") == 1


async def test_a_job_of_another_process_is_cancelled_through_the_ledger(
    settings: Settings, home: Path, studio: Studio, provider: Replicate, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    job = await studio.start("segment_image", words(photo), "local")
    assert isinstance(job, Job)
    with anyio.fail_after(10):
        await provider.on_ask.wait()
        async with opened(settings, home, provider) as other:
            await other.cancel(job.id, "local")
            assert (await other.wait(job, 10)).state == "cancelled"


async def test_a_run_beyond_the_deadline_is_stopped_at_the_provider(
    settings: Settings, home: Path, provider: Replicate, photo: Path
) -> None:
    shipped = Path(__file__).parents[2] / "manifests" / "models" / "sa2va-4b-image.toml"
    own = settings.home / "models"
    own.mkdir(parents=True)
    text = shipped.read_text(encoding="utf-8").replace("deadline_seconds = 600", "deadline_seconds = 1")
    (own / "short.toml").write_text(text, encoding="utf-8")
    provider.states = [{"status": "processing"}]
    async with opened(settings, home, provider) as studio:
        result = await ended(studio, words(photo))
    assert result.error is not None
    assert result.error.code == "timeout"
    assert "POST /v1/predictions/p1/cancel" in provider.asked


async def test_phrases_and_masks_that_do_not_match_are_an_honest_error_that_keeps_what_was_paid_for(
    settings: Settings, home: Path, photo: Path
) -> None:
    async def fal(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path, host = scope["path"], "https://sandbox.invalid"
        said = "<p> A helmet </p> [SEG] and <p> a flag </p> [SEG]<|im_end|>"
        body: Any = {"upload_url": f"{host}/put", "file_url": f"{host}/in.png"}
        if path == "/out.png":
            body = mask_png()
        elif path.endswith("/status"):
            body = {"status": "COMPLETED"}
        elif "/requests/" in path:
            body = {"output": said, "masks": [{"url": OUT}]}
        elif path == "/fal-ai/sa2va/8b/image":
            body = {"request_id": "764cabcf-b745-4b3e-ae38-1200304cf45b", "status": "IN_QUEUE"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(
            {"type": "http.response.body", "body": body if isinstance(body, bytes) else json.dumps(body).encode()}
        )

    async with opened(settings, home, fal) as studio:
        result = await ended(studio, DescribeWithMasks(image=str(photo)))
    assert isinstance(result, DescribeResult)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "provider_protocol"
    assert "2" in result.error.message
    assert "1" in result.error.message
    assert len(result.masks) == 1
    assert result.text == "A helmet and a flag"


async def test_an_https_picture_is_passed_on_unfetched_when_the_provider_takes_urls(home: Path, tmp_path: Path) -> None:
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "k"}
    async with opened(read_settings(environ), home, None) as studio:
        arguments = SegmentImage(image="https://pictures.example/a.jpg", instruction="a", dry_run=True)
        result = await ended(studio, arguments)
    assert result.planned_input == {"image": "https://pictures.example/a.jpg", "instruction": "a"}


async def test_no_key_is_written_anywhere(
    home: Path, tmp_path: Path, photo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "r8_canary_0123456789"
    environ = {
        "ROTOSCOPE_HOME": str(tmp_path / "r"),
        "REPLICATE_API_TOKEN": key,
        "REPLICATE_BASE_URL": "http://127.0.0.1:9",
    }
    async with opened(read_settings(environ), home, None) as studio:
        job = await studio.start("segment_image", words(photo), "local")
        assert isinstance(job, Job)
        with anyio.fail_after(30):
            await studio.cancel(job.id, "local")
            job = await studio.wait(job, 30)
        result = await studio.result(job)
    assert key not in result.model_dump_json()
    assert all(key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    captured = capfd.readouterr()
    assert key not in captured.out + captured.err
