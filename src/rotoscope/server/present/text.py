"""Answers: a result or an error as MCP content. Text and structured content each stand alone, and each is short."""

import json
from typing import Any

from mcp_types import CallToolResult, ContentBlock, TextContent
from pydantic import BaseModel

from rotoscope.contracts.arguments import LONGEST_WAIT
from rotoscope.contracts.characters import replace_surrogates_in_text
from rotoscope.contracts.money import format_price, format_usd
from rotoscope.contracts.results import (
    AnyResult,
    EditChanges,
    FrameMask,
    JobList,
    JobResult,
    MaskShare,
    MediaFile,
    VideoFile,
)
from rotoscope.contracts.upload_results import UploadTicket
from rotoscope.errors import RotoscopeError
from rotoscope.server.present.truncate import MAX_RESULT_CHARS, truncate_job_list, truncate_result

__all__ = ["error_answer", "list_answer", "result_answer", "upload_answer", "with_poll_hint"]

_FAILURES = frozenset({"failed", "needs_review"})
_ERROR_LENGTH = 2000
_TEXT_FRAMES = 8
_SHORTEST_PAUSE, _LONGEST_PAUSE = 3.0, 120.0  # seconds
_BACKGROUND_NOTE = (
    "It goes on by itself, also when a call is given up or after a reconnect; only cancel_job stops it. If you cannot "
    "wait, tell the user the job id."
)


def result_answer(result: JobResult, *more: ContentBlock) -> CallToolResult:
    """A job, finished or not. A job that failed is a tool error that still carries everything that is known.

    Args:
        result: complete; what is too long for a client is cut here.
        more: links and pictures that this client takes.
    """
    text, record = _result_text(result), _record(result)
    if max(len(text), _json_length(record)) > MAX_RESULT_CHARS:
        shown = truncate_result(result, _result_length)
        text, record = _result_text(shown), _record(shown)
    return _tool_result(text, record, *more, is_error=result.status in _FAILURES)


def with_poll_hint(result: JobResult, seconds: float, wanted: float = 0.0) -> JobResult:
    """A job that still runs, with how and when to poll it as its next step: polling without pause costs people money.

    Args:
        result: any result.
        seconds: how long this client waits for a `get_job`.
        wanted: how long it was to wait, which may have been more.
    """
    if not result.job_id or result.status not in ("queued", "running"):
        return result
    most = min(seconds, LONGEST_WAIT)
    wait = f"wait_seconds {most:.0f}" if seconds >= 1 else "no wait_seconds"
    cut = " (more is cut to that: this client may give up)" if wanted > most else ""
    step = f"Call get_job with job_id {result.job_id} and {wait}{cut}{_poll_timing(result, most)}. {_BACKGROUND_NOTE}"
    return result.model_copy(update={"next_step": step})


def _poll_timing(result: JobResult, seconds: float) -> str:
    """When a look is worth a turn: when it can see the end, else after a time that grows with how long it takes."""
    left = (result.expected_seconds or 0.0) - result.elapsed_seconds
    if left > 0:
        pause, words = left - seconds, f"; it should take {left:.0f} s more"
    else:
        pause, words = min(result.elapsed_seconds / 2, _LONGEST_PAUSE) - seconds, ""
    return f", in about {pause:.0f} s{words}" if pause >= _SHORTEST_PAUSE else words


def list_answer(jobs: JobList) -> CallToolResult:
    """A list of jobs."""
    shown = truncate_job_list(jobs, lambda listed: max(len(_list_text(listed)), _json_length(_record(listed))))
    return _tool_result(_list_text(shown), _record(shown), is_error=False)


def upload_answer(upload: UploadTicket) -> CallToolResult:
    """An upload: where the file is to go, or the link of the artifact that it became."""
    size = f", {upload.width}x{upload.height}" if upload.width else ""
    lines = [f"upload {upload.status}, ticket {upload.ticket}"]
    if upload.error is not None:
        lines.insert(0, f"{upload.error.code}: {upload.error.message} {upload.error.hint}".rstrip())
    if upload.artifact is not None:
        lines.append(f"artifact: {upload.artifact} {upload.content_type}{size}")
    else:
        lines.append(f"upload_url: {upload.upload_url}")
        lines.append(f"page_url: {upload.page_url}")
        lines.append(f"at most {upload.max_bytes / 1e6:.0f} MB, until {upload.expires_at}")
    lines += [f"note: {warning}" for warning in upload.warnings]
    return _tool_result("\n".join([*lines, f"next: {upload.next_step}"]), _record(upload), is_error=False)


