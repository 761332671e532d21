"""However much a model gives and a user says, an answer is short and leads to the rest."""

import json
from typing import Any

from calls import text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotoscope.contracts.results import (
    AnyResult,
    DescribeResult,
    JobList,
    JobResult,
    JobSummary,
    Mask,
    MaskBox,
    MediaFile,
    Problem,
    Segment,
    SegmentResult,
    VideoFile,
    VideoResult,
)
from rotoscope.server.present.text import list_answer, result_answer

LIMIT = 8000
FOLDER = "/home/somebody/.local/share/rotoscope/vault"
words = st.builds(lambda part, times: part * times, st.text(min_size=1, max_size=12), st.integers(0, 700))


def media(n: int, source: str | None = None, **facts: Any) -> dict[str, Any]:
    sha = f"{n:064x}"
    path = f"{FOLDER}/{sha[:2]}/{sha}.png"
    known = {"content_type": "image/png", "width": 4000, "height": 3000, "file_size": 12345, "sha256": sha}
    return {"url": f"file://{path}", "path": path, "uri": f"artifact://{sha}", "source_url": source, **known, **facts}


def signed(n: int) -> dict[str, Any]:
    """A file in an object store, at an address with the token of a role."""
    return {**media(n), "path": "", "url": f"https://store.example/{n}?{'t' * 1500}"}


def mask(n: int, label: str, source: str | None) -> Mask:
    box = MaskBox(left=n, top=n, right=n + 10, bottom=n + 10)
    return Mask(label=label, score=0.5, box=box, area=0.25, media=MediaFile(**media(n, source)))


@st.composite
def results(draw: st.DrawFn) -> JobResult:
    shapes: list[type[JobResult]] = [SegmentResult, DescribeResult, VideoResult, AnyResult]
    shape = draw(st.sampled_from(shapes))
    source = draw(st.one_of(st.none(), st.integers(0, 3000).map(lambda n: "https://host.example/" + "a" * n)))
    fields: dict[str, Any] = {
        "job_id": "0123456789abcdef0123456789abcdef",
        "status": draw(st.sampled_from(["queued", "running", "succeeded", "failed", "cancelled", "needs_review"])),
        "tool": "segment_image",
        "model": "a/model",
        "provider": "replicate",
        "sandbox": draw(st.booleans()),
        "progress": 0.5,
        "message": draw(words),
        "elapsed_seconds": 1.5,
        "request": draw(st.dictionaries(st.sampled_from(["prompt", "image", "video"]), words, max_size=3)),
        "warnings": draw(st.lists(words, max_size=30)),
        "next_step": "Show or open a file by its path, or pass its uri to another tool.",
        "error": draw(st.one_of(st.none(), st.builds(Problem, code=st.just("timeout"), message=words, hint=words))),
        "planned_input": draw(st.one_of(st.none(), st.dictionaries(st.text(max_size=20), st.lists(words, max_size=9)))),
        "files": [MediaFile(**media(n, source)) for n in range(draw(st.sampled_from([0, 1, 2, 30])))],
    }
    if shape is not VideoResult:
        label, number = draw(words), draw(st.sampled_from([0, 1, 5, 30, 300]))
        fields["masks"] = [mask(n, f"{n} {label}", source) for n in range(number)]
        fields |= {"overlay": MediaFile(**media(9000, source)), "coco": MediaFile(**media(9001)), "text": draw(words)}
    if shape in (DescribeResult, AnyResult):
        text = fields["text"]
        fields["segments"] = [Segment(phrase=text[:9], start=0, end=len(text[:9]), mask=n) for n in range(number)]
    if shape in (VideoResult, AnyResult):
        facts = {"duration_seconds": 5.0, "frame_rate": 24.0, "frames": 120, "has_audio": True, "codec": "h264"}
        fields["video"] = VideoFile.model_validate({**media(9002, source), **facts})
    return shape.model_validate(fields)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(results())
def test_any_answer_is_short_on_both_sides_and_keeps_its_state_id_and_next_step(result: JobResult) -> None:
    answer = result_answer(result)
    text, found = text_of(answer), answer.structured_content
    assert found is not None
    assert len(text) < LIMIT
    assert len(json.dumps(found, ensure_ascii=False)) < LIMIT
    assert found["job_id"] == result.job_id
    assert found["status"] == result.status
    assert found["next_step"] == result.next_step
    for fact in (result.job_id, result.status, f"next: {result.next_step}"):
        assert fact in text
    type(result).model_validate(found)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(results(), st.builds(lambda part: f"Save it from https://host.example/{part * 9000}", st.sampled_from('a"é\n')))
