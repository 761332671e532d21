"""The last stage: what was fetched becomes useful. And the same once more, when files of a result have gone."""

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.errors import OutputLost, RotoscopeError, UserMistake, WorkerLost
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.stages.fetch import OUTPUT_BYTES, bring_back, harvested
from rotoscope.jobs.stages.finish_masks import Finished, MaskWork, finish_masks
from rotoscope.jobs.stages.finish_video import finish_video
from rotoscope.media.decoders import RESULT_FILM, RESULT_MASKS
from rotoscope.media.image.coco import file_name_of
from rotoscope.media.worker_files import scratch_files, take_in
from rotoscope.models.outputs import Harvest
from rotoscope.providers.http.messages import Json
from rotoscope.store.records import Job, Output, Patch

__all__ = ["finish", "restore"]

_FETCHED_AGAIN = 3  # times; more often something here removes what is kept
_log = logging.getLogger(__name__)


async def finish(rooms: Rooms, job: Job, _: Grip) -> Patch:
    """Make the result useful: measure and pair masks, or look into the video.

    A file that has gone meanwhile is fetched again, from where it came.
    """
    found, raw = harvested(rooms, job), await _raw(rooms, job)
    gone = [output for output in raw if rooms.vault.find(output.artifact.sha256) is None]
    if gone or not (raw or found.is_words_alone):
        return _back_to_fetch(job, gone)
    return _done(job, found, await _finished(rooms, job, found, raw))


async def restore(rooms: Rooms, job: Job) -> None:
    """Put files of a result back that are no longer in the vault: fetched again, or made again from what was fetched.

    The end of the job stays as it is, and what cannot be put back now stays away: the report names it.
    """
    if job.state != "succeeded":
        return
    try:
        outputs = await rooms.ledger.outputs(job.id)
        if all(rooms.vault.find(output.artifact.sha256) for output in outputs):
            return
        raw = [output for output in outputs if output.role == "raw"]
        if not all(rooms.vault.find(output.artifact.sha256) for output in raw):
            raw = list(await bring_back(rooms, job))
        finished = await _finished(rooms, job, harvested(rooms, job), raw)
        await rooms.ledger.put_back(job.id, [*raw, *finished.outputs])
    except RotoscopeError as error:
        _log.info("files of job %s are gone and cannot be put back now: %s", job.id, error.message)


def _back_to_fetch(job: Job, gone: Sequence[Output]) -> Patch:
    """Back to where a missing file came from.

    Raises:
        OutputLost: it came in the reply itself, or is gone again and again.
    """
    known = job.data.get("fetched_again")
    times = known if isinstance(known, int) else 0
    if times >= _FETCHED_AGAIN or not all(output.source_url for output in gone):
        names = ", ".join(output.artifact.sha256 for output in gone)
        raise OutputLost(
            f"A file of the result is no longer in the results folder: {names}.",
            hint="The run was probably charged; look for its result at the provider.",
        )
    message = "A file of the result has gone from the results folder; it is fetched again."
    return Patch(stage="fetch", data={"fetched_again": times + 1}, message=message)


async def _raw(rooms: Rooms, job: Job) -> list[Output]:
    return [output for output in await rooms.ledger.outputs(job.id) if output.role == "raw"]


async def _finished(rooms: Rooms, job: Job, found: Harvest, raw: Sequence[Output]) -> Finished:
    """The result, made in a worker and kept by this process.

    Raises:
        OutputLost: what came back costs too much to read, or makes its decoder crash.
        WorkerLost: the worker was ended from outside, which says nothing of the result: it is tried again.
    """
    with scratch_files(rooms.vault) as stem:
        try:
            finished = await _made(rooms, job, found, raw, stem)
        except WorkerLost:
            raise
        except UserMistake as error:
            raise OutputLost(
                f"What the model gave cannot be used: {error.message}",
                hint="The run was probably charged; the file is kept and listed under files.",
                code=error.code,
            ) from error
        await anyio.to_thread.run_sync(take_in, rooms.vault, finished.made)
    return finished


async def _made(rooms: Rooms, job: Job, found: Harvest, raw: Sequence[Output], stem: Path) -> Finished:
    if found.video is not None:
        path = _present(rooms, raw[0])
        return await rooms.decoders.run(finish_video, raw[0], path, stem, limits=RESULT_FILM)
    return await _masks(rooms, job, found, raw, stem)


async def _masks(rooms: Rooms, job: Job, found: Harvest, raw: Sequence[Output], stem: Path) -> Finished:
    picture = await _picture(rooms, job)
    work = MaskWork(
        raw=[(_present(rooms, output), output) for output in raw],
        picture=picture,
        file_name=_file_name(rooms, job, picture),
        text=found.text,
        names=[found.masks[output.n].label for output in raw],
        left_out=found.left_out + len(found.masks) - len(raw),
        frame=rooms.manifest(job).outputs.frame,
        by_place=bool(job.args.get("points") or job.args.get("box")),
        label=str(job.data.get("label") or "mask"),
        score=found.notice.confidence if found.notice else None,
        describes=rooms.manifest(job).tool == "describe_with_masks",
        paint=job.args.get("overlay") is not False,
    )
    try:
        return await rooms.decoders.run(finish_masks, work, stem, limits=RESULT_MASKS)
    finally:
        if picture is not None and picture.parent == rooms.vault.folder / "scratch":
            picture.unlink(missing_ok=True)


def _file_name(rooms: Rooms, job: Job, picture: Path | None) -> str:
    """What the picture is called by who gave it; one of ours is called as its file in the results folder."""
    given = str(job.args.get("image") or "").strip()
    if given.lower().startswith("artifact://"):
        picture = rooms.vault.find(given.partition("://")[2].strip("/")) or picture
    elif not given.lower().startswith("job://"):
        return file_name_of(given)
    return picture.name if picture is not None else file_name_of(given)


def _present(rooms: Rooms, output: Output) -> Path:
    path = rooms.vault.find(output.artifact.sha256)
    if path is None:
        raise OutputLost(
            "A file of the result is no longer in the results folder.", hint="Look for it at the provider."
        )
    return path


def _done(job: Job, found: Harvest, finished: Finished) -> Patch:
    earlier = job.data.get("warnings")
    warnings: list[Json] = [*(earlier if isinstance(earlier, list) else []), *found.warnings, *finished.warnings]
    if found.notice and found.notice.text:
        warnings.insert(0, found.notice.text)
    data: dict[str, Json] = {"result": dict(finished.result), "warnings": warnings}
    if finished.problem is not None:
        message = finished.problem["message"]
        return Patch(state="failed", error=finished.problem, data=data, outputs=finished.outputs, message=message)
    return Patch(stage="done", state="succeeded", data=data, outputs=finished.outputs, message="Done.", progress=1.0)


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