def error_answer(error: RotoscopeError) -> CallToolResult:
    """A refusal: the code, one sentence, and the next step."""
    hint = error.hint or "Correct the request and call again."
    message = error.message if len(error.message) <= _ERROR_LENGTH else f"{error.message[:_ERROR_LENGTH]}…"
    words = replace_surrogates_in_text(f"{error.code}: {message} {hint[:_ERROR_LENGTH]}")
    return CallToolResult(content=[TextContent(type="text", text=words)], is_error=True)


def _tool_result(text: str, record: dict[str, Any], *more: ContentBlock, is_error: bool) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text[:MAX_RESULT_CHARS]), *more],
        structured_content=record,
        is_error=is_error,
    )


def _result_length(result: JobResult) -> int:
    return max(len(_result_text(result)), _json_length(_record(result)))


def _record(shown: BaseModel) -> dict[str, Any]:
    return shown.model_dump(mode="json")


def _json_length(record: dict[str, Any]) -> int:
    return len(json.dumps(record, ensure_ascii=False))


def _result_text(result: JobResult) -> str:
    """Everything that matters, one fact a line, the most important first."""
    where = f"{result.model} at {result.provider}{' (sandbox)' if result.sandbox else ''}"
    seed = "" if result.seed is None else f", seed {result.seed}"
    lines = [f"{result.tool} {result.status}: {result.message}"]
    lines += [f"job {result.job_id or '-'}, {where}{seed}"] if result.provider else []
    if result.provider_run is not None and not result.sandbox:
        page = f", {result.provider_run.web_url}" if result.provider_run.web_url else ""
        lines.append(f"run {result.provider_run.id} at {result.provider}{page}")
        lines += [f"as it was given: {file.url}{_expiry_note(file.expires_at)}" for file in result.provider_run.files]
    if result.error is not None:
        lines.insert(0, f"{result.error.code}: {result.error.message}")
    if result.job_id and result.status in ("queued", "running"):
        lines.append(f"progress {result.progress:.0%}, {result.elapsed_seconds:.0f} s so far")
    lines += _media_lines(result.to_any_result())
    if result.planned_request is not None:
        lines.append(f"request: {result.planned_request.method} {result.planned_request.url}")
    if result.planned_input is not None:
        lines.append(f"input: {result.planned_input}")
    lines.append(f"cost: estimate {_estimate_words(result)}, charged {_dollars_or_unknown(result.cost.charged_usd)}")
    lines += [f"note: {warning}" for warning in result.warnings]
    return "\n".join([*lines, f"next: {result.next_step}"])


def _list_text(jobs: JobList) -> str:
    lines = [f"{j.job_id} {j.status} {j.progress:.0%} {j.tool} {j.model} {j.created_at} {j.message}" for j in jobs.jobs]
    if jobs.left_out:
        lines.append(f"{jobs.left_out} older ones did not fit; ask by status, or see rotoscope jobs list.")
    return "\n".join(lines) or "There are no jobs."


def _media_lines(result: AnyResult) -> list[str]:
    return [*_mask_lines(result), *_video_lines(result), *(f"file: {_media_location(media)}" for media in result.files)]


def _video_lines(result: AnyResult) -> list[str]:
    lines = [f"mask selects: {_mask_coverage_text(result.mask_selects)}"] if result.mask_selects else []
    lines += [f"proof: {_changes_text(result.changes)}"] if result.changes else []
    if result.mask is not None:
        lines.append(f"mask film, white is the object: {_film_facts(result.mask)}, {_media_location(result.mask)}")
        lines += [_frame_line(one) for one in [*result.frames[:-1][:: _frame_step(result)], *result.frames[-1:]]]
    if result.video is not None:
        lines.append(f"video: {_film_facts(result.video)}, {_media_location(result.video)}")
    pictures = {"poster": result.poster, "filmstrip": result.filmstrip}
    return lines + [f"{name}: {_media_location(media)}" for name, media in pictures.items() if media]


