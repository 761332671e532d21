"""A job from its opening to its end, against a provider that follows a script: what it pays, keeps and reports."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, segment_arguments, start_job
from ledger_file import ledger_file
from photos import mask_png
from PIL import Image
from scripted_provider import OUTPUT_URL, Answer, ScriptedProvider

from rotoscope.contracts.arguments import Arguments, DescribeWithMasks, SegmentImage
from rotoscope.contracts.results import DescribeResult, JobResult, SegmentResult
from rotoscope.errors import StorageFailed
from rotoscope.jobs.progress import estimate_progress
from rotoscope.jobs.stages.watch import _StatusWake
from rotoscope.media.vault import FolderVault
from rotoscope.providers.http.client import Wire
from rotoscope.settings import Settings, read_settings
from rotoscope.store.leases import Leases
from rotoscope.store.records import Job
from rotoscope.studio.studio import Studio
from rotoscope.studio.validation import admit_media

pytestmark = pytest.mark.anyio


def encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


async def ended(studio: Studio, arguments: Arguments) -> JobResult:
    tool = {SegmentImage: "segment_image", DescribeWithMasks: "describe_with_masks"}[type(arguments)]
    with anyio.fail_after(180):
        result = await studio.perform(tool, arguments, "local", 60)
    assert isinstance(result, JobResult)
    return result


async def test_a_job_uploads_pays_once_watches_and_collects(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}, *provider.states]
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded"
    assert result.masks[0].label == "the helmet"
    assert result.masks[0].box is not None
    assert result.masks[0].box.model_dump() == {"left": 10, "top": 20, "right": 110, "bottom": 70}
    assert result.masks[0].area == pytest.approx(100 * 50 / 512**2, abs=1e-5)
    assert result.masks[0].score is None
    asked = [
        "POST /v1/files",
        "POST /v1/predictions",
        "GET /v1/predictions/p1",
        "GET /v1/predictions/p1",
        "GET /out.png",
    ]
    assert provider.asked == asked


async def test_a_picture_leaves_this_machine_only_as_new_pixels(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, home: Path, photo: Path
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
    async with opened(settings, watched) as studio:
        assert (await ended(studio, segment_arguments(home / "tagged.jpg"))).status == "succeeded"
    sent = b"".join(seen)
    assert b"PRIVATE" not in sent
    assert len(sent) > 10_000


@pytest.mark.parametrize(
    ("created", "code", "status"),
    [
        ((401, {"detail": "Unauthenticated"}), "auth", "failed"),
        ((402, {"title": "Billing required", "detail": "You need to set up billing"}), "provider_credit", "failed"),
        ((422, {"detail": "Invalid version or not permitted"}), "invalid_input", "failed"),
        ((500, b"oops"), "submit_unknown", "needs_review"),
        ((201, b"<html>"), "submit_unknown", "needs_review"),
    ],
    ids=["401", "402", "422", "500", "unreadable"],
)
async def test_a_paying_request_is_sent_once_whatever_is_answered(
    studio: Studio, provider: ScriptedProvider, photo: Path, created: Answer, code: str, status: str
) -> None:
    provider.created = created
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert (result.status, result.error.code) == (status, code)
    assert provider.posts == 1
    assert result.next_step


async def test_a_request_that_was_certainly_not_accepted_is_sent_again_after_the_wait_that_was_asked_for(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.created = (429, {"detail": "Request was throttled. Your rate limit resets in ~30s."})
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert (result.status, result.error.code, result.cost.charged_usd) == ("failed", "rate_limited", 0.0)
    assert provider.posts == 5


async def test_the_intent_is_in_the_ledger_before_the_paying_request(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        while not provider.posts:
            await anyio.lowlevel.checkpoint()
    intents = await studio.context.ledger._database.transact(
        lambda c: c.exec_driver_sql("SELECT job_id, prediction_id FROM submissions").fetchall()
    )
    assert [tuple(row) for row in intents] == [(job.id, None)]
    provider.hold.set()
    with anyio.fail_after(180):
        assert (await studio.wait(job, 60)).state == "succeeded"


async def test_a_request_that_was_refused_leaves_no_intent(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.created = (422, {"detail": "no"})
    await ended(studio, segment_arguments(photo))
    count = await studio.context.ledger._database.transact(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM submissions").scalar_one()
    )
    assert count == 0


async def test_a_model_that_fails_is_a_failed_job_with_its_message_marked_as_the_providers(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "failed", "error": "CUDA out of memory"}]
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.error.code == "prediction_failed"
    assert "provider's words: 'CUDA out of memory'" in result.error.message


async def test_a_success_without_a_picture_fails_as_nothing_found_with_the_models_text(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    said = "I see no helmet. " + "There is a long story about it. " * 100 + "The end.<|im_end|>"
    provider.states = [{"status": "succeeded", "output": {"img": None, "response": said}}]
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert result.error is not None
    assert (result.status, result.error.code, result.masks) == ("failed", "nothing_found", [])
    assert result.text is not None
    assert result.text.startswith("I see no helmet.")
    assert result.text.endswith("The end.")


async def test_an_output_that_is_not_understood_fails_with_the_message_in_it(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "succeeded", "output": {"error": "the weights are gone"}}]
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.error.code == "provider_protocol"
    assert "the weights are gone" in result.error.message


async def test_a_mask_in_another_wrapping_is_fetched_with_a_warning(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "succeeded", "output": {"result": [[{"mask": OUTPUT_URL}]]}}]
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded"
    assert len(result.masks) == 1
    assert any("another form" in warning for warning in result.warnings)


async def test_a_mask_that_is_painted_on_the_photo_is_found_by_what_differs(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    picture = Image.open(photo).convert("RGB")
    red = Image.new("RGB", picture.size, (255, 0, 0))
    shape = Image.open(io.BytesIO(mask_png())).point(lambda value: value // 2)
    provider.files["/out.png"] = encoded(Image.composite(red, picture, shape), "PNG")
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert result.masks[0].area == pytest.approx(100 * 50 / 512**2, rel=0.1)
    assert any("painted" in warning for warning in result.warnings)


async def test_a_mask_of_nearly_the_photos_size_is_resized_with_a_warning(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.files["/out.png"] = mask_png((511, 512))
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert (result.masks[0].media.width, result.masks[0].media.height) == (512, 512)
    assert any("resized" in warning for warning in result.warnings)


async def test_an_empty_mask_is_warned_of(studio: Studio, provider: ScriptedProvider, photo: Path) -> None:
    provider.files["/out.png"] = encoded(Image.new("L", (512, 512), 0), "PNG")
    result = await ended(studio, segment_arguments(photo))
    assert isinstance(result, SegmentResult)
    assert result.masks[0].box is None
    assert any("found nothing" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("content", "code"), [(b"<html>expired</html>", "not_media"), (None, "output_expired")], ids=["html", "404"]
)
async def test_a_result_that_cannot_be_fetched_fails_with_its_address(
    studio: Studio, provider: ScriptedProvider, photo: Path, content: bytes | None, code: str
) -> None:
    provider.files = {} if content is None else {"/out.png": content}
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.error.code == code


@pytest.mark.parametrize(
    ("said", "reported", "code"),
    [
        ("https://sandbox.invalid/half\ud83d.png", "https://sandbox.invalid/half%EF%BF%BD.png", "output_expired"),
        (
            "https://elsewhere.example/\ud83d ü.png",
            "https://elsewhere.example/%EF%BF%BD%20%C3%BC.png",
            "output_blocked",
        ),
        ("https://[x/out.png", "https://[x/out.png", "download_failed"),
    ],
)
async def test_a_lost_result_names_an_address_that_every_client_can_show(
    studio: Studio, provider: ScriptedProvider, photo: Path, said: str, reported: str, code: str
) -> None:
    provider.states = [{"status": "succeeded", "output": {"img": said, "response": "Sure, [SEG]."}}]
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.error.code == code
    assert f"from {reported}" in result.next_step
    assert provider.posts == 1


async def test_an_address_that_is_longer_than_any_browser_takes_is_not_shown(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    address = f"https://elsewhere.example/{'a' * 9000}.png"
    provider.states = [{"status": "succeeded", "output": {"img": address, "response": "Sure, [SEG]."}}]
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert "probably charged" in result.error.hint
    assert len(result.error.hint) < 500


async def test_a_result_whose_address_is_not_ascii_is_fetched(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.files = {"/der ü.png": mask_png()}
    output = {"img": "https://sandbox.invalid/der ü.png", "response": "Sure, [SEG]."}
    provider.states = [{"status": "succeeded", "output": output}]
    result = await ended(studio, segment_arguments(photo))
    assert result.status == "succeeded"
    outputs = await studio.context.ledger.outputs(result.job_id, "local")
    assert {output.source_url for output in outputs if output.role == "raw"} == {
        "https://sandbox.invalid/der%20%C3%BC.png"
    }


async def test_a_running_job_is_cancelled_at_the_provider_too(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 60)
    assert job.state == "cancelled"
    assert "POST /v1/predictions/p1/cancel" in provider.asked
    assert "charged" in job.message


async def test_a_cancel_that_comes_too_late_gives_the_result_that_was_paid_for(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    provider.cancelled = [{"status": "succeeded", "output": {"img": OUTPUT_URL, "response": "Sure, [SEG]."}}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 60)
    assert job.state == "succeeded"


async def test_a_cancel_during_the_paying_request_waits_for_its_answer_and_then_cancels(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.hold = anyio.Event()
    provider.states = [{"status": "processing"}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        while not provider.posts:
            await anyio.lowlevel.checkpoint()
        await studio.cancel(job.id, "local")
        provider.hold.set()
        job = await studio.wait(job, 60)
    assert job.state == "cancelled"
    assert provider.asked.count("POST /v1/predictions/p1/cancel") == 1


async def test_a_job_of_another_process_is_cancelled_through_the_ledger(
    opened: StudioOpener, settings: Settings, home: Path, studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        async with opened(settings, provider) as other:
            await other.cancel(job.id, "local")
            assert (await other.wait(job, 10)).state == "cancelled"


async def test_a_run_beyond_the_deadline_is_stopped_at_the_provider(
    opened: StudioOpener, settings: Settings, home: Path, provider: ScriptedProvider, photo: Path
) -> None:
    shipped = Path(__file__).parents[2] / "manifests" / "models" / "sa2va-4b-image.toml"
    own = settings.home / "models"
    own.mkdir(parents=True)
    text = shipped.read_text(encoding="utf-8").replace("deadline_seconds = 300", "deadline_seconds = 1")
    (own / "short.toml").write_text(text, encoding="utf-8")
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider) as studio:
        result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.error.code == "timeout"
    assert "POST /v1/predictions/p1/cancel" in provider.asked


def describing(output: Any) -> Callable[..., Any]:
    """fal, whose runs of a describing model all give this output."""

    async def fal(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path, host = scope["path"], "https://sandbox.invalid"
        body: Any = {"upload_url": f"{host}/put", "file_url": f"{host}/in.png"}
        if path == "/out.png":
            body = mask_png()
        elif path.endswith("/status"):
            body = {"status": "COMPLETED"}
        elif "/requests/" in path:
            body = output
        elif path == "/fal-ai/sa2va/8b/image":
            body = {"request_id": "764cabcf-b745-4b3e-ae38-1200304cf45b", "status": "IN_QUEUE"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(
            {"type": "http.response.body", "body": body if isinstance(body, bytes) else json.dumps(body).encode()}
        )

    return fal


async def test_phrases_and_masks_that_do_not_match_are_an_error_that_keeps_what_was_paid_for(
    opened: StudioOpener, settings: Settings, home: Path, photo: Path
) -> None:
    said = "<p> A helmet </p> [SEG] and <p> a flag </p> [SEG]<|im_end|>"
    async with opened(settings, describing({"output": said, "masks": [{"url": OUTPUT_URL}]})) as studio:
        result = await ended(studio, DescribeWithMasks(image=str(photo)))
    assert isinstance(result, DescribeResult)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "provider_protocol"
    assert "2" in result.error.message
    assert "1" in result.error.message
    assert len(result.masks) == 1
    assert result.text == "A helmet and a flag"


@pytest.mark.parametrize(
    ("output", "warned"),
    [
        ({"output": "The picture shows a helmet.<|im_end|>", "masks": []}, "no masks"),
        ({"output": "The picture shows a helmet.<|im_end|>", "masks": None}, "no masks"),
        ({"output": "The picture shows a helmet.<|im_end|>"}, "no masks"),
        ({"output": "The picture shows <p> a helmet </p> [SEG].", "masks": []}, "no mask came"),
    ],
)
async def test_a_description_without_masks_is_a_result(
    opened: StudioOpener, settings: Settings, photo: Path, output: Any, warned: str
) -> None:
    async with opened(settings, describing(output)) as studio:
        result = await ended(studio, DescribeWithMasks(image=str(photo)))
    assert isinstance(result, DescribeResult)
    assert (result.status, result.error, result.masks, result.segments) == ("succeeded", None, [], [])
    assert result.text == "The picture shows a helmet."
    assert any(warned in warning for warning in result.warnings)


async def test_masks_in_a_dictionary_are_named_by_it(opened: StudioOpener, settings: Settings, photo: Path) -> None:
    output = {"output": "A helmet. [SEG]", "masks": {"helmet": {"url": OUTPUT_URL, "content_type": "image/png"}}}
    async with opened(settings, describing(output)) as studio:
        result = await ended(studio, DescribeWithMasks(image=str(photo)))
    assert isinstance(result, DescribeResult)
    assert [mask.label for mask in result.masks] == ["helmet"]


async def test_an_https_picture_is_passed_on_unfetched_when_the_provider_takes_urls(
    opened: StudioOpener, home: Path, tmp_path: Path
) -> None:
    environ = {"ROTOSCOPE_HOME": str(tmp_path / "r"), "REPLICATE_API_TOKEN": "k"}
    async with opened(read_settings(environ), None) as studio:
        arguments = SegmentImage(
            image="https://pictures.example/a.jpg", instruction="a", model="bytedance/sa2va-4b-image", dry_run=True
        )
        result = await ended(studio, arguments)
    assert result.planned_input == {"image": "https://pictures.example/a.jpg", "instruction": "a"}


async def test_no_key_is_written_anywhere(
    opened: StudioOpener, home: Path, tmp_path: Path, photo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "r8_canary_0123456789"
    environ = {
        "ROTOSCOPE_HOME": str(tmp_path / "r"),
        "REPLICATE_API_TOKEN": key,
        "REPLICATE_BASE_URL": "http://127.0.0.1:9",
    }
    async with opened(read_settings(environ), None) as studio:
        job = await start_job(studio, segment_arguments(photo))
        with anyio.fail_after(180):
            await studio.cancel(job.id, "local")
            job = await studio.wait(job, 60)
        result = await studio.result(job)
    assert key not in result.model_dump_json()
    assert all(key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    captured = capfd.readouterr()
    assert key not in captured.out + captured.err


SUCCESS = {"status": "succeeded", "output": {"img": OUTPUT_URL, "response": "Sure, [SEG]."}}


async def test_a_cancel_that_is_only_accepted_waits_for_the_end_of_the_run(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    """Many providers note the request; the model decides, and a run that succeeds after all was paid for."""
    provider.states = [{"status": "processing"}]
    provider.cancelled = [{"status": "processing"}, {"status": "processing"}, SUCCESS]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        await provider.on_ask.wait()
        await studio.cancel(job.id, "local")
        job = await studio.wait(job, 60)
    assert job.state == "succeeded"


@pytest.mark.parametrize("times", [3, 9])
async def test_a_ledger_that_fails_after_the_payment_does_not_lose_the_prediction(
    studio: Studio, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Nine tries last about a minute."""
    noting, failures = type(studio.context.ledger).write_prediction_id, [1] * times

    async def sometimes(self: Any, job_id: str, principal: str, prediction_id: str) -> bool:
        if failures:
            failures.pop()
            raise StorageFailed("The disk is full.")
        return bool(await noting(self, job_id, principal, prediction_id))

    monkeypatch.setattr(type(studio.context.ledger), "write_prediction_id", sometimes)
    assert (await ended(studio, segment_arguments(photo))).status == "succeeded"
    assert provider.posts == 1