def test_a_next_step_that_is_longer_than_any_answer_is_cut_and_the_job_has_it_whole(
    result: JobResult, step: str
) -> None:
    problem = Problem(code="download_failed", message="It could not be fetched.", hint=step)
    answer = result_answer(result.model_copy(update={"next_step": step, "error": problem}))
    text, found = text_of(answer), answer.structured_content
    assert found is not None
    assert len(text) < LIMIT
    assert len(json.dumps(found, ensure_ascii=False)) < LIMIT
    assert found["next_step"].startswith(step[:1000])
    assert f"next: {step[:1000]}" in text
    assert f"job://{result.job_id}" in text
    type(result).model_validate(found)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(results())
def test_masks_that_are_not_listed_are_counted_and_led_to(result: JobResult) -> None:
    answer = result_answer(result)
    found = answer.structured_content
    if not isinstance(result, SegmentResult | DescribeResult | AnyResult) or found is None:
        return
    assert found["masks_total"] == len(result.masks)
    listed = len(found["masks"])
    assert [one["box"]["left"] for one in found["masks"]] == list(range(listed))
    if listed < len(result.masks):
        assert f"job://{result.job_id}" in text_of(answer)
        assert found["coco"] is None or found["coco"]["uri"] in text_of(answer)
    for segment in found.get("segments", []):
        assert segment["mask"] < listed
        assert found["text"][segment["start"] : segment["end"]] == segment["phrase"]


def test_an_answer_that_fits_is_given_whole() -> None:
    result = SegmentResult(
        job_id="j", status="succeeded", tool="segment_image", model="m", provider="p", sandbox=False, progress=1,
        message="Done.", elapsed_seconds=1, request={"image": "a.png"}, next_step="Open it.",
        masks=[mask(n, "cat", "https://host.example/a.png") for n in range(3)],
    )  # fmt: skip
    assert result_answer(result).structured_content == result.model_dump(mode="json")


def test_some_masks_of_hundreds_are_listed_with_all_their_places() -> None:
    result = SegmentResult(
        job_id="j", status="succeeded", tool="segment_image", model="m", provider="p", sandbox=False, progress=1,
        message="Done.", elapsed_seconds=1, request={"image": "a.png"}, next_step="Open it.",
        masks=[mask(n, "cat", None) for n in range(300)], coco=MediaFile(**media(9001)),
    )  # fmt: skip
    found = result_answer(result).structured_content
    assert found is not None
    assert 4 <= len(found["masks"]) < 300
    assert found["masks"][0] == result.model_dump(mode="json")["masks"][0]
    assert any(f"{len(found['masks'])} of 300" in warning for warning in found["warnings"])


def test_addresses_that_an_object_store_has_signed_give_way_to_links_before_masks_do() -> None:
    """With the token of a role each has more than a thousand characters."""
    result = SegmentResult(
        job_id="j", status="succeeded", tool="segment_image", model="m", provider="p", sandbox=False, progress=1,
        message="Done.", elapsed_seconds=1, request={"image": "a.png"}, next_step="Open it.",
        masks=[mask(n, "cat", None).model_copy(update={"media": MediaFile(**signed(n))}) for n in range(6)],
        coco=MediaFile(**media(9001)),
    )  # fmt: skip
    answer = result_answer(result)
    found = answer.structured_content
    assert found is not None
    assert [one["media"]["url"] for one in found["masks"]] == [f"artifact://{n:064x}" for n in range(6)]
    assert len(text_of(answer)) < LIMIT


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 100), words)
def test_a_list_of_jobs_is_short_and_says_what_it_leaves_out(number: int, message: str) -> None:
    jobs = [
        JobSummary(
            job_id=f"{n:032x}", status="running", tool="generate_video", model="a/model", sandbox=False, progress=0.5,
            message=message, created_at="2026-11-25T00:00:00Z",
        )
        for n in range(number)
    ]  # fmt: skip
    answer = list_answer(JobList(jobs=jobs))
    found = answer.structured_content
    assert found is not None
    assert len(text_of(answer)) < LIMIT
    assert len(json.dumps(found, ensure_ascii=False)) < LIMIT
    assert len(found["jobs"]) + found["left_out"] == number
    assert [job["job_id"] for job in found["jobs"]] == [job.job_id for job in jobs[: len(found["jobs"])]]
