"""Results made short enough for every client, without losing what leads to the rest. Pure.

The shortest head that a measured client keeps of a result is 8,000 characters. A job's own state, its id, its next
step and the places of its files stay; masks, long prompts and a model's text are cut, and `job://` and the COCO file
hold them whole. Only where that is not enough the files go too, and last of all the end of the next step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from rotoscope.contracts.results import (
    AnyResult,
    JobList,
    JobResult,
    MediaFile,
    PlannedRequest,
    ProviderRun,
)

__all__ = ["MAX_RESULT_CHARS", "truncate_job_list", "truncate_result"]

MAX_RESULT_CHARS = 7900
"""Characters of the text, and of the structured content as JSON, of any result."""

_MIN_MASKS = 4  # fewer are listed only when all else has been cut
_MAX_MASKS = 40  # more never fit

Result = TypeVar("Result", bound=JobResult)
ResultLength = Callable[[AnyResult], int]


@dataclass(frozen=True, slots=True)
class _CutLevel:
    """How much is kept: characters of a model's text, characters of any other text, items of a list."""

    text_chars: int
    phrase_chars: int
    max_items: int


_CUT_LEVELS = (_CutLevel(4000, 2000, 40), _CutLevel(1500, 600, 16), _CutLevel(600, 200, 8), _CutLevel(200, 60, 3))


def truncate_result(result: Result, length: Callable[[JobResult], int]) -> Result:
    """The result, cut as little as makes it fit.

    Args:
        result: complete.
        length: how many characters a result takes; the longer of its text and its JSON.
    """
    if length(result) <= MAX_RESULT_CHARS:
        return result
    record_type = type(result)
    fitting = _truncate(result.to_any_result(), lambda shown: length(record_type.from_any_result(shown)))
    return record_type.from_any_result(fitting)


def _truncate(result: AnyResult, length: ResultLength) -> AnyResult:
    shown, shorter = None, result
    for cut in _CUT_LEVELS:
        shorter = _shorten_result(result, cut)
        most = len(shorter.masks) or len(shorter.frames)
        shown = _largest_fit(most, _mask_count_test(shorter, length))
        if shown is not None and shown >= min(most, _MIN_MASKS):
            return _with_masks(shorter, shown)
    return _with_short_step(_without_files(shorter), length) if shown is None else _with_masks(shorter, shown)


def truncate_job_list(jobs: JobList, length: Callable[[JobList], int]) -> JobList:
    """The newest jobs, as many as fit."""
    total = len(jobs.jobs)

    def newest_jobs(n: int) -> JobList:
        kept = [
            job.model_copy(update={"message": _truncate_text(job.message, _CUT_LEVELS[-2].phrase_chars)})
            for job in jobs.jobs[:n]
        ]
        return JobList(jobs=kept, left_out=total - n)

    return (
        jobs
        if length(jobs) <= MAX_RESULT_CHARS
        else newest_jobs(_largest_fit(total, lambda n: length(newest_jobs(n)) <= MAX_RESULT_CHARS) or 0)
    )


def _mask_count_test(result: AnyResult, length: ResultLength) -> Callable[[int], bool]:
    return lambda shown: length(_with_masks(result, shown)) <= MAX_RESULT_CHARS


def _largest_fit(most: int, can_fit: Callable[[int], bool]) -> int | None:
    """The largest number up to `most` that fits; None when not even 0 does."""
    if not can_fit(0):
        return None
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if can_fit(middle) else (low, middle - 1)
    return low


def _shorten_result(result: AnyResult, cut: _CutLevel) -> AnyResult:
    changed: dict[str, object] = {
        "message": _truncate_text(result.message, cut.phrase_chars),
        "request": _shorten_json(result.request, cut),
        "planned_input": _shorten_json(result.planned_input, cut),
        "provider_run": _shorten_run(result.provider_run, cut),
        "planned_request": _shorten_planned_request(result.planned_request, cut),
        "metrics": dict(list(result.metrics.items())[: cut.max_items]),
        "warnings": [_truncate_text(one, cut.phrase_chars) for one in result.warnings[: cut.max_items]],
        "files": [_shorten_file(one, cut) for one in result.files[: cut.max_items]],
    }
    if result.error is not None:
        shorter = {name: _truncate_text(getattr(result.error, name), cut.phrase_chars) for name in ("message", "hint")}
        changed["error"] = result.error.model_copy(update=shorter)
    # Without the numbered ones, a file's name is that of its field.
    changed |= {name: _shorten_file(file, cut) for name, file in result.named_files(most=0).items()}
    changed["frames"] = [
        one.model_copy(update={"mask": one.mask and _shorten_file(one.mask, cut)}) for one in result.frames
    ]
    return result.model_copy(update={**changed, **_shorten_masks(result, cut)})