def _film_facts(film: VideoFile) -> str:
    sound = "with sound" if film.has_audio else "silent"
    return f"{film.width}x{film.height}, {film.duration_seconds:.2f} s, {film.frame_rate:g} frames a second, {sound}"


def _frame_step(result: AnyResult) -> int:
    """Every how manieth frame is in the text; the structured result has more."""
    return max(len(result.frames) // _TEXT_FRAMES, 1)


def _frame_line(one: FrameMask) -> str:
    """Where the object is in a frame; the picture's link is job://ID/frame/N."""
    box = one.box
    corners = f"{box.left},{box.top},{box.right},{box.bottom}" if box else "empty"
    return f"frame {one.frame}: box {corners}, area {one.area:.1%}"


def _mask_coverage_text(selects: MaskShare) -> str:
    least, most = f"{selects.least:.1%}", f"{selects.most:.1%}"
    if selects.frames is None:
        return f"{most} of the frame"
    return f"{least} to {most} of the frame in its first {selects.frames} frames"


def _changes_text(changes: EditChanges) -> str:
    """Such as "outside the mask 0.2% of the pixels changed (41.3 dB); inside 63.0%; 81 frames, sound carried over"."""
    near = "identical" if changes.psnr_outside_db is None else f"{changes.psnr_outside_db:.1f} dB"
    outside, inside = _share_text(changes.changed_outside), _share_text(changes.changed_inside)
    restored = ", original laid back" if changes.outside_restored else ""
    lost = f", {changes.frames_dropped} dropped" if changes.frames_dropped else ""
    added = f", {changes.frames_added} added" if changes.frames_added else ""
    frames = f"{changes.frames_compared} frame{'s' * (changes.frames_compared != 1)}{lost}{added}"
    sound = {"none": "no sound"}.get(changes.sound, f"sound {changes.sound.replace('_', ' ')}")
    counted = f"outside the mask {outside} of the pixels changed ({near}{restored})"
    if changes.changed_outside is None:
        counted = "nothing lies outside the mask"
    return f"{counted}; inside {inside}; {frames}, {sound}. {changes.note}".rstrip()


def _share_text(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _mask_lines(result: AnyResult) -> list[str]:
    lines = [f"text, in the model's words: {result.text}"] if result.text else []
    for n, mask in enumerate(result.masks):
        box = mask.box
        corners = f"{box.left},{box.top},{box.right},{box.bottom}" if box else "empty"
        score = f", score {mask.score:.2f}" if mask.score is not None else ""
        lines.append(
            f"mask {n} {mask.label!r}: box {corners}, area {mask.area:.1%}{score}, {_media_location(mask.media)}"
        )
    lines += [f"overlay: {_media_location(result.overlay)}"] if result.overlay else []
    lines += [f"coco: {_media_location(result.coco)}"] if result.coco else []
    return lines


def _media_location(media: MediaFile) -> str:
    """Where a file is: for this machine, for another tool, and for a browser while the provider keeps it."""
    size = f"{media.width}x{media.height} " if media.width else ""
    # An address of ours opens in a browser; the provider's own would only be a second one, for less time.
    return f"{size}{media.path} {media.uri}{_source_address(media)}" if media.path else f"{size}{media.url} {media.uri}"


def _source_address(media: MediaFile) -> str:
    if not media.url.startswith("https://"):
        return ""
    return f" {media.url}{_expiry_note(media.source_expires_at)}"


def _expiry_note(moment: str | None) -> str:
    return f" until {moment[11:16]}Z" if moment else ""


def _estimate_words(result: JobResult) -> str:
    cost = result.cost
    # How it was computed matters to who decides; after the run it stands in the structured result.
    basis = f" ({cost.basis})" if cost.basis and result.dry_run else ""
    if cost.estimate_usd is None:
        return f"unknown{basis}"
    return format_price(cost.estimate_usd, cost.at_most_usd, 4) + basis


def _dollars_or_unknown(amount: float | None) -> str:
    return "unknown" if amount is None else format_usd(amount, 4)
