"""Answers: a result or an error as MCP content. Text and structured content each stand alone."""

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel

from rotoscope.contracts.results import (
    AnyResult,
    DescribeResult,
    JobList,
    JobResult,
    MediaFile,
    SegmentResult,
    VideoResult,
)
from rotoscope.errors import RotoscopeError

__all__ = ["error_answer", "list_answer", "result_answer"]

_TEXT_LIMIT = 8000  # the smallest head that a measured client keeps
_FAILURES = frozenset({"failed", "needs_review"})


def result_answer(result: JobResult) -> CallToolResult:
    """A job, finished or not. A job that failed is a tool error that still carries everything that is known."""
    return _answer(_result_text(result), result, is_error=result.status in _FAILURES)


def list_answer(jobs: JobList) -> CallToolResult:
    """A list of jobs."""
    lines = [f"{j.job_id} {j.status} {j.progress:.0%} {j.tool} {j.model} {j.created_at}" for j in jobs.jobs]
    return _answer("\n".join(lines) or "There are no jobs.", jobs, is_error=False)


def error_answer(error: RotoscopeError) -> CallToolResult:
    """A refusal: the code, one sentence, and the next step."""
    text = f"{error.code}: {error.message} {error.hint}".strip()
    return CallToolResult(content=[TextContent(type="text", text=_cut(text))], is_error=True)


def _answer(text: str, record: BaseModel, *, is_error: bool) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=_cut(text))],
        structured_content=record.model_dump(mode="json"),
        is_error=is_error,
    )


def _result_text(result: JobResult) -> str:
    """Everything that matters, one fact a line, the most important first."""
    where = f"{result.model} at {result.provider}{' (sandbox)' if result.sandbox else ''}"
    lines = [f"{result.tool} {result.status}: {result.message}", f"job {result.job_id or '-'}, {where}"]
    if result.error is not None:
        lines.insert(0, f"{result.error.code}: {result.error.message}")
    if not result.dry_run and result.status in ("queued", "running"):
        lines.append(f"progress {result.progress:.0%}, {result.elapsed_seconds:.0f} s so far")
    lines += _media_lines(result)
    if result.planned_input is not None:
        lines.append(f"input: {result.planned_input}")
    lines.append(f"cost: estimate {_usd(result.cost.estimate_usd)}, charged {_usd(result.cost.charged_usd)}")
    lines += [f"note: {warning}" for warning in result.warnings]
    return "\n".join([*lines, f"next: {result.next_step}"])


def _media_lines(result: JobResult) -> list[str]:
    return [*_mask_lines(result), *_video_lines(result), *(f"file: {_place(media)}" for media in result.files)]


def _video_lines(result: JobResult) -> list[str]:
    if not isinstance(result, VideoResult | AnyResult) or result.video is None:
        return []
    video = result.video
    sound = "with sound" if video.has_audio else "silent"
    what = (
        f"{video.width}x{video.height}, {video.duration_seconds:.2f} s, {video.frame_rate:g} frames a second, {sound}"
    )
    lines = [f"video: {what}, {_place(video)}"]
    pictures = {"poster": result.poster, "filmstrip": result.filmstrip}
    return lines + [f"{name}: {_place(media)}" for name, media in pictures.items() if media]


def _mask_lines(result: JobResult) -> list[str]:
    if not isinstance(result, SegmentResult | DescribeResult | AnyResult):
        return []
    lines = [f"text: {result.text}"] if result.text else []
    for n, mask in enumerate(result.masks):
        box = mask.box
        corners = f"{box.left},{box.top},{box.right},{box.bottom}" if box else "empty"
        score = f", score {mask.score:.2f}" if mask.score is not None else ""
        lines.append(f"mask {n} {mask.label!r}: box {corners}, area {mask.area:.1%}{score}, {_place(mask.media)}")
    lines += [f"overlay: {_place(result.overlay)}"] if result.overlay else []
    lines += [f"coco: {_place(result.coco)}"] if result.coco else []
    return lines


def _place(media: MediaFile) -> str:
    return f"{media.path} {media.uri} {media.url}"


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.4f} USD"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 60]}\n… (cut; job:// has the rest)"