def _shorten_masks(result: AnyResult, cut: _CutLevel) -> dict[str, object]:
    masks = [
        mask.model_copy(
            update={"label": _truncate_text(mask.label, cut.phrase_chars), "media": _shorten_file(mask.media, cut)}
        )
        for mask in result.masks[:_MAX_MASKS]
    ]
    return {"text": None if result.text is None else _truncate_text(result.text, cut.text_chars), "masks": masks}


def _with_masks(result: AnyResult, shown: int) -> AnyResult:
    """The result with its first masks, and only the phrases that belong to them and to what is left of the text; of a
    clip with so many of its frames.
    """
    end = len(result.text or "")
    kept = [one for one in result.segments if one.mask < shown and one.end <= end and len(one.phrase) <= end]
    changed: dict[str, object] = {"masks": result.masks[:shown], "segments": kept[: 2 * shown]}
    if shown < result.masks_total:
        note = f"Only {shown} of {result.masks_total} masks are listed: coco and job://{result.job_id} hold all."
        changed["warnings"] = [note, *result.warnings]
    if result.frames:
        changed |= _with_frames(result, shown)
    return result.model_copy(update=changed)


def _with_frames(result: AnyResult, shown: int) -> dict[str, object]:
    """So many frames of a clip, evenly spread; a picture has the first and that of the prompt alone."""
    total = len(result.frames)
    if shown >= total:
        return {}
    note = (
        f"Only {shown} of {total} frames are listed: coco and job://{result.job_id} hold all; "
        f"job://{result.job_id}/frame/N is a picture."
    )
    places = {place * (total - 1) // max(shown - 1, 1) for place in range(shown)}
    asked = (0, result.request.get("frame", 0))
    frames = [
        one if one.frame in asked else one.model_copy(update={"mask": None})
        for place, one in enumerate(result.frames)
        if place in places
    ]
    return {"frames": frames, "warnings": [note, *result.warnings]}


def _without_files(result: AnyResult) -> AnyResult:
    """The last resort: a state, an id and a next step, and the link that has everything."""
    note = f"This result is too long to be shown: read job://{result.job_id}."
    bare: dict[str, object] = {
        "request": {},
        "planned_input": None,
        "planned_request": None,
        "metrics": {},
        "warnings": [note],
        "files": [],
        "masks": [],
        "segments": [],
        "frames": [],
        **dict.fromkeys(result.named_files(most=0)),
    }
    if result.provider_run is not None:
        bare["provider_run"] = result.provider_run.model_copy(update={"files": []})
    return result.model_copy(update=bare)


def _with_short_step(result: AnyResult, length: ResultLength) -> AnyResult:
    """As much of the next step as fits: it may hold addresses of a provider, of any length."""

    def with_step_length(most: int) -> AnyResult:
        return result.model_copy(update={"next_step": _truncate_text(result.next_step, max(most, 1))})

    return with_step_length(
        _largest_fit(len(result.next_step), lambda most: length(with_step_length(most)) <= MAX_RESULT_CHARS) or 0
    )


def _shorten_file(file: MediaFile, cut: _CutLevel) -> MediaFile:
    """Half an address leads nowhere: a long one is left out, the provider's or one that an object store has signed."""
    if len(file.url) > cut.phrase_chars and file.url != file.source_url:
        file = file.model_copy(update={"url": file.uri})  # by which every tool takes it, and the resource gives it
    if file.source_url is None or len(file.source_url) <= cut.phrase_chars:
        return file
    # A vault that is not on this machine gives no path: then the artifact:// link is all that is left.
    own = PurePath(file.path).as_uri() if file.path else file.uri
    here = {"url": own} if file.url == file.source_url else {}
    return file.model_copy(update={"source_url": None, "source_expires_at": None, **here})


def _shorten_run(run: ProviderRun | None, cut: _CutLevel) -> ProviderRun | None:
    if run is None:
        return None
    return run.model_copy(
        update={"files": [one for one in run.files if len(one.url) <= cut.phrase_chars][: cut.max_items]}
    )


def _shorten_planned_request(request: PlannedRequest | None, cut: _CutLevel) -> PlannedRequest | None:
    return None if request is None else request.model_copy(update={"body": _shorten_json(request.body, cut)})


def _shorten_json(value: object, cut: _CutLevel) -> object:
    match value:
        case str():
            return _truncate_text(value, cut.phrase_chars)
        case list():
            return [_shorten_json(one, cut) for one in value[: cut.max_items]]
        case dict():
            return {
                _truncate_text(str(name), cut.phrase_chars): _shorten_json(one, cut)
                for name, one in list(value.items())[: 2 * cut.max_items]
            }
        case _:
            return value


def _truncate_text(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
