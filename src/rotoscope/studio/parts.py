"""Planning of a request whose clip is longer than its model takes: a job for each part of the clip."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio.to_thread

from rotoscope.contracts.arguments import Arguments
from rotoscope.errors import InvalidInput, StorageFailed, TooLarge
from rotoscope.media.decoders import EDIT_FILM
from rotoscope.media.vault import artifact_hash, enter_in_thread, scratch_path
from rotoscope.media.worker_files import WorkerFile, store_worker_files
from rotoscope.models.awaited import AwaitedOutput, is_awaited, read_awaited_output
from rotoscope.models.clip_parts import ClipPart, PartLimit, plan_parts
from rotoscope.models.estimate import Estimate, MediaLength
from rotoscope.models.manifest import Route
from rotoscope.models.plan import CallPlan, plan_call
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import JobPart
from rotoscope.studio.new_jobs import CheckedRequest, PlannedJob, StepInputs

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.intake import AdmittedMedia, Intake

__all__ = ["PartPlanner", "SplitRequest", "number_after_parts", "plan_joining_call"]

_MAX_PARTS = 24  # runs that one call may begin
_PLACE_ARGUMENTS = ("instruction", "points", "box", "mask")

PlanPart = Callable[[Arguments, StepInputs], Awaitable[PlannedJob]]


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """The jobs of the parts, which part of the clip each of them has, and notes for the user."""

    steps: tuple[PlannedJob, ...]
    parts: tuple[JobPart, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartPlanner:
    """Cuts the clip of a request, and plans a job for each part.

    Attributes:
        intake: holds the vault, and what decodes.
        checked: the request for the whole clip.
        model: the model and its provider, as a call names them.
        inputs: what other jobs give to the whole.
        plan_part: plans the job of a part.
    """

    intake: "Intake"
    checked: CheckedRequest
    model: str
    inputs: StepInputs
    plan_part: PlanPart

    async def plan_parts(self, arguments: Arguments) -> SplitRequest:
        """Plan the parts of a call.

        Raises:
            TooLarge: there would be too many.
            UserMistake: the request is refused.
        """
        async with AsyncExitStack() as files:
            clip = await self._open(self.checked.media.first_medium("video"), files)
            stem = await files.enter_async_context(enter_in_thread(scratch_path(self.intake.vault)))
            if self.checked.view.tool == "segment_video":
                return await self._plan_tracks(arguments, clip, stem)
            return await self._plan_edits(arguments, clip, stem, files)

    async def _plan_edits(
        self, arguments: Arguments, clip: "Path", stem: "Path", files: AsyncExitStack
    ) -> SplitRequest:
        from rotoscope.media.edits.cutting import cut_mask_film, find_scene_changes
        from rotoscope.media.edits.films import GivenMask

        parts = self._choose_parts(await self.intake.decoders.run(find_scene_changes, clip, limits=EDIT_FILM))
        mask = self.checked.media.first_medium("mask")
        masks: Sequence[WorkerFile | None] = ()
        if mask is not None and not is_awaited(mask.value):
            given = GivenMask(await self._open(mask, files), is_film=True)
            found = await self.intake.decoders.run(cut_mask_film, given, clip, stem, parts, limits=EDIT_FILM)
            masks = [one.file for one in found]
        wanted = [n for n in range(len(parts)) if not masks or masks[n] is not None]
        if not wanted:
            raise InvalidInput("The mask is empty.", hint="Give one that is white where the video is to be edited.")
        clips = await self._cut(clip, stem, [parts[n] for n in wanted])
        await anyio.to_thread.run_sync(store_worker_files, self.intake.vault, [one for one in masks if one is not None])
        steps = list[PlannedJob]()
        for n, film in zip(wanted, clips, strict=True):
            part_mask = masks[n] if masks else None
            changes: dict[str, object] = {"video": f"artifact://{film}", "keep_outside": False, "model": self.model}
            changes |= {"mask": f"artifact://{part_mask.sha256}"} if part_mask is not None else {}
            readable = frozenset({film, part_mask.sha256} if part_mask is not None else {film})
            given_mask = self._await_piece(mask, parts[n], readable)
            steps.append(await self.plan_part(arguments.model_copy(update=changes), given_mask))
        left = [parts[n] for n in range(len(parts)) if n not in wanted]
        notes = (self._note(len(wanted)), *_untouched_notes(left))
        return SplitRequest(tuple(steps), self._number([parts[n] for n in wanted]), notes)

    def _await_piece(self, mask: "AdmittedMedia | None", part: ClipPart, readable: frozenset[str]) -> StepInputs:
        """What a part of an edit takes of a mask film that does not exist yet: the piece that covers it."""
        awaited = read_awaited_output(mask.value) if mask is not None else None
        if awaited is None:
            return StepInputs(is_part=True, readable=readable)
        piece = {"mask": AwaitedOutput(0, awaited.kind, awaited.output, piece=part)}
        if awaited.n < len(self.inputs.steps):
            steps, numbers = (self.inputs.steps[awaited.n],), (awaited.n,)
            return StepInputs(steps, piece, is_part=True, takes_from=numbers, readable=readable)
        other = self.checked.media.waits_for[awaited.n - len(self.inputs.steps)]
        return StepInputs((), piece, is_part=True, waits_for=(other,), readable=readable)

    async def _plan_tracks(self, arguments: Arguments, clip: "Path", stem: "Path") -> SplitRequest:
        """The parts in which an object is followed.

        Words find it in each part. A place is of one frame: the part with that frame begins, and each of the others
        goes on from the mask of its neighbour on a frame that both have.
        """
        parts = self._choose_parts(())
        films = await self._cut(clip, stem, parts)
        by_words = not any(getattr(arguments, name) for name in _PLACE_ARGUMENTS if name != "instruction")
        frame = int(getattr(arguments, "frame", 0) or 0)
        start = next(n for n, part in enumerate(parts) if frame < part.end)
        if not by_words:
            self._check_can_go_on(start)
        order = [start, *range(start + 1, len(parts)), *range(start - 1, -1, -1)]
        planned = dict[int, PlannedJob]()
        for n in order:
            changes: dict[str, object] = {"video": f"artifact://{films[n]}", "model": self.model}
            given = StepInputs(is_part=True, readable=frozenset({films[n]}))
            if n == start and not by_words:
                changes["frame"] = frame - parts[n].first
            elif not by_words:
                before = n - 1 if n > start else n + 1
                shared = parts[n].first if n > start else parts[n].end - 1  # the number of a frame that both have
                changes |= {**dict.fromkeys(_PLACE_ARGUMENTS), "frame": shared - parts[n].first}
                mask = AwaitedOutput(0, "image", "mask", frame=shared - parts[before].first)
                given = StepInputs(
                    (planned[before],),
                    {"mask": mask},
                    is_part=True,
                    takes_from=(order.index(before),),
                    readable=frozenset({films[n]}),
                )
            planned[n] = await self.plan_part(arguments.model_copy(update=changes), given)
        numbered = tuple(JobPart(order.index(n), part.first, part.frames) for n, part in enumerate(parts))
        return SplitRequest(tuple(planned[n] for n in order), numbered, (self._note(len(parts)),))

    def _check_can_go_on(self, start: int) -> None:
        """Refuse where the model cannot go on from the mask of the part before."""
        view = self.checked.view
        takes_later_frames = any(field.argument == "frame" for field in view.inputs.values())
        if "mask" in view.prompts and (takes_later_frames or not start):
            return
        raise TooLarge(
            f"{view.id} takes {self._limit.most} frames at once, and no mask with which a next part could go on.",
            hint="Give a shorter piece, say in words what is to be followed, or leave out the model.",
        )

    @property
    def _limit(self) -> PartLimit:
        limit = self.checked.media.part_limit
        assert limit is not None
        return limit

    def _choose_parts(self, scenes: Sequence[int]) -> tuple[ClipPart, ...]:
        clip = self.checked.media.first_medium("video")
        frames = (clip.frames if clip is not None else None) or 0
        parts = plan_parts(frames, scenes, self._limit)
        if len(parts) > _MAX_PARTS:
            raise TooLarge(
                f"The video has {frames} frames and {self.checked.view.id} takes {self._limit.most} at once: that "
                f"would be {len(parts)} runs; one call begins at most {_MAX_PARTS}.",
                hint="Give a shorter piece.",
            )
        return parts

    async def _open(self, medium: "AdmittedMedia | None", files: AsyncExitStack) -> "Path":
        link = medium.value if medium is not None else ""
        path = await files.enter_async_context(enter_in_thread(self.intake.vault.open(artifact_hash(link))))
        if path is None:
            raise StorageFailed("A file of this call is no longer in the results folder.", hint="Call again.")
        return path

    async def _cut(self, clip: "Path", stem: "Path", parts: Sequence[ClipPart]) -> list[str]:
        """The hashes of the parts' films, which are kept."""
        from rotoscope.media.edits.cutting import cut_film

        films = await self.intake.decoders.run(cut_film, clip, stem, parts, limits=EDIT_FILM)
        await anyio.to_thread.run_sync(store_worker_files, self.intake.vault, films)
        return [film.sha256 for film in films]

    def _number(self, parts: Sequence[ClipPart]) -> tuple[JobPart, ...]:
        first = len(self.inputs.steps)
        return tuple(JobPart(first + n, part.first, part.frames) for n, part in enumerate(parts))

    def _note(self, count: int) -> str:
        clip = self.checked.media.first_medium("video")
        frames = clip.frames if clip is not None else None
        return (
            f"The video has {frames} frames, and {self.checked.view.id} takes {self._limit.most} at once: it is cut "
            f"into parts, {count} runs are paid for, and what they give is joined."
        )


