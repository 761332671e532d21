"""The studio: one tool call from its arguments to its job, whoever asks: MCP, the command line, tests."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import cast

import anyio.abc
import anyio.to_thread

from rotoscope.contracts.arguments import Arguments, CancelJob, GetJob, ListJobs
from rotoscope.contracts.results import AnyResult, JobList, JobResult, Status, VideoResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput, StorageFailed, UnknownJob
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.list_walks import walk_lists
from rotoscope.jobs.result import job_result, job_summary
from rotoscope.jobs.review import Review
from rotoscope.jobs.run_times import retention_seconds
from rotoscope.jobs.stages.finish import restore_files
from rotoscope.media.intake import Intake
from rotoscope.models.access import Access
from rotoscope.models.manifest import Manifest, PromptKind, ToolName
from rotoscope.models.plan import CallPlan, plan_call, prompt_kinds, workload
from rotoscope.models.request_key import call_to_json, request_and_price_keys, trim_arguments
from rotoscope.models.uploads import first_route_for_sizes, largest_upload_limit
from rotoscope.providers.http.messages import Json
from rotoscope.store.deliveries import find_references
from rotoscope.store.money import Caps
from rotoscope.store.openings import SANDBOX_KEY
from rotoscope.store.quotes import Quote, Quotes
from rotoscope.store.records import ENDED_STATES, Job, NewJob, OpenResult, Output
from rotoscope.store.retention import Retention
from rotoscope.studio.checks import RequestChecks, compute_check_key, strings_in_arguments
from rotoscope.studio.dry_run import dry_run_result
from rotoscope.studio.validation import Admission, admit_media, check_inside_picture, require_prompt
from rotoscope.studio.waiting import JobCallback, JobWaiter, add_cancel_note, add_join_note

__all__ = ["Studio", "job_output", "parse_job_id"]

_OUTPUT = re.compile(r"(?P<role>[a-z]+)(?:/(?P<n>[0-9]{1,4}))?", re.ASCII)
_SANDBOX_SECONDS: Mapping[ToolName, float] = {
    "segment_image": 1.5,
    "describe_with_masks": 1.5,
    "generate_video": 6.0,
    "edit_video_with_mask": 10.0,
}


@dataclass(frozen=True, slots=True)
class Studio:
    """Opens jobs, waits for them and tells of them.

    Attributes:
        owner: names this process, as the starter of the jobs that it opens.
        caps: what may be spent.
        draw_seed: draws a seed.
        checks: what is found out of requests before their jobs are opened.
    """

    context: JobContext
    intake: Intake
    access: Access
    dispatcher: Dispatcher
    review: Review
    retention: Retention
    quotes: Quotes
    owner: str
    caps: Caps
    draw_seed: Callable[[], int]
    checks: RequestChecks[tuple[NewJob, CallPlan]]

    def start_background(self, tasks: anyio.abc.TaskGroup) -> None:
        """Take up what other processes have left, and keep house; until the task group ends."""
        tasks.start_soon(self.dispatcher.run)
        tasks.start_soon(self.retention.run)
        tasks.start_soon(walk_lists, self.context)
        tasks.start_soon(self._resume_stopped_jobs)

    async def perform(
        self,
        tool: str,
        arguments: Arguments,
        principal: str,
        budget: float,
        on_change: JobCallback | None = None,
        agreed_usd: float | None = None,
        check_seconds: float = inf,
    ) -> JobResult | JobList:
        """Do what a tool promises, waiting at most `budget` seconds for its job, and `check_seconds` until it begins.

        Nobody has been told anything yet: `mark_delivered` is for the last moment before a result goes out.

        Raises:
            StillChecking: its media are still being checked; the same request goes on from there.
            RotoscopeError: refused; nothing was begun.
        """
        deadline = anyio.current_time() + budget
        match arguments:
            case ListJobs(status=status, limit=limit):
                return await self.list(principal, status, limit, budget)
            case CancelJob(job_id=job_id):
                before = await self.job(job_id, principal)
                job = await self.wait(await self.cancel(job_id, principal), budget)
                return add_cancel_note(await self.result(job, AnyResult), before)
            case GetJob(job_id=job_id, wait_seconds=seconds):
                job = await self._waiter.refresh_job(await self.job(job_id, principal), seconds, budget, on_change)
                await self._restore_files(job, deadline)
                return await self.result(job, AnyResult)
            case _:
                begun = await self.start(tool, arguments, principal, agreed_usd, check_seconds)
                if isinstance(begun, JobResult):
                    return begun
                left = max(0.0, deadline - anyio.current_time())  # checking the media took its part
                job = await self.wait(begun.job, left, on_change)
                if not begun.is_joined:
                    return await self.result(job)
                await self._restore_files(job, deadline)
                return add_join_note(await self.result(job), begun)

    async def start(
        self,
        tool: str,
        arguments: Arguments,
        principal: str,
        agreed_usd: float | None = None,
        check_seconds: float = inf,
    ) -> OpenResult | JobResult:
        """Check a request, open its job and have it driven; for a dry run, the result of planning it.

        A request that repeats one whose end was not told yet joins its job.

        Args:
            tool: the tool's name.
            arguments: what it is asked.
            principal: on whose behalf.
            agreed_usd: up to which price a new run was agreed to, in US dollars; None: nobody need agree.
            check_seconds: how long its check is waited for.

        Raises:
            StillChecking: its check takes longer.
            UserMistake, MissingKey, OverBudget: refused before anything was sent or spent.
            StorageFailed: the job cannot be remembered, so it is not begun.
        """
        new, planned = await self._check_request(tool, arguments, principal, check_seconds, keep=False)
        if getattr(arguments, "dry_run", False):
            return dry_run_result(new, planned, self.caps, self.context.catalog, self.context.dialects)
        opening = await self.context.ledger.open(new, replace(self.caps, consent_usd=agreed_usd), self.owner)
        if not opening.is_joined:
            self.dispatcher.start(opening.job.id)
        return opening

    async def quote(self, tool: str, arguments: Arguments, principal: str, check_seconds: float = inf) -> Quote:
        """What a request would cost. It is checked like the request itself, for which that is good too; begins nothing.

        Raises:
            StillChecking: its check takes longer.
            UserMistake, MissingKey, OverBudget: it would be refused.
        """
        new, _ = await self._check_request(tool, arguments, principal, check_seconds, keep=True)
        joins = await self.context.ledger.preview_open(new, self.caps) is not None
        return Quote(new.estimate_usd, new.model, new.provider, new.sandbox, joins, new.quote_key)

    async def job(self, job_id: str, principal: str) -> Job:
        """A job by its id or `job://` link.

        Raises:
            UnknownJob: there is none of this principal's.
        """
        return await self.context.ledger.job(parse_job_id(job_id), principal)

    async def wait(self, job: Job, seconds: float, on_change: JobCallback | None = None) -> Job:
        """Wait until nobody drives a job any more, at most some seconds; `on_change` hears of every change before
        that.
        """
        return await self._waiter.wait(job, seconds, on_change)

    @property
    def _waiter(self) -> JobWaiter:
        return JobWaiter(self.context, self.dispatcher, self.review)

    async def _restore_files(self, job: Job, until: float) -> None:
        """Files of a result that have gone are put back while they can be, as long as the question bears it."""
        with anyio.move_on_after(max(until - anyio.current_time(), 0.0)):
            await restore_files(self.context, job)

    async def _resume_stopped_jobs(self) -> None:
        """What a fault of ours, or a full disk, has stopped after the payment may go on now that a process begins."""
        holder = self.review.holder

        def life_if_drivable(job: Job) -> float:
            return (
                retention_seconds(self.context, job)
                if job.needs_key in holder.keys and job.model in holder.models
                else 0.0
            )

        with contextlib.suppress(StorageFailed):
            for job_id in await self.context.ledger.resume_internal_failures(life_if_drivable):
                self.dispatcher.start(job_id)

    async def resume(self, job_id: str, principal: str) -> Job:
        """Take up a job that has ended without its result although it was paid for; its provider is asked again.

        Raises:
            UnknownJob: there is none of this principal's.
            InvalidInput: there is nothing to take up; says why.
        """
        job = await self.context.ledger.resume(parse_job_id(job_id), principal)
        self.dispatcher.start(job.id)
        self.context.notifier.notify_change(job.id)
        return job

    async def cancel(self, job_id: str, principal: str) -> Job:
        """Ask for a job to be cancelled. Safe to repeat; a final job stays as it is.

        Raises:
            UnknownJob: there is none of this principal's.
        """
        job = await self.context.ledger.request_cancel(parse_job_id(job_id), principal)
        self.dispatcher.stop(job.id)
        self.context.notifier.notify_change(job.id)
        return job

    async def deliver_result(self, job: Job) -> JobResult:
        """The result of a job for somebody who asked for it: if it has ended, that is told now."""
        result = await self.result(job)
        await self.mark_delivered(result)
        return result

    async def mark_delivered(self, result: JobResult, *, late: bool = False) -> None:
        """A result goes out to who asked for it: if its job has ended, an equal request is a new one from now on.

        One that is `late` may reach nobody: equal requests are told it again until something shows that it was heard.
        Only an answer to a tool call or a task is that. A review is no end: nobody knows yet what became of the job.
        """
        if result.status in ENDED_STATES and result.job_id:
            # Told once more is better than not told: a disk that is full does not hide what was paid for.
            with contextlib.suppress(StorageFailed):
                await self.context.ledger.mark_delivered(result.job_id, late=late)

    async def note_job_use(self, arguments: Arguments, principal: str) -> None:
        """What a request names was heard of by who makes it: an equal request to what it came of means a new run."""
        named = find_references(strings_in_arguments(arguments))
        if named and not isinstance(arguments, GetJob | CancelJob):  # who only asks for a job is told its end anyway
            with contextlib.suppress(StorageFailed):
                await self.context.ledger.mark_used(principal, named)

    async def list(self, principal: str, status: Status | None, limit: int, seconds: float = 0.0) -> JobList:
        """The newest jobs of a principal, newest first; those that nobody drives are brought on in some seconds."""
        found = await self._waiter.newest_jobs(principal, status, limit, seconds)
        shown = [job_summary(await self._current_job(job)) for job in found]
        return JobList(jobs=[one for one in shown if status in (None, one.status)][:limit])

    async def result(self, job: Job, shape: type[JobResult] | None = None) -> JobResult:
        """What a tool gives for a job, finished or not."""
        outputs, now = await self.context.ledger.outputs(job.id), self.context.clock()
        current = await self._current_job(job)
        return await anyio.to_thread.run_sync(job_result, current, outputs, self.context.vault, now, shape)

    async def _current_job(self, job: Job) -> Job:
        return await self._waiter.current_job(job)

    async def _check_request(
        self, tool: str, arguments: Arguments, principal: str, seconds: float, *, keep: bool
    ) -> tuple[NewJob, CallPlan]:
        key = await compute_check_key(tool, arguments, principal)
        return await self.checks.join(key, lambda: self._plan_request(tool, arguments, principal), seconds, keep=keep)

    async def _plan_request(self, tool: str, arguments: Arguments, principal: str) -> tuple[NewJob, CallPlan]:
        name = cast("ToolName", tool)
        asked: dict[str, Json] = arguments.model_dump(mode="json", exclude={"model", "dry_run"})
        require_prompt(arguments)
        wanted = getattr(arguments, "model", None)
        manifest, routes = self.context.catalog.choose(
            name, _prompt_kinds_of(name, asked), wanted, self.access.is_usable
        )
        asked = trim_arguments(manifest, asked)
        # The sandbox fetches nothing from the network, so it is given the bytes.
        carrier = largest_upload_limit(routes, self.context.catalog.providers)
        admitted = await admit_media(
            self.intake, manifest, asked, pass_urls=not self.access.sandbox, upload_limit=carrier
        )
        notes = [*admitted.notes, *check_inside_picture(arguments, admitted.first_medium("image"))]
        route = first_route_for_sizes(routes, self.context.catalog.providers, admitted.upload_sizes)
        planned = plan_call(manifest, route, {**asked, **admitted.values}, self.draw_seed, admitted.lengths)
        return await self._build_new_job(manifest, asked, admitted, planned, notes, principal), planned

    async def _build_new_job(
        self,
        manifest: Manifest,
        asked: Mapping[str, Json],
        admitted: Admission,
        planned: CallPlan,
        notes: Sequence[str],
        principal: str,
    ) -> NewJob:
        sandbox = self.access.sandbox
        picture = admitted.first_medium("image")
        kind = workload(manifest, planned.call)
        learned = await self.context.ledger.median_duration(manifest.id, planned.call.provider, kind, sandbox=sandbox)
        guess = _SANDBOX_SECONDS[manifest.tool] if sandbox else manifest.timing.typical_seconds
        data: dict[str, Json] = {
            "call": call_to_json(planned.call),
            "drawn": list(planned.drawn_inputs),
            "seed": planned.seed,
            "price": manifest.price.model_dump(include={"unit", "usd"}) if manifest.price else None,
            "estimate_usd": planned.estimate_usd,
            "expected_seconds": learned.seconds if learned else guess,
            "known_runs": learned.runs if learned else 0,
            "cold_start_seconds": None if sandbox else manifest.timing.cold_start_seconds,
            "workload": kind,
            "picture": picture.value if picture else None,
            "label": _object_label(manifest.tool, asked),
            "mask_selects": admitted.mask_share,
            "warnings": [*notes, *_price_notes(planned.estimate_usd)],
        }
        shown = {name: _shorten_data_uris(value) for name, value in asked.items() if value is not None}
        provider = planned.call.provider
        driver = SANDBOX_KEY if sandbox else self.access.driver_key(provider)
        how = {"driver": driver, "overlay": asked.get("overlay")}
        key, quote = request_and_price_keys(principal, manifest, planned, how)
        account = None if sandbox else self.access.account_fingerprint(provider)
        where = (manifest.tool, manifest.id, provider, principal, sandbox)
        return NewJob(*where, shown, data, key, planned.estimate_usd, driver, account, admitted.file_hashes, quote)


async def job_output(context: JobContext, link: str) -> str:
    """The `artifact://` link of another job's output: `job://ID`, `job://ID/masks/1`, `job://ID/overlay`.

    Without a name it is the job's main output: its video, else its mask, if there is only one.

    Raises:
        UnknownJob: no such job.
        InvalidInput: it has no such output.
    """
    job_id, _, name = link.removeprefix("job://").partition("/")
    job = await context.ledger.job(job_id)
    outputs = await context.ledger.outputs(job.id)
    name = name.strip("/")
    masks = sum(output.role == "mask" for output in outputs)
    if name in ("", "mask", "masks") and masks > 1:
        hint = f"Name one of them: job://{job.id}/masks/0 and so on; get_job tells their labels."
        raise InvalidInput(f"The job has {masks} masks.", hint=hint, code="unknown_resource")
    name = name or ("video" if TOOLS[job.tool].result is VideoResult else "masks/0")
    known = _OUTPUT.fullmatch(name)
    wanted = (known["role"].replace("masks", "mask"), int(known["n"] or 0)) if known else None
    for output in outputs:
        if (output.role, output.n) == wanted:
            return f"artifact://{output.artifact.sha256}"
    raise InvalidInput(
        f"The job has no output {name[:40]!r}; it is {job.state}.",
        hint=_outputs_hint(job, outputs),
        code="unknown_resource",
    )


def _outputs_hint(job: Job, outputs: Sequence[Output]) -> str:
    if not job.is_final:
        return f"Call get_job with job_id {job.id} and wait_seconds, and ask again when it has succeeded."
    roles = dict.fromkeys(output.role for output in outputs)
    names = ", ".join("masks/0 and so on" if role == "mask" else role for role in roles)
    return f"It has {names}." if names else "It has none; call get_job to see why."


def parse_job_id(job_id: str) -> str:
    """The id in what a caller calls a job: an id or a `job://` link.

    Raises:
        UnknownJob: there is nothing in it.
    """
    bare = job_id.strip().removeprefix("job://").partition("/")[0]
    if not bare:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return bare


def _prompt_kinds_of(tool: ToolName, asked: Mapping[str, Json]) -> frozenset[PromptKind]:
    return prompt_kinds(asked) if tool == "segment_image" else frozenset()


def _object_label(tool: ToolName, asked: Mapping[str, Json]) -> str:
    words = asked.get("instruction") if tool == "segment_image" else None
    return str(words).strip()[:200] if words else ("object" if tool == "segment_image" else "area")


def _shorten_data_uris(given: Json) -> Json:
    """A data URI is bytes: they are not repeated in results."""
    if isinstance(given, list):
        return [_shorten_data_uris(one) for one in given]
    is_data = isinstance(given, str) and given.lstrip()[:5].lower() == "data:"
    return f"{given.strip()[:40]}…" if isinstance(given, str) and is_data else given


def _price_notes(estimate_usd: float | None) -> list[Json]:
    words = "The price of this model is not known, so the spending caps cannot count it."
    return [words] if estimate_usd is None else []
