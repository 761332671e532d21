"""From a job and its files to the result that a tool gives. It reads no ledger, and of the disk only which files exist.

What a provider says of the run (its id and page there, what was measured, what credit is left) is bounded and cleaned.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from pydantic import ValidationError

from rotoscope.contracts.results import (
    EditChanges,
    JobResult,
    JobSummary,
    Problem,
    ProviderFile,
    ProviderRun,
    Status,
)
from rotoscope.contracts.times import timestamp
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import StorageFailed
from rotoscope.jobs.chain_result import chain_fields, job_cost
from rotoscope.media.sniff import content_type_of_name, extension_of
from rotoscope.media.vault import FileAddress, Vault, artifact_hash
from rotoscope.models.awaited import is_awaited
from rotoscope.models.captions import clean_text
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import MeasuredResult
from rotoscope.store.records import ENDED_STATES, AwaitedJob, Job, Output

__all__ = [
    "can_open_in_browser",
    "credits_left",
    "job_result",
    "job_summary",
    "metrics_of",
    "provider_run",
]

_CREDITS_NAME = "remaining_credits"
_MOST_METRICS, _MOST_FILES = 20, 8
_MAX_NAME_BYTES = 60  # bytes of UTF-8
_MAX_METRIC_VALUE = 1e15
_SANDBOX_DOMAIN = ".invalid"  # reserved by RFC 6761: the hosts of the built-in sandbox, which no browser can open


def provider_run(job: Job, files: Sequence[ProviderFile] = ()) -> ProviderRun | None:
    """The run at the provider; None where there is none, or its id is not known."""
    if job.run is None:
        return None
    page = job.run.web_url
    shown = page if page is not None and can_open_in_browser(page) else None
    return ProviderRun(id=job.run.id, web_url=shown, files=list(files[:_MOST_FILES]))


def metrics_of(job: Job) -> Mapping[str, float]:
    """What the provider has measured, as far as it is numbers."""
    return dict(list(_clean_metrics(_raw_metrics(job)))[:_MOST_METRICS])


def _raw_metrics(job: Job) -> Mapping[str, Json]:
    return job.provider_output.metrics if job.provider_output is not None else {}


def _clean_metrics(metrics: Mapping[str, Json]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        number = _bounded_number(value)
        shown = clean_text(name, _MAX_NAME_BYTES)
        if number is not None and shown and name != _CREDITS_NAME:
            yield shown, number


def credits_left(job: Job) -> float | None:
    """What is left of the account's credits, in the provider's own unit; None where it does not say."""
    value = _raw_metrics(job).get(_CREDITS_NAME)
    if isinstance(value, str):
        try:
            value = float(value[:_MAX_NAME_BYTES])
        except ValueError:
            return None
    return _bounded_number(value)


def _bounded_number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_MAX_METRIC_VALUE < value < _MAX_METRIC_VALUE and isfinite(value) else None


def can_open_in_browser(url: str) -> bool:
    """Whether an address can lead anywhere: the names of the built-in sandbox cannot."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].lower()
    return bool(host) and not host.endswith(_SANDBOX_DOMAIN)


_SANDBOX_RESULT_NOTE = "This result was computed by rotoscope's built-in sandbox, not by the named model. "
_SANDBOX_RUN_NOTE = "rotoscope's built-in sandbox stands in for the named model. "
_PREDICTION_STAGES = frozenset({"watch", "fetch", "finish"})
"""Stages that have a prediction."""
_DEFAULT_RETENTION = 86_400.0  # seconds
_KEY_HINT = "Set a provider key to use the model itself."


def job_result(
    job: Job,
    outputs: Sequence[Output],
    vault: Vault,
    now: float,
    record_type: type[JobResult] | None = None,
    steps: Sequence[AwaitedJob] = (),
) -> JobResult:
    """A job as a result.

    Args:
        job: the job.
        outputs: its files.
        vault: where they are kept.
        now: the time in Unix seconds.
        record_type: the record to fill; that of the job's tool by default.
        steps: the jobs that give some of its inputs.
    """
    contract = TOOLS[job.tool].result
    wanted = record_type or (contract if issubclass(contract, JobResult) else JobResult)
    kept, lost, away = _find_files(outputs, vault)
    warnings = [
        *_result_warnings(job),
        *_review_warnings(job, steps),
        *_missing_file_warnings(job, outputs, lost, vault.location, now),
        *away,
    ]
    given = provider_run(job, _provider_files(job, outputs, now))
    inputs = _input_files(job, vault) if "inputs" in wanted.model_fields else []
    step = _next_step(job, [one for _, one in kept])
    more = {"inputs": inputs, "provider_run": given, "warnings": warnings, "next_step": step}
    fields = {**_common_fields(job, now), **_media_fields(job, kept, now), **more, **chain_fields(job, steps)}
    return wanted.model_validate({name: value for name, value in fields.items() if name in wanted.model_fields})