async def test_a_ledger_that_stays_broken_after_the_payment_says_what_to_look_for(
    studio: Studio, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise StorageFailed("The disk is full.")

    monkeypatch.setattr(type(studio.context.ledger), "write_prediction_id", never)
    result = await ended(studio, segment_arguments(photo))
    assert result.status == "needs_review"
    assert result.error is not None
    assert (result.error.code, provider.posts) == ("submit_unknown", 1)
    assert "prediction p1" in result.error.hint


async def test_a_bug_after_the_intent_needs_a_review_and_is_no_failure(
    studio: Studio, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(studio.context.wire), "send", broken)
    monkeypatch.setattr("rotoscope.jobs.stages.prepare._upload_or_embed", lambda *_: ready())
    result = await ended(studio, segment_arguments(photo))
    assert result.status == "needs_review"


async def ready() -> str:
    return "https://sandbox.invalid/in.png"


async def test_one_jobs_broken_ledger_ends_neither_the_server_nor_other_jobs(
    studio: Studio, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claiming = Leases.claim
    broken: list[str] = []

    async def claim(self: Any, job_id: str) -> Job | None:
        if not broken:
            broken.append(job_id)
            raise StorageFailed("The ledger is locked.")
        return await claiming(self, job_id)

    monkeypatch.setattr(Leases, "claim", claim)
    first = await start_job(studio, segment_arguments(photo))
    assert (await ended(studio, segment_arguments(photo, overlay=False))).status == "succeeded"
    with anyio.fail_after(180):
        assert (await studio.wait(first, 60)).state == "succeeded"


async def test_a_host_that_is_down_for_a_while_does_not_lose_a_paid_result(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.down = 8
    assert (await ended(studio, segment_arguments(photo))).status == "succeeded"


async def test_a_result_that_cannot_be_kept_here_fails_with_its_address(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.files = {}
    result = await ended(studio, segment_arguments(photo))
    assert result.error is not None
    assert OUTPUT_URL in result.error.hint
    assert "again" not in result.error.hint


async def test_a_mask_that_cannot_be_decoded_is_kept_and_listed(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.files["/out.png"] = mask_png()[:200]
    result = await ended(studio, segment_arguments(photo))
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "corrupt"
    assert "charged" in result.error.hint
    assert [Path(file.path).read_bytes() for file in result.files] == [mask_png()[:200]]


async def test_a_photo_that_cannot_be_read_costs_only_the_overlay(
    home: Path, tmp_path: Path, provider: ScriptedProvider, opened: StudioOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was passed on by its URL; what was paid for is the mask."""

    async def page(self: Wire, url: str, into: Path, limit: int) -> None:
        into.write_bytes(b"<html>no picture</html>")

    monkeypatch.setattr(Wire, "fetch", page)
    async with opened(read_settings({"ROTOSCOPE_HOME": str(tmp_path / "r")}), provider) as studio:
        monkeypatch.setattr("rotoscope.studio.planning.admit_media", passing)
        result = await ended(
            studio,
            SegmentImage(image="https://pictures.example/a.jpg", instruction="a", model="bytedance/sa2va-4b-image"),
        )
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded", result.error
    assert result.overlay is None
    assert any("No overlay" in warning for warning in result.warnings)


async def passing(intake: Any, manifest: Any, asked: Any, principal: str, *, pass_urls: bool, **more: Any) -> Any:
    return await admit_media(intake, manifest, asked, principal, pass_urls=True, **more)


async def test_progress_goes_on_while_a_provider_says_nothing_new(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    provider.states = [{"status": "processing"}]
    job = await start_job(studio, segment_arguments(photo))
    with anyio.fail_after(180):
        await provider.on_ask.wait()
    job = await studio.job(job.id, "local")
    seen = [estimate_progress(job, job.updated_at + later) for later in (0.5, 1.0, 2.0, 4.0)]
    assert [one.progress for one in seen] == sorted({one.progress for one in seen})
    assert "s so far, usually" in seen[0].message


async def test_a_refusal_is_known_to_have_cost_nothing(
    settings: Settings, provider: ScriptedProvider, photo: Path, opened: StudioOpener
) -> None:
    provider.created = (401, {"detail": "no"})
    async with opened(settings, provider) as studio:
        result = await ended(studio, segment_arguments(photo))
    assert result.cost.charged_usd == 0.0
    with ledger_file(settings.home / "ledger.sqlite3") as ledger:
        (data,) = ledger.execute("SELECT data FROM jobs").fetchone()
    assert json.loads(data)["charged"] is False


async def test_the_folder_of_the_ledger_is_readable_by_its_owner_alone(
    settings: Settings, provider: ScriptedProvider, photo: Path, opened: StudioOpener
) -> None:
    async with opened(settings, provider) as studio:
        await ended(studio, segment_arguments(photo))
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert (settings.home / "ledger.sqlite3").stat().st_mode & 0o777 == 0o600


async def test_a_disk_that_is_full_for_a_while_does_not_lose_a_paid_result(
    studio: Studio, provider: ScriptedProvider, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, failures = FolderVault.put, list(range(12))

    def adopt(self: FolderVault, scratch: Path, sha256: str, content_type: str) -> Any:
        if provider.posts and failures:
            failures.pop()
            raise StorageFailed("The disk is full.")
        return keeping(self, scratch, sha256, content_type)

    monkeypatch.setattr(FolderVault, "put", adopt)
    assert (await ended(studio, segment_arguments(photo))).status == "succeeded"
    assert provider.posts == 1


async def test_a_stream_of_events_causes_a_poll_only_at_another_status() -> None:
    wake = _StatusWake(anyio.sleep)
    for event in ('{"status": "IN_QUEUE", "queue_position": 2}', '{"status": "IN_QUEUE", "queue_position": 1}', "junk"):
        wake.handle_event(event)
    with anyio.fail_after(180):
        await wake.sleep(60)
    wake.handle_event('{"status":"IN_QUEUE"}')
    with anyio.move_on_after(0.02) as still_asleep:
        await wake.sleep(60)
    assert still_asleep.cancelled_caught
    wake.handle_event('{"status": "COMPLETED"}')
    with anyio.fail_after(180):
        await wake.sleep(60)
