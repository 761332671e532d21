"""The stages that bring a result home: fetch it before the provider's URLs expire, then make it useful."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from rotoscope.errors import OutputLost, ProviderError, RotoscopeError, TooLarge, UserMistake
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.finish import Finished, MaskWork, finish_masks
from rotoscope.jobs.finish_video import finish_video
from rotoscope.jobs.job import Artifact, Job, Output, Patch
from rotoscope.jobs.reconcile import quiet_runner
from rotoscope.jobs.rooms import Rooms
from rotoscope.media.sniff import content_type_of, is_image, is_video
from rotoscope.media.vault import Kept
from rotoscope.models.harvest import LONGEST_ADDRESS, Harvest, Source, harvest
from rotoscope.predictions.states import Blob, Ready, Succeeded, Waiting, ticket_from_json
from rotoscope.wire.messages import Json

__all__ = ["fetch", "finish"]

OUTPUT_BYTES = 512 * 1024 * 1024
_TRIES = 3  # for an answer that will hardly change
_SAYS_NO = frozenset(
    {"output_blocked", "output_expired", "not_media", "too_large", "url_malformed", "url_scheme", "url_blocked"}
)
_LONGEST_PATIENCE, _LONGEST_PAUSE = 600, 30.0  # seconds
_SNIFFED_BYTES = 64
_PAID = "The run was probably charged; look for its result at the provider."


async def fetch(rooms: Rooms, job: Job, _: Grip) -> Patch:
    """Copy every file of the output into the vault. Addresses that have expired are asked for anew, once."""
    try:
        return await _brought_home(rooms, job)
    except OutputLost as error:
        fresh = await _asked_anew(rooms, job) if error.code == "output_expired" else None
        if fresh is None or fresh == job.data.get("output"):
            raise
    renewed = replace(job, data={**job.data, "output": fresh})
    return replace(await _brought_home(rooms, renewed), data={"output": fresh})


async def _brought_home(rooms: Rooms, job: Job) -> Patch:
    found = _harvested(rooms, job)
    sources = [*found.masks, *([found.video] if found.video else [])]
    kept = [await _fetched(rooms, job, source) for source in sources]
    pairs = enumerate(zip(kept, sources, strict=True))
    outputs = tuple(_raw_output(rooms, job, n, one, source) for n, (one, source) in pairs)
    return Patch(stage="finish", outputs=outputs, message="Measuring the result.", progress=0.97)


async def _asked_anew(rooms: Rooms, job: Job) -> Json:
    """The output as the provider words it now; None when it does not."""
    known = job.data.get("ticket")
    if not isinstance(known, dict):
        return None
    runner = quiet_runner(rooms, job)
    try:
        seen = await runner.look(Waiting(ticket_from_json(known)))
        seen = await runner.look(seen) if isinstance(seen, Ready) else seen
    except ProviderError:
        return None
    return seen.output if isinstance(seen, Succeeded) and not isinstance(seen.output, Blob) else None


async def finish(rooms: Rooms, job: Job, _: Grip) -> Patch:
    """Make the result useful: measure and pair masks, or look into the video."""
    found = _harvested(rooms, job)
    raw = [output for output in await rooms.ledger.outputs(job.id) if output.role == "raw"]
    if found.video is not None:
        return _done(job, found, await anyio.to_thread.run_sync(finish_video, raw[0], rooms.vault))
    return _done(job, found, await _masks(rooms, job, found, raw))


async def _masks(rooms: Rooms, job: Job, found: Harvest, raw: Sequence[Output]) -> Finished:
    picture = await _picture(rooms, job)
    work = MaskWork(
        raw=[(_present(rooms, output), output) for output in raw],
        picture=picture,
        text=found.text,
        label=str(job.data.get("label") or "mask"),
        score=found.notice.confidence if found.notice else None,
        describes=rooms.manifest(job).tool == "describe_with_masks",
        paint=job.args.get("overlay") is not False,
    )
    try:
        return await anyio.to_thread.run_sync(finish_masks, work, rooms.vault)
    finally:
        if picture is not None and picture.parent == rooms.vault.folder / "scratch":
            picture.unlink(missing_ok=True)


def _present(rooms: Rooms, output: Output) -> Path:
    path = rooms.vault.find(output.artifact.sha256)
    if path is None:
        raise OutputLost(
            "A file of the result is no longer in the results folder.", hint="Look for it at the provider."
        )
    return path


def _done(job: Job, found: Harvest, finished: Finished) -> Patch:
    earlier = job.data.get("warnings")
    warnings: list[Json] = [*(earlier if isinstance(earlier, list) else []), *finished.warnings]
    if found.notice and found.notice.text:
        warnings.insert(0, found.notice.text)
    data: dict[str, Json] = {"result": dict(finished.result), "warnings": warnings}
    if finished.problem is not None:
        message = finished.problem["message"]
        return Patch(state="failed", error=finished.problem, data=data, outputs=finished.outputs, message=message)
    return Patch(stage="done", state="succeeded", data=data, outputs=finished.outputs, message="Done.", progress=1.0)


def _harvested(rooms: Rooms, job: Job) -> Harvest:
    metrics = job.data.get("metrics")
    return harvest(rooms.manifest(job), job.data.get("output"), metrics if isinstance(metrics, dict) else {})


def _raw_output(rooms: Rooms, job: Job, n: int, kept: Kept, source: Source) -> Output:
    artifact = Artifact(kept.sha256, kept.content_type, kept.size)
    if not source.url.startswith("http"):
        return Output("raw", n, artifact)
    ready, life = job.data.get("ready_at"), rooms.provider(job).output_seconds
    expires = float(ready) + life if isinstance(ready, int | float) and life is not None else None
    return Output("raw", n, artifact, source.url, expires)


async def _fetched(rooms: Rooms, job: Job, source: Source) -> Kept:
    if source.url.startswith("artifact://"):
        return await anyio.to_thread.run_sync(_already_kept, rooms, source.url)
    if source.url.startswith("data:"):
        return await anyio.to_thread.run_sync(_inline, rooms, source.url)
    return await _insisted(rooms, job, source)


async def _insisted(rooms: Rooms, job: Job, source: Source) -> Kept:
    """Fetch what was paid for, again and again, for as long as the provider keeps it."""
    patience = min(rooms.provider(job).output_seconds or _LONGEST_PATIENCE, _LONGEST_PATIENCE)
    pause, waited, missed = 1.0, 0.0, 0
    while True:
        try:
            return await _downloaded(rooms, job, source)
        except (OutputLost, ProviderError, UserMistake) as error:
            missed += error.code in _SAYS_NO
            if missed == _TRIES or waited >= patience:
                raise _lost(rooms, job, source, error) from error
        await rooms.sleep(pause)
        pause, waited = min(2 * pause, _LONGEST_PAUSE), waited + pause


async def _downloaded(rooms: Rooms, job: Job, source: Source) -> Kept:
    scratch = await anyio.to_thread.run_sync(rooms.vault.scratch)
    try:
        got = await rooms.wire.download(job.provider, source.url, scratch, OUTPUT_BYTES)
        return await anyio.to_thread.run_sync(_adopted, rooms, scratch, got.sha256)
    finally:
        scratch.unlink(missing_ok=True)


def _adopted(rooms: Rooms, scratch: Path, sha256: str) -> Kept:
    """The file's own bytes say what it is; what the server called it does not count."""
    with scratch.open("rb") as file:
        content_type = content_type_of(file.read(_SNIFFED_BYTES))
    if content_type is None or not (is_image(content_type) or is_video(content_type)):
        raise OutputLost("The provider's result is no picture and no video.", code="not_media")
    return rooms.vault.adopt(scratch, sha256, content_type)


