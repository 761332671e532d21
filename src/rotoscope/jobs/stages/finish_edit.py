"""The last stage of an edit: prove what it has changed, lay the original back where that was asked, carry sound over.

Films are measured and written in worker processes, each step in a call of its own: what one cannot read or finish costs
a warning, and the model's film stays the result. A film that is written here is made of stored files alone and always
in the same way, so a stage that is repeated gives the same bytes.
"""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from rotoscope.errors import RotoscopeError, StorageFailed, WorkerLost
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.edit_inputs import EditInputs, find_edit_inputs
from rotoscope.jobs.given_files import open_given_file
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.jobs.stages.finish_video import finish_video
from rotoscope.media.decoders import EDIT_FILM, RESULT_FILM
from rotoscope.media.edits.films import NO_MASK, GivenMask
from rotoscope.media.edits.proving import EditProof, EditWork, prove_edit, remake_film
from rotoscope.media.sniff import file_content_type, is_video
from rotoscope.store.records import Artifact, Job, Output

__all__ = ["finish_edit"]

_log = logging.getLogger(__name__)
_TRIES = 2  # times: a process that was ended from outside says nothing of the films


async def finish_edit(
    context: JobContext, job: Job, raw: Output, path: Path, stem: Path, files: AsyncExitStack
) -> FinishResult:
    """The result of an edit. Its video is the model's film, or one that was made of it; that stays under `raw`.

    Args:
        context: holds the vault, the one client and the workers.
        job: the job.
        raw: what is known of the model's film.
        path: its file.
        stem: the path with which the names of the files that are made begin.
        files: closes what is opened.

    Raises:
        OutputLost: the model's film is no video that can be opened.
        StorageFailed: the disk does not take what is made.
        WorkerLost: the worker was ended from outside.
    """
    proof = await _prove(context, job, path, stem, files)
    video, film = raw, path
    if proof.made is not None:
        film = proof.made.path
        video = Output("raw", 0, Artifact(proof.made.sha256, proof.made.content_type, film.stat().st_size))
    finished = await context.decoders.run(finish_video, video, film, stem, limits=RESULT_FILM)
    return replace(
        finished,
        result=replace(finished.result, changes=proof.changes),
        warnings=(*finished.warnings, *proof.warnings),
        new_files=(*finished.new_files, *([proof.made] if proof.made else [])),
    )


async def _prove(context: JobContext, job: Job, path: Path, stem: Path, files: AsyncExitStack) -> EditProof:
    given = find_edit_inputs(context, job)
    original = await open_given_file(context, given.film, stem, files, "original")
    if original is None:
        return EditProof(warnings=(f"{_UNMEASURED}: the original cannot be read any more.",))
    known = NO_MASK if given.mask is None else await _open_mask(context, given, stem, files)
    work = EditWork(path, original, known, given.frames, keeps_outside=job.args.get("keep_outside") is True)
    proof = await _run(context, _UNMEASURED, prove_edit, work)
    if not (work.keeps_outside or proof.restores or proof.carries_sound):
        return proof
    what = "The sound could not be carried over"
    if work.keeps_outside or proof.restores:
        what = "The original could not be laid back" if work.keeps_outside else "The film stays as the model gave it"
    remade = await _run(context, what, remake_film, work, proof, stem)
    return remade if remade.made else replace(proof, warnings=(*proof.warnings, *remade.warnings))


_UNMEASURED = "What the edit changed could not be measured"


async def _open_mask(context: JobContext, given: EditInputs, stem: Path, files: AsyncExitStack) -> GivenMask | None:
    mask = await open_given_file(context, given.mask or "", stem, files, "mask")
    if mask is None:
        return None
    kind = await anyio.to_thread.run_sync(file_content_type, mask)
    return GivenMask(mask, is_video(kind or ""), given.is_inverted)


async def _run(context: JobContext, what: str, step: Callable[..., EditProof], *given: object) -> EditProof:
    """A step in a worker; a good film is not lost for want of it."""
    reason = "the process that did it was ended."
    for _ in range(_TRIES):
        try:
            return await context.decoders.run(step, *given, limits=EDIT_FILM)
        except WorkerLost:
            continue
        except StorageFailed:
            raise
        except RotoscopeError as error:
            reason = error.message
            break
        except Exception:  # noqa: BLE001 - a stranger's film has found a fault of ours
            _log.exception("an edit could not be examined")
            reason = "of a fault in rotoscope."
            break
    return EditProof(warnings=(f"{what}: {reason[:1].lower()}{reason[1:]}",))
