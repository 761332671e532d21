"""Fitting: a result made short enough for every client, without what leads to the rest getting lost. Pure.

The shortest head that a measured client keeps of a result is 8,000 characters. A job's own state, its id, its next
step and the places of its files stay; masks, long prompts and what a model said are cut, and `job://` and the COCO file
hold them whole. Only where that is not enough the files go too, and last of all the end of the next step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from rotoscope.contracts.results import (
    AnyResult,
    DescribeResult,
    JobList,
    JobResult,
    MaskResult,
    MediaFile,
    PlannedRequest,
    ProviderRun,
    VideoResult,
)

__all__ = ["LONGEST", "fitted", "fitted_list"]

LONGEST = 7900
"""Characters of the text, and of the structured content as JSON, of any result."""

_ENOUGH_MASKS = 4  # fewer are listed only when all else has been cut
_MOST_MASKS = 40  # more never fit
_FILES = ("overlay", "coco", "video", "poster", "filmstrip")

Result = TypeVar("Result", bound=JobResult)


@dataclass(frozen=True, slots=True)
class _Cut:
    """How much is kept: characters of what a model said, characters of any other words, items of a list."""

    said: int
    words: int
    items: int


_CUTS = (_Cut(4000, 2000, 40), _Cut(1500, 600, 16), _Cut(600, 200, 8), _Cut(200, 60, 3))


def fitted(result: Result, length: Callable[[JobResult], int]) -> Result:
    """The result, cut as little as makes it fit.

    Args:
        result: complete.
        length: how many characters a result takes; the longer of its text and its JSON.
    """
    if length(result) <= LONGEST:
        return result
    shown, shorter = None, result
    for cut in _CUTS:
        shorter = _shortened(result, cut)
        most = len(shorter.masks) if isinstance(shorter, MaskResult) else 0
        shown = _most_that_fit(most, _fits(shorter, length))
        if shown is not None and shown >= min(most, _ENOUGH_MASKS):
            return _with_masks(shorter, shown)
    return _with_short_step(_without_files(shorter), length) if shown is None else _with_masks(shorter, shown)


def fitted_list(jobs: JobList, length: Callable[[JobList], int]) -> JobList:
    """The newest jobs, as many as fit."""
    total = len(jobs.jobs)

    def newest(n: int) -> JobList:
        kept = [job.model_copy(update={"message": _words(job.message, _CUTS[-2].words)}) for job in jobs.jobs[:n]]
        return JobList(jobs=kept, left_out=total - n)

    return (
        jobs if length(jobs) <= LONGEST else newest(_most_that_fit(total, lambda n: length(newest(n)) <= LONGEST) or 0)
    )


def _fits(result: JobResult, length: Callable[[JobResult], int]) -> Callable[[int], bool]:
    return lambda shown: length(_with_masks(result, shown)) <= LONGEST


def _most_that_fit(most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest number up to `most` that fits; None when not even 0 does."""
    if not fits(0):
        return None
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _shortened(result: Result, cut: _Cut) -> Result:
    changed: dict[str, object] = {
        "message": _words(result.message, cut.words),
        "request": _json(result.request, cut),
        "planned_input": _json(result.planned_input, cut),
        "provider_run": _run(result.provider_run, cut),
        "planned_request": _request(result.planned_request, cut),
        "metrics": dict(list(result.metrics.items())[: cut.items]),
        "warnings": [_words(one, cut.words) for one in result.warnings[: cut.items]],
        "files": [_file(one, cut) for one in result.files[: cut.items]],
    }
    if result.error is not None:
        said = {name: _words(getattr(result.error, name), cut.words) for name in ("message", "hint")}
        changed["error"] = result.error.model_copy(update=said)
    for name in _FILES:
        file = getattr(result, name, None)
        if file is not None:
            changed[name] = _file(file, cut)
    return result.model_copy(update={**changed, **_shortened_masks(result, cut)})


def _shortened_masks(result: JobResult, cut: _Cut) -> dict[str, object]:
    if not isinstance(result, MaskResult):
        return {}
    masks = [
        mask.model_copy(update={"label": _words(mask.label, cut.words), "media": _file(mask.media, cut)})
        for mask in result.masks[:_MOST_MASKS]
    ]
    return {"text": None if result.text is None else _words(result.text, cut.said), "masks": masks}


def _with_masks(result: Result, shown: int) -> Result:
    """The result with its first masks, and only the phrases that belong to them and to what is left of the text."""
    if not isinstance(result, MaskResult):
        return result
    changed: dict[str, object] = {"masks": result.masks[:shown]}
    if isinstance(result, DescribeResult | AnyResult):
        end = len(result.text or "")
        kept = [one for one in result.segments if one.mask < shown and one.end <= end and len(one.phrase) <= end]
        changed["segments"] = kept[: 2 * shown]
    if shown < result.masks_total:
        note = f"Only {shown} of {result.masks_total} masks are listed: coco and job://{result.job_id} hold all."
        changed["warnings"] = [note, *result.warnings]
    return result.model_copy(update=changed)


def _without_files(result: Result) -> Result:
    """The last resort: a state, an id and a next step, and the link that has everything."""
    note = f"This result is too long to be shown: read job://{result.job_id}."
    bare: dict[str, object] = {
        "request": {},
        "planned_input": None,
        "planned_request": None,
        "metrics": {},
        "warnings": [note],
        "files": [],
    }
    if result.provider_run is not None:
        bare["provider_run"] = result.provider_run.model_copy(update={"files": []})
    if isinstance(result, MaskResult):
        bare |= {"masks": [], "overlay": None, "coco": None}
    if isinstance(result, DescribeResult | AnyResult):
        bare |= {"segments": []}
    if isinstance(result, VideoResult | AnyResult):
        bare |= {"video": None, "poster": None, "filmstrip": None}
    return result.model_copy(update=bare)


def _with_short_step(result: Result, length: Callable[[JobResult], int]) -> Result:
    """As much of the next step as fits: it may hold addresses of a provider, of any length."""

    def cut(most: int) -> Result:
        return result.model_copy(update={"next_step": _words(result.next_step, max(most, 1))})

    return cut(_most_that_fit(len(result.next_step), lambda most: length(cut(most)) <= LONGEST) or 0)


def _file(file: MediaFile, cut: _Cut) -> MediaFile:
    """Half an address leads nowhere: the provider's own is left out when it is long."""
    if file.source_url is None or len(file.source_url) <= cut.words:
        return file
    here = {"url": PurePath(file.path).as_uri()} if file.url == file.source_url else {}
    return file.model_copy(update={"source_url": None, "source_expires_at": None, **here})


def _run(run: ProviderRun | None, cut: _Cut) -> ProviderRun | None:
    if run is None:
        return None
    return run.model_copy(update={"files": [one for one in run.files if len(one.url) <= cut.words][: cut.items]})


def _request(request: PlannedRequest | None, cut: _Cut) -> PlannedRequest | None:
    return None if request is None else request.model_copy(update={"body": _json(request.body, cut)})


def _json(value: object, cut: _Cut) -> object:
    match value:
        case str():
            return _words(value, cut.words)
        case list():
            return [_json(one, cut) for one in value[: cut.items]]
        case dict():
            return {_words(str(name), cut.words): _json(one, cut) for name, one in list(value.items())[: 2 * cut.items]}
        case _:
            return value


def _words(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