def _find_files(
    outputs: Sequence[Output], vault: Vault
) -> tuple[Sequence[tuple[Output, FileAddress]], Sequence[Output], Sequence[str]]:
    """The files with their addresses, those that are gone, and a warning where the vault cannot be asked now.

    Then files are named by their links: they are not gone, and the result is the same.
    """
    kept, lost, away = list[tuple[Output, FileAddress]](), list[Output](), list[str]()
    for output in outputs:
        sha256 = output.artifact.sha256
        try:
            address = None if away else vault.address(sha256)
        except StorageFailed as error:
            away, address = [f"{error.message} The files of this result open again when it can."], None
        if away and address is None:
            address = FileAddress(f"{sha256}{extension_of(output.artifact.content_type)}", None, None)
        if address is None:
            lost.append(output)
        else:
            kept.append((output, address))
    return kept, lost, away


def _input_files(job: Job, vault: Vault) -> list[Mapping[str, object]]:
    """The files that a job was given and that are still kept, with their addresses."""
    every = [(argument, link) for argument, links in job.plan.media.items() for link in links]
    named = [(argument, link) for argument, link in every if not is_awaited(link)]
    if not named and job.plan.picture is not None:  # a row of an older version
        named = [("image", job.plan.picture)]
    found = (_input_file(argument, link, vault) for argument, link in named)
    return [one for one in found if one is not None]


def _input_file(argument: str, link: str, vault: Vault) -> Mapping[str, object] | None:
    if not link.startswith("artifact://"):
        return {"argument": argument, "uri": link, "url": link, "content_type": ""}
    try:
        address = vault.address(artifact_hash(link))
    except StorageFailed:  # the result says so of its own files
        return None
    if address is None:
        return None
    return {
        "argument": argument,
        "uri": link,
        "url": address.url or "",
        "content_type": content_type_of_name(address.name),
    }


def job_summary(job: Job) -> JobSummary:
    """A job as one line of a list."""
    return JobSummary(
        job_id=job.id,
        status=_result_status(job),
        tool=job.tool,
        model=job.model,
        sandbox=job.sandbox,
        progress=job.progress,
        message=job.message,
        created_at=timestamp(job.created_at),
    )


def _common_fields(job: Job, now: float) -> dict[str, object]:
    stale = job.watch.stale_since
    return {
        "job_id": job.id,
        "status": _result_status(job),
        "tool": job.tool,
        "model": job.model,
        "provider": job.provider,
        "sandbox": job.sandbox,
        "progress": job.progress,
        "message": job.message,
        "elapsed_seconds": round(max((job.finished_at or now) - job.created_at, 0.0), 3),
        "expected_seconds": job.plan.expected_seconds,
        "cost": job_cost(job),
        "seed": job.plan.seed,
        "request": dict(job.args),
        "error": _result_problem(job),
        "metrics": metrics_of(job),
        "credits_left": credits_left(job),
        "provider_logs": list(job.log_tail),
        "stale_since": timestamp(stale) if stale is not None else None,
    }


def _result_status(job: Job) -> Status:
    """The state as users see it: a queued job whose run goes on at the provider counts as running."""
    return "running" if job.state == "queued" and job.stage in _PREDICTION_STAGES else job.state


def _media_fields(job: Job, kept: Sequence[tuple[Output, FileAddress]], now: float) -> dict[str, object]:
    files = {(o.role, o.n): _file_fields(job, o, address, now) for o, address in kept}
    found = job.result or MeasuredResult()
    masks = [{**one, "media": files["mask", n]} for n, one in enumerate(found.masks) if ("mask", n) in files]
    frames = [{**one, "mask": files.get(("frame", n))} for n, one in enumerate(found.frames)]
    return {
        "mask": files.get(("mask", 0)) if found.frames else None,
        "frames": frames,
        "masks": masks,
        "overlay": files.get(("overlay", 0)),
        "coco": files.get(("coco", 0)),
        "text": found.text,
        "segments": list(found.segments),
        "mask_selects": job.plan.mask_selects,
        "changes": _edit_changes(found),
        "video": files.get(("video", 0)),
        "poster": files.get(("poster", 0)),
        "filmstrip": files.get(("filmstrip", 0)),
        "files": [file for (role, _), file in files.items() if role == "raw"] if job.state == "failed" else [],
    }


def _edit_changes(found: MeasuredResult) -> EditChanges | None:
    """What an edit has changed; None where a newer version has written it in words that this one does not know."""
    if found.changes is None:
        return None
    try:
        return EditChanges.model_validate(found.changes)
    except ValidationError:
        return None


