"""The studio: one tool call from its arguments to its job, whoever asks: MCP, the command line, tests."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import anyio

from rotoscope.contracts.arguments import (
    Arguments,
    BoxArgument,
    CancelJob,
    DescribeWithMasks,
    GetJob,
    ListJobs,
    PointArgument,
    SegmentImage,
)
from rotoscope.contracts.results import AnyResult, Cost, JobList, JobResult, Status
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput, UnknownJob
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.job import Job, NewJob
from rotoscope.jobs.report import report, summary
from rotoscope.jobs.rooms import Rooms
from rotoscope.jobs.submit import call_to_json
from rotoscope.media.intake import Admitted, Intake
from rotoscope.models.access import Access
from rotoscope.models.manifest import Manifest, PromptKind, Tool
from rotoscope.models.plan import Plan, plan, prompt_kinds
from rotoscope.wire.messages import Json

__all__ = ["Studio", "job_output"]

_SANDBOX_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Studio:
    """Opens jobs, waits for them and tells of them.

    Attributes:
        draw: draws a seed.
    """

    rooms: Rooms
    intake: Intake
    access: Access
    dispatcher: Dispatcher
    draw: Callable[[], int]

    async def perform(
        self,
        tool: str,
        arguments: Arguments,
        principal: str,
        budget: float,
        told: Callable[[Job], Awaitable[None]] | None = None,
    ) -> JobResult | JobList:
        """Do what a tool promises, waiting at most `budget` seconds for its job.

        Raises:
            RotoscopeError: refused; nothing was begun.
        """
        match arguments:
            case ListJobs(status=status, limit=limit):
                return await self.list(principal, status, limit)
            case CancelJob(job_id=job_id):
                job = await self.wait(await self.cancel(job_id, principal), budget)
                return await self.result(job, AnyResult)
            case GetJob(job_id=job_id, wait_seconds=seconds):
                job = await self.wait(await self.job(job_id, principal), min(seconds, budget), told)
                return await self.result(job, AnyResult)
            case _:
                begun = await self.start(tool, arguments, principal)
                if isinstance(begun, JobResult):
                    return begun
                return await self.result(await self.wait(begun, budget, told))

    async def start(self, tool: str, arguments: Arguments, principal: str) -> Job | JobResult:
        """Check a request, open its job and have it driven; for a dry run, the result of planning it.

        Raises:
            UserMistake, MissingKey: refused before anything was sent or spent.
            StorageFailed: the job cannot be remembered, so it is not begun.
        """
        name = cast("Tool", tool)
        asked: dict[str, Json] = arguments.model_dump(mode="json", exclude={"model", "dry_run"})
        _check_prompt(arguments)
        wanted = getattr(arguments, "model", None)
        manifest, route = self.rooms.catalog.choose(name, _kinds(name, asked), wanted, self.access.usable)
        picture = await self.intake.picture(str(asked["image"]), "image", pass_urls=not self.access.sandbox)
        _check_inside(arguments, picture)
        planned = plan(manifest, route, {**asked, "image": picture.value}, self.draw)
        new = self._new_job(name, manifest, asked, picture, planned, principal)
        if getattr(arguments, "dry_run", False):
            return _dry_run(new, planned)
        job = await self.rooms.ledger.open(new)
        self.dispatcher.start(job.id)
        return job

    async def job(self, job_id: str, principal: str) -> Job:
        """A job by its id or `job://` link.

        Raises:
            UnknownJob: there is none of this principal's.
        """
        return await self.rooms.ledger.job(_bare(job_id), principal)

    async def wait(self, job: Job, seconds: float, told: Callable[[Job], Awaitable[None]] | None = None) -> Job:
        """Wait for a job to become final, at most some seconds; `told` hears of every change before it is."""
        with anyio.move_on_after(seconds):
            while not job.final:
                change = self.rooms.feed.next_change(job.id)
                job = await self.rooms.ledger.job(job.id)
                if told is not None and not job.final:
                    await told(job)
                if not job.final:
                    # Another process may drive it: its changes wake nobody here.
                    with anyio.move_on_after(1.0):
                        await change.wait()
        return job

    async def cancel(self, job_id: str, principal: str) -> Job:
        """Ask for a job to be cancelled. Safe to repeat; a final job stays as it is.

        Raises:
            UnknownJob: there is none of this principal's.
        """
        job = await self.rooms.ledger.request_cancel(_bare(job_id), principal)
        self.dispatcher.stop(job.id)
        self.rooms.feed.changed(job.id)
        return job

    async def list(self, principal: str, status: Status | None, limit: int) -> JobList:
        """The newest jobs of a principal, newest first."""
        found = await self.rooms.ledger.jobs(principal, status, limit)
        return JobList(jobs=[summary(job) for job in found])

    async def result(self, job: Job, shape: type[JobResult] | None = None) -> JobResult:
        """What a tool gives for a job, finished or not."""
        outputs = await self.rooms.ledger.outputs(job.id)
        return report(job, outputs, self.rooms.vault, self.rooms.clock(), shape)

    def _new_job(
        self,
        tool: Tool,
        manifest: Manifest,
        asked: Mapping[str, Json],
        picture: Admitted,
        planned: Plan,
        principal: str,
    ) -> NewJob:
        sandbox = self.access.sandbox
        data: dict[str, Json] = {
            "call": call_to_json(planned.call),
            "seed": planned.seed,
            "estimate_usd": planned.estimate_usd,
            "expected_seconds": _SANDBOX_SECONDS if sandbox else manifest.timing.typical_seconds,
            "picture": picture.value,
            "label": _label(tool, asked),
            "warnings": _unread(asked, picture),
        }
        shown: dict[str, Json] = {name: value for name, value in asked.items() if value is not None}
        shown["image"] = _short(str(asked["image"]))
        return NewJob(tool, manifest.id, planned.call.provider, principal, sandbox, shown, data)


async def job_output(rooms: Rooms, link: str) -> str:
    """The `artifact://` link of another job's output: `job://ID`, `job://ID/masks/1`, `job://ID/overlay`.

    Raises:
        UnknownJob: no such job.
        InvalidInput: it has no such output.
    """
    job_id, _, name = link.removeprefix("job://").partition("/")
    job = await rooms.ledger.job(job_id)
    role, _, number = (name or "masks/0").partition("/")
    wanted = (role.removesuffix("s") if role == "masks" else role, int(number) if number.isdigit() else 0)
    for output in await rooms.ledger.outputs(job.id):
        if (output.role, output.n) == wanted:
            return f"artifact://{output.artifact.sha256}"
    raise InvalidInput(
        f"The job has no output {name or 'masks/0'!r}; it is {job.state}.",
        hint="Call get_job to see what it has; use masks/0, masks/1 and so on, or overlay.",
        code="unknown_resource",
    )


def _bare(job_id: str) -> str:
    bare = job_id.strip().removeprefix("job://").partition("/")[0]
    if not bare:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return bare


def _kinds(tool: Tool, asked: Mapping[str, Json]) -> frozenset[PromptKind]:
    return prompt_kinds(asked) if tool == "segment_image" else frozenset()


def _check_prompt(arguments: Arguments) -> None:
    """Refuse a request that does not say what is wanted."""
    if isinstance(arguments, DescribeWithMasks) and arguments.prompt is not None and not arguments.prompt.strip():
        raise InvalidInput("The prompt is empty.", hint="Say what to describe, or leave the prompt out.")
    if not isinstance(arguments, SegmentImage):
        return
    if arguments.instruction is not None and not arguments.instruction.strip():
        raise InvalidInput("The instruction is empty.", hint="Say what to segment, or give points or a box.")
    if not (arguments.instruction or arguments.points or arguments.box):
        raise InvalidInput(
            "Nothing says what to segment.", hint="Give an instruction in words, points, or a box around the object."
        )
    if arguments.points and not any(point.keep for point in arguments.points):
        raise InvalidInput("No point is on the object.", hint="Give at least one point with keep: true.")


def _check_inside(arguments: Arguments, picture: Admitted) -> None:
    """Points and boxes are in pixels of the upright picture; outside of it they are a mistake."""
    if not isinstance(arguments, SegmentImage):
        return
    if arguments.box is not None:
        _check_box(arguments.box, picture)
    for point in arguments.points or ():
        _check_point(point, picture)


def _check_point(point: PointArgument, picture: Admitted) -> None:
    width, height = picture.width or float("inf"), picture.height or float("inf")
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise InvalidInput(
            f"The point ({point.x:g}, {point.y:g}) is outside the picture, which is {_size(picture)} pixels.",
            hint="Give x and y in pixels of the upright picture, counted from its top left corner.",
        )


def _check_box(box: BoxArgument, picture: Admitted) -> None:
    if box.left >= box.right or box.top >= box.bottom:
        raise InvalidInput("The box is empty.", hint="left must be less than right, and top less than bottom.")
    width, height = picture.width or float("inf"), picture.height or float("inf")
    if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
        raise InvalidInput(
            f"The box goes beyond the picture, which is {_size(picture)} pixels.",
            hint="Give left, top, right and bottom in pixels of the upright picture.",
        )


def _size(picture: Admitted) -> str:
    return f"{picture.width}x{picture.height}" if picture.width else "of unknown size in"


def _unread(asked: Mapping[str, Json], picture: Admitted) -> list[Json]:
    placed = asked.get("points") or asked.get("box")
    if picture.width is None and placed:
        return ["The picture was passed on by its URL, so points and box could not be compared with its size."]
    return []


def _label(tool: Tool, asked: Mapping[str, Json]) -> str:
    words = asked.get("instruction") if tool == "segment_image" else None
    return str(words).strip()[:200] if words else ("object" if tool == "segment_image" else "area")


def _short(given: str) -> str:
    """A data URI is bytes: they are not repeated in results."""
    return f"{given[:40]}…" if given.startswith("data:") else given


def _dry_run(new: NewJob, planned: Plan) -> JobResult:
    shape = TOOLS[new.tool].result
    wanted = shape if issubclass(shape, JobResult) else AnyResult
    estimate = planned.estimate_usd
    warnings = new.data.get("warnings")
    return wanted(
        job_id="",
        status="succeeded",
        tool=new.tool,
        model=new.model,
        provider=new.provider,
        sandbox=new.sandbox,
        progress=1.0,
        message="Dry run: nothing was sent and nothing was spent.",
        elapsed_seconds=0.0,
        expected_seconds=cast("float", new.data["expected_seconds"]),
        cost=Cost(estimate_usd=estimate, charged_usd=0.0),
        seed=planned.seed,
        request=dict(new.args),
        warnings=[str(one) for one in warnings] if isinstance(warnings, list) else [],
        next_step="Call again without dry_run to run it.",
        dry_run=True,
        planned_input=dict(planned.call.input),
    )