def _untouched_notes(parts: Sequence[ClipPart]) -> list[str]:
    if not parts:
        return []
    spans = ", ".join(f"{part.first} to {part.end - 1}" for part in parts)
    return [f"In the frames {spans} the mask selects nothing: they are not sent, and stay as they are."]


def number_after_parts(checked: CheckedRequest, first: int, parts: int) -> CheckedRequest:
    """The request with its open jobs, which are numbered from `first` on, numbered after so many parts."""

    def renumber(value: Json) -> Json:
        awaited = read_awaited_output(value) if isinstance(value, str) else None
        if awaited is None or awaited.n < first:
            return value
        return replace(awaited, n=awaited.n + parts).link

    if not checked.media.waits_for:
        return checked
    media = {
        name: [replace(one, value=str(renumber(one.value))) for one in many]
        for name, many in checked.media.media.items()
    }
    values = {name: renumber(value) for name, value in checked.values.items()}
    return replace(checked, values=values, media=replace(checked.media, media=media))


def plan_joining_call(checked: CheckedRequest, route: Route, draw_seed: Callable[[], int], parts: int) -> CallPlan:
    """What was asked for the whole clip as a call; it is never sent, and names the job that joins the parts.

    Args:
        checked: the request for the whole clip.
        route: the way to the model.
        draw_seed: draws a seed.
        parts: how many there are.
    """
    # Not as long as they are, which the model would not take.
    lengths: Mapping[str, MediaLength] = {
        link: MediaLength(0.0, None if length.frames is None else 1) for link, length in checked.media.lengths.items()
    }
    planned = plan_call(checked.fillable, route, checked.values, draw_seed, lengths)
    basis = f"{parts} parts are joined here, which costs nothing"
    return CallPlan(planned.call, None, Estimate(0.0, 0.0, basis), planned.drawn_inputs)