def _is_at_provider(job: Job, output: Output, now: float) -> bool:
    """Whether anybody can open a file at the provider now."""
    url, expires = output.source_url, output.source_expires_at
    if url is None or not url.startswith("https://") or not can_open_in_browser(url):
        return False
    # Where no provider says how long it keeps a file, it surely does for a while.
    return now < ((job.finished_at or now) + _DEFAULT_RETENTION if expires is None else expires)


def _provider_files(job: Job, outputs: Sequence[Output], now: float) -> list[ProviderFile]:
    """What the provider gave and still keeps, where none of the result's files has its address."""
    if job.state not in ENDED_STATES:
        return []
    raw = [output for output in outputs if output.role == "raw" and _is_at_provider(job, output, now)]
    shown = {output.source_url for output in outputs if output.role != "raw" or job.state == "failed"}
    return [
        ProviderFile(url=str(one.source_url), expires_at=_optional_timestamp(one.source_expires_at))
        for one in raw
        if one.source_url not in shown
    ]


def _optional_timestamp(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)


def _file_fields(job: Job, output: Output, address: FileAddress, now: float) -> Mapping[str, object]:
    """A file with its addresses; its path is empty where the vault is not on this machine."""
    kept = output.artifact
    source, expires = output.source_url, output.source_expires_at
    if source is not None and not can_open_in_browser(source):
        source, expires = None, None
    return {
        # An address of ours opens everywhere too, and for longer.
        "url": source if not address.is_on_web and _is_at_provider(job, output, now) else address.url or address.uri,
        "path": str(address.path or ""),
        "uri": f"artifact://{kept.sha256}",
        "content_type": kept.content_type,
        **kept.facts,
        "file_size": kept.size,
        "sha256": kept.sha256,
        "source_url": source,
        "source_expires_at": _optional_timestamp(expires),
    }


def _result_warnings(job: Job) -> list[str]:
    warnings, title = list(job.warnings), job.uncancellable_at
    if title:
        warnings.append(f"{title} cannot stop a run: it is charged when it succeeds, and its result is kept.")
    if not job.sandbox:
        return warnings
    return [(_SANDBOX_RESULT_NOTE if job.state == "succeeded" else _SANDBOX_RUN_NOTE) + _KEY_HINT, *warnings]


def _review_warnings(job: Job, steps: Sequence[AwaitedJob]) -> list[str]:
    """A step in review keeps the whole waiting, until a person decides."""
    unsure = [one.job for one in steps if one.job.state == "needs_review"] if not job.is_final else []
    return [f"{one.tool} ({one.id}) needs a person's review: {one.error.hint if one.error else ''}" for one in unsure]


def _missing_file_warnings(
    job: Job, outputs: Sequence[Output], missing: Sequence[Output], location: str, now: float
) -> list[str]:
    """A warning that names the files of a result that are gone from the vault, and where they still are."""
    made = ("mask", "overlay", "coco", "video", "poster", "filmstrip", "frame")
    roles = made if job.state == "succeeded" else ("raw",)
    lost = [output for output in missing if output.role in roles]
    if not lost or job.state not in ("succeeded", "failed"):
        return []
    numbered = ("mask", "raw", "frame")
    names = ", ".join(f"{output.role}/{output.n}" if output.role in numbered else output.role for output in lost)
    sentences = [f"Files of this result are no longer in the results folder {location}: {names}."]
    raw = {output.n: output for output in outputs if output.role == "raw"}
    # What was made of a file of the model's can be made again of that.
    origins = [raw.get(o.n, o) if o.role == "mask" else o for o in lost]
    for url, expires in dict.fromkeys((o.source_url, o.source_expires_at) for o in origins if o.source_url):
        if expires is None or expires > now:
            until = f" until {timestamp(expires)}" if expires is not None else ""
            sentences.append(f"What the model gave is at {url}{until}.")
    return [" ".join(sentences)]


def _result_problem(job: Job) -> Problem | None:
    if job.error is None:
        return None
    message = job.error.message
    if job.error.provider_message:
        message = f"{message} The provider's words: {job.error.provider_message!r}"
    return Problem(code=job.error.code, message=message, hint=job.error.hint)


def _next_step(job: Job, places: Sequence[FileAddress]) -> str:
    match job.state:
        case "queued" | "running":
            return f"Call get_job with job_id {job.id} and wait_seconds to wait for the result."
        case "succeeded":
            if all(place.path is not None for place in places):
                return "Show or open a file by its path, or pass its uri to another tool."
            return (
                "Show a file by its url (it opens for a day; get_job gives a new one), or pass its uri to another tool."
            )
        case "cancelled":
            return "Call the tool again if the result is wanted after all."
        case _:
            return (job.error.hint if job.error else "") or "Read the error, change the request and call again."
