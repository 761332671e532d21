"""The studio: one tool call from its arguments to its job, whoever asks: MCP, the command line, tests.

It is the one object that those above it talk to: they reach none of its parts. Every verb takes the principal on whose
behalf it acts, and what belongs to another principal is answered exactly like what does not exist.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.contracts.arguments import Arguments, CancelJob, GetJob, ListJobs, find_references
from rotoscope.contracts.results import AnyResult, JobList, JobRecord, JobResult, Status
from rotoscope.errors import StorageFailed, UnknownJob
from rotoscope.jobs.background import start_job_background
from rotoscope.jobs.charges import ChargeReader, ChargesRead
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.result import job_result, job_summary
from rotoscope.jobs.review import Review, check_prediction
from rotoscope.media.vault import FileAddress, enter_in_thread
from rotoscope.models.catalog import Access
from rotoscope.models.descriptions import describe_route_price
from rotoscope.models.manifest import Manifest
from rotoscope.store.money import Caps
from rotoscope.store.questions import Questions
from rotoscope.store.quotes import Quotes
from rotoscope.store.records import ENDED_STATES, Job, OpenResult
from rotoscope.store.reservations import DailySpend
from rotoscope.store.retention import Retention, SweepResult
from rotoscope.studio.links import JobLinks, parse_job_id
from rotoscope.studio.prices import PublishedPrices, RoutePrice
from rotoscope.studio.uploads import Uploads
from rotoscope.studio.waiting import JobCallback, JobWaiter, add_cancel_note, add_join_note

if TYPE_CHECKING:
    from rotoscope.models.alternatives import Alternative
    from rotoscope.studio.planning import Planner, RequestPlan

__all__ = ["Studio"]


@dataclass(frozen=True, slots=True)
class Studio:
    """Plans requests, opens jobs, waits for them and answers questions about them.

    Attributes:
        build_planner: gives the planner, built at its first use: questions about jobs do not need what it imports.
        questions: prices that calls wait to have agreed to, as tasks.
        owner: names this process, as the starter of the jobs that it opens; None: any may drive them.
        caps: what may be spent.
        prices: what providers publish of their prices.
        charges: what they have charged.
        uploads: takes files that are sent to us, by verbs of its own.
    """

    context: JobContext
    access: Access
    build_planner: "Callable[[], Planner]"
    links: JobLinks
    dispatcher: Dispatcher
    review: Review
    retention: Retention
    quotes: Quotes
    questions: Questions
    owner: str | None
    caps: Caps
    prices: PublishedPrices
    charges: ChargeReader
    uploads: Uploads

    def start_background(self, tasks: anyio.abc.TaskGroup) -> None:
        """Take over what other processes have left, and remove what is old; until the task group ends."""
        tasks.start_soon(self.dispatcher.run)
        tasks.start_soon(self.retention.run)
        tasks.start_soon(self.prices.run)
        start_job_background(tasks, self.context, self.dispatcher, self.review.holder)

    # A paying call: plan, perhaps ask for consent, then carry out.

    async def plan(self, tool: str, arguments: Arguments, principal: str, check_seconds: float = inf) -> "RequestPlan":
        """Check a paying request and plan it, once: the plan has its price, and everything that `start` needs.

        Args:
            tool: the tool's name.
            arguments: what it is asked.
            principal: on whose behalf.
            check_seconds: how long its media may be checked before this gives up waiting.

        Raises:
            StillChecking: that takes longer; it goes on, and an equal request takes it up.
            UserMistake, MissingKey: the request is refused.
        """
        return await self.build_planner().plan(tool, arguments, principal, check_seconds)

    async def start(
        self, plan: "RequestPlan", agreed_usd: float | None = None, question_id: str | None = None
    ) -> OpenResult:
        """Open the job of a plan and have it driven. A plan of an open job's request joins that job.

        Args:
            plan: what `plan` gave; it is used up.
            agreed_usd: up to which price a new run was agreed to, in US dollars; None: nobody need agree.
            question_id: the question that was answered with yes, which is used up; a new job gets its id.

        Raises:
            OverBudget, StorageFailed: the job is not begun; nothing was sent or spent.
        """
        self.build_planner().cache.discard(plan)
        caps = replace(self.caps, consent_usd=agreed_usd)
        if plan.steps:
            from rotoscope.studio.step_files import check_step_files

            plan = replace(plan, new_job=await check_step_files(self.context, plan.new_job))
        opening = await self.context.ledger.open(plan.new_job, caps, self.owner, question_id)
        for job in opening.startable:
            self.context.notifier.follow(job.id, opening.job.id)
            self.dispatcher.start(job.id)
        return opening

    async def find_open_job(self, plan: "RequestPlan") -> Job | None:
        """The job that `start` would join now, so that nothing more is paid; None where it would open a new one.

        Raises:
            OverBudget: a new one would pass a cap.
        """
        return await self.context.ledger.preview_open(plan.new_job, self.caps)

    async def carry_out(
        self,
        plan: "RequestPlan",
        budget: float,
        on_change: JobCallback | None = None,
        agreed_usd: float | None = None,
    ) -> JobResult:
        """Start a plan, as `start` does, and wait at most `budget` seconds for its job; of a dry run, show the plan."""
        deadline = anyio.current_time() + budget
        if plan.is_dry_run:
            from rotoscope.studio.dry_run import show_dry_run

            self.build_planner().cache.discard(plan)
            return await show_dry_run(self.context, plan, self.caps)
        begun = await self.start(plan, agreed_usd)
        job = await self.wait(begun.job, max(0.0, deadline - anyio.current_time()), on_change)
        if not begun.is_joined:
            return await self.result(job)
        await self._restore_files(job, deadline)
        return add_join_note(await self.result(job), begun)

    async def perform(
        self,
        tool: str,
        arguments: Arguments,
        principal: str,
        budget: float,
        on_change: JobCallback | None = None,
    ) -> JobResult | JobList:
        """Do what a tool promises, waiting at most `budget` seconds for its job; one that pays is not asked about.

        The result is not marked as delivered: `mark_delivered` is for the last moment before it goes out.

        Raises:
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
                plan = await self.plan(tool, arguments, principal)
                left = max(0.0, deadline - anyio.current_time())  # checking the media took its part
                return await self.carry_out(plan, left, on_change)

    # Consent: which prices were shown or asked about lately. A quote of one principal is none of another's.

    @property
    def quote_seconds(self) -> float:
        """How long a quote holds, in seconds."""
        return self.quotes.seconds

    @property
    def asks_about_unknown_price(self) -> bool:
        """Whether a run whose price is not known needs consent; the sandbox charges nothing."""
        return self.caps.unpriced == "ask" and not self.access.sandbox

    async def record_quote(self, principal: str, key: str, usd: float) -> None:
        """Remember for some minutes that a price was shown. Raises StorageFailed where it cannot be remembered."""
        await self.quotes.record_quote(principal, key, usd)

    async def has_valid_quote(self, principal: str, key: str, usd: float) -> bool:
        """Whether a price no lower than this was shown lately; the quote stays."""
        return await self.quotes.has_valid_quote(principal, key, usd)

    async def consume_quote(self, principal: str, key: str, usd: float) -> bool:
        """Whether a price no lower than this was shown lately; the quote is used up, as it covers one run."""
        return await self.quotes.consume_quote(principal, key, usd)

    # Jobs.

    async def job(self, job_id: str, principal: str) -> Job:
        """A job by its id or `job://` link.

        Raises:
            UnknownJob: the principal has no such job.
        """
        return await self.context.ledger.job(parse_job_id(job_id), principal)

    async def wait(self, job: Job, seconds: float, on_change: JobCallback | None = None) -> Job:
        """Wait until a job is final or in review, at most some seconds; `on_change` is called at every change until
        then.
        """
        return await self._waiter.wait(job, seconds, on_change)

    async def list(self, principal: str, status: Status | None, limit: int, seconds: float = 0.0) -> JobList:
        """The newest jobs of a principal, newest first; those that no process drives are driven for some seconds."""
        found = await self._waiter.newest_jobs(principal, status, limit, seconds)
        shown = [job_summary(await self._waiter.current_job(job)) for job in found]
        return JobList(jobs=[one for one in shown if status in (None, one.status)][:limit])

    async def cancel(self, job_id: str, principal: str) -> Job:
        """Ask for a job to be cancelled. Safe to repeat; a final job stays as it is.

        Raises:
            UnknownJob: the principal has no such job.
        """
        job = await self.context.ledger.request_cancel(parse_job_id(job_id), principal)
        await self._waiter.stop(job)
        return job

    async def resume(self, job_id: str, principal: str) -> Job:
        """Take up a job that has ended without its result although it was paid for; its provider is asked again.

        Raises:
            UnknownJob: the principal has no such job.
            InvalidInput: there is nothing to take up; the message says why.
        """
        job = await self.context.ledger.resume(parse_job_id(job_id), principal)
        self.dispatcher.take_up(job.id)
        self.context.notifier.notify_change(job.id)
        return job

    async def resolve_review(
        self, job_id: str, principal: str, prediction_id: str | None, *, force: bool = False
    ) -> Job:
        """Write what a person found out about a job that needs review: it ran as this prediction, or not at all (None).

        What the provider keeps of that prediction is compared with what the job has sent; `force` skips that.

        Raises:
            UnknownJob: the principal has no such job that needs review.
            InvalidInput: the prediction is not the job's.
        """
        if prediction_id is not None and not force:
            await check_prediction(self.context, await self.job(job_id, principal), prediction_id)
        return await self.context.ledger.resolve_review(parse_job_id(job_id), principal, prediction_id)

    async def result(self, job: Job, record_type: type[JobResult] | None = None) -> JobResult:
        """What a tool gives for a job, finished or not."""
        current, now = await self._waiter.current_job(job), self.context.clock()
        steps = await self.context.ledger.awaited_jobs(job)
        # Most questions are about jobs without files: nothing is read for them.
        if not job.may_have_files and record_type is not JobRecord:
            return job_result(current, (), self.context.vault, now, record_type, steps)
        outputs = await self.context.ledger.outputs(job.id, job.principal)
        return await anyio.to_thread.run_sync(job_result, current, outputs, self.context.vault, now, record_type, steps)

    async def deliver_result(self, job: Job) -> JobResult:
        """The result of a job for its principal, who asked for it: if the job has ended, it counts as delivered."""
        result = await self.result(job)
        await self.mark_delivered(result, job.principal)
        return result

    async def mark_delivered(self, result: JobResult, principal: str, *, late: bool = False) -> None:
        """Write that a result goes out to the principal who asked for it: an equal request then starts a new job.

        Only an answer to a tool call or a task is that. An answer that is `late` may reach nobody: equal requests get
        it again until something shows that it arrived. A job in review has not ended: what became of it is not known.
        """
        if result.status in ENDED_STATES and result.job_id:
            # Delivered twice is better than not at all: a disk that is full does not hide what was paid for.
            with contextlib.suppress(StorageFailed, UnknownJob):
                await self.context.ledger.mark_delivered(result.job_id, principal, late=late)

    async def note_job_use(self, arguments: Arguments, principal: str) -> None:
        """Write that the principal knows the results that a request names: an equal request to theirs is a new run."""
        job_ids, files = find_references(arguments)
        is_about_job = isinstance(arguments, GetJob | CancelJob)  # these are answered with the job's end anyway
        if (job_ids or files) and not is_about_job:
            with contextlib.suppress(StorageFailed):
                await self.context.ledger.mark_used(principal, job_ids, files)

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a listener with the id of every job that changes, until what is returned is called.

        It gets the ids of all principals' jobs, and passes them on only to those who may know of them.
        """
        return self.context.notifier.subscribe(listener)

    async def changed_job(self, job_id: str) -> Job:
        """A job that has changed, whosever it is: for passing on that it changed, to those who may know of it."""
        return await self.context.ledger.job_of_any_principal(job_id)

    # Files and models.

    async def output_link(self, link: str, principal: str) -> str:
        """The `artifact://` link of a job's output; see `JobLinks.output_link`."""
        return await self.links.output_link(link, principal)

    @asynccontextmanager
    async def open_artifact(self, sha256: str, principal: str) -> AsyncIterator[tuple[Path, FileAddress] | None]:
        """A local path of a stored file for the time of the block, and its address; None: none that may be read."""
        vault, address = self.context.vault, None
        if await self.links.can_read_artifact(sha256, principal):
            address = await anyio.to_thread.run_sync(vault.address, sha256)
        async with enter_in_thread(vault.open(sha256 if address is not None else "")) as path:
            yield (path, address) if path is not None and address is not None else None

    def manifest(self, model_id: str) -> Manifest:
        """What is known of a model. Raises UserMistake where there is none."""
        return self.context.catalog.find(model_id)

    async def alternatives(self, model_id: str, principal: str) -> "Sequence[Alternative]":
        """Other models of the same tool that take the same prompts, with their prices.

        Raises:
            UserMistake: there is no such model.
        """
        from rotoscope.models.alternatives import list_alternatives

        catalog, access = self.context.catalog, await self.context.access_of(principal, self.access)
        return list_alternatives(catalog, catalog.find(model_id), access.is_usable, describe_route_price)

    def manifests(self) -> Sequence[Manifest]:
        """What is known of every model."""
        return tuple(self.context.catalog.models.values())

    # For the operator, at the command line.

    async def open_jobs(self, principal: str) -> Sequence[Job]:
        """The jobs of a principal that this process may drive to their end."""
        found = []
        for job_id in await self.dispatcher.open_jobs():
            with contextlib.suppress(UnknownJob):
                found.append(await self.job(job_id, principal))
        return found

    async def idle_jobs(self, principal: str) -> Sequence[tuple[Job, str]]:
        """The jobs of a principal that no process drives, each with the reason as text."""
        return [(job, why) for job, why in await self.dispatcher.idle_jobs() if job.principal == principal]

    async def sweep(self) -> SweepResult:
        """Remove what is old enough, now."""
        return await self.retention.sweep()

    async def spending(self, since: float) -> Sequence[DailySpend]:
        """Every day's spending since a moment (Unix seconds), the newest day first."""
        return await self.context.ledger.spending_of_all_principals(since)

    async def read_charges(self) -> Sequence[ChargesRead]:
        """Ask providers what ended runs of unknown charge were charged."""
        return await self.charges.read_all()

    async def compare_prices(self, *, refresh: bool) -> tuple[Sequence[RoutePrice], Mapping[str, str]]:
        """Every route's price beside the published one, and why a provider did not answer now, by its name.

        Args:
            refresh: whether providers are asked now.
        """
        refusals = await self.prices.refresh() if refresh else {}
        return await self.prices.compare(), refusals

    @property
    def _waiter(self) -> JobWaiter:
        return JobWaiter(self.context, self.dispatcher, self.review)

    async def _restore_files(self, job: Job, until: float) -> None:
        """Put back files of a result that are gone, as far as that is possible until a moment of the loop's clock."""
        if job.state != "succeeded":
            return
        from rotoscope.jobs.restoring import restore_files

        with anyio.move_on_after(max(until - anyio.current_time(), 0.0)):
            await restore_files(self.context, job)