def _already_kept(rooms: Rooms, uri: str) -> Kept:
    path = rooms.vault.find(uri.removeprefix("artifact://"))
    if path is None:
        raise OutputLost("The result is no longer in the results folder.", hint=_PAID)
    content = path.read_bytes()
    content_type = content_type_of(content[:_SNIFFED_BYTES]) or "application/octet-stream"
    return Kept(hashlib.sha256(content).hexdigest(), len(content), content_type, path)


def _inline(rooms: Rooms, uri: str) -> Kept:
    try:
        content = base64.b64decode(uri.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise OutputLost("The provider's result cannot be decoded.", hint=_PAID, code="corrupt") from error
    content_type = content_type_of(content[:_SNIFFED_BYTES])
    if content_type is None:
        raise OutputLost("The provider's result is no picture and no video.", hint=_PAID, code="not_media")
    return rooms.vault.keep(content, content_type)


def _lost(rooms: Rooms, job: Job, source: Source, error: RotoscopeError) -> OutputLost:
    """The last word on a result that could not be brought home: it was paid for, so the user learns where it is."""
    title = rooms.provider(job).title
    life = rooms.provider(job).output_seconds
    until = f", which {title} keeps for {life // 60} minutes after the run" if life else ""
    told = len(source.url) <= LONGEST_ADDRESS
    where = f"Save it yourself from {source.url}" if told else f"Its address is too long to be told: look at {title}"
    code = error.code if isinstance(error, OutputLost | TooLarge) else "download_failed"
    return OutputLost(
        f"The run at {title} has finished, but its result could not be fetched: {error.message}",
        hint=f"It was probably charged. {where}{until}.",
        code=code,
    )


async def _picture(rooms: Rooms, job: Job) -> Path | None:
    """The picture that the model saw: ours, or fetched now for the overlay; None when that fails."""
    value = str(job.data.get("picture") or "")
    if value.startswith("artifact://"):
        return rooms.vault.find(value.removeprefix("artifact://"))
    if not value.startswith("https://"):
        return None
    scratch = await anyio.to_thread.run_sync(rooms.vault.scratch)
    try:
        await rooms.wire.fetch(value, scratch, OUTPUT_BYTES)
    except RotoscopeError:
        scratch.unlink(missing_ok=True)
        return None
    return scratch
