"""Planning: from the arguments of a paying tool call to the job that would be opened and the request it would send.

Media are decoded and measured for that, which may take longer than a client waits. So a plan is made by the process and
not by the request that asked for it: the work goes on when its client gives up, and an equal request joins it. A plan
that is ready waits some time for that request. Planning sends and spends nothing.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.contracts.arguments import Arguments, EditVideoWithMask, argument_strings, require_prompt
from rotoscope.contracts.targets import segmentation_of_target
from rotoscope.errors import InvalidInput, MissingKey, RotoscopeError, StillChecking, UserMistake
from rotoscope.media.intake import Intake
from rotoscope.media.paths import local_path
from rotoscope.models.access import explain_missing_key
from rotoscope.models.awaited import AwaitedOutput
from rotoscope.models.catalog import Access, Catalog, first_route_for_sizes, largest_upload_limit
from rotoscope.models.estimate import LearnedSeconds, estimate_price
from rotoscope.models.manifest import PROMPTED_TOOLS, Manifest, PromptKind, Route, ToolName
from rotoscope.models.options import OPTIONS_ARGUMENT, apply_options
from rotoscope.models.plan import CallPlan, plan_call, prompt_kinds, workload
from rotoscope.models.request_key import trim_arguments
from rotoscope.models.routing import rank_routes
from rotoscope.providers.http.messages import Json
from rotoscope.store.ledger import Ledger
from rotoscope.studio.new_jobs import (
    NO_INPUTS,
    CheckedRequest,
    PlannedJob,
    StepInputs,
    build_new_job,
    compute_request_keys,
    hoist_steps,
)
from rotoscope.studio.prices import PublishedPrices
from rotoscope.studio.validation import Admission, admit_media, check_inside_picture, explain_unsent_mask

__all__ = ["PlanCache", "PlannedJob", "Planner", "RequestPlan"]

_PLAN_SECONDS = 120.0  # for which a plan that nobody has used waits for an equal request


@dataclass(frozen=True, slots=True)
class RequestPlan(PlannedJob):
    """A request that was checked and planned, and has begun nothing.

    Attributes:
        is_dry_run: whether it was asked for only to be shown.
        key: equal for requests that this plan is good for.
        access: the providers that its principal can use.
    """

    is_dry_run: bool = False
    key: str = ""
    access: Access = field(kw_only=True)


@dataclass(slots=True)
class _Planning:
    """One plan that is being made: what came of it, or why the request is refused."""

    done: anyio.Event = field(default_factory=anyio.Event)
    ended_at: float | None = None
    outcome: PlannedJob | None = None
    error: Exception | None = None

    @property
    def result(self) -> PlannedJob:
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RotoscopeError("rotoscope is ending.", hint="Call again when it has started anew.", code="internal")
        return self.outcome


class PlanCache:
    """The plans that are being made in this process, and those that are ready and that nobody has used yet.

    Args:
        tasks: where they are made; it belongs to the process.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._known: dict[str, _Planning] = {}

    async def join(self, key: str, work: Callable[[], Awaitable[PlannedJob]], seconds: float) -> PlannedJob:
        """The plan of a request: one that is being made or ready already, or a new one.

        Args:
            key: equal for requests that one plan is good for.
            work: makes the plan.
            seconds: how long this request may wait.

        Raises:
            StillChecking: it is still being made; the request is to be made again.
            RotoscopeError: why the request is refused. An equal request after that is checked again.
        """
        self._drop_expired()
        planning = self._known.get(key)
        if planning is None:
            planning = self._known[key] = _Planning()
            self._tasks.start_soon(self._run, key, planning, work)
        with anyio.move_on_after(max(seconds, 0.0)):
            await planning.done.wait()
        if not planning.done.is_set():
            raise StillChecking(
                "The media of this request are still being checked; nothing was sent or spent yet.",
                hint="Call again with the very same arguments: it goes on from there.",
            )
        if planning.error is not None and self._known.get(key) is planning:
            del self._known[key]
        return planning.result

    def discard(self, plan: RequestPlan) -> None:
        """Forget a plan that was used: an equal request after this is checked again."""
        planning = self._known.get(plan.key)
        if planning is not None and planning.outcome is not None and planning.outcome.new_job is plan.new_job:
            del self._known[plan.key]

    async def _run(self, key: str, planning: _Planning, work: Callable[[], Awaitable[PlannedJob]]) -> None:
        try:
            planning.outcome = await work()
        except Exception as error:  # noqa: BLE001 - it is raised to those who wait; here it would end every job
            planning.error = error
        finally:
            planning.ended_at = anyio.current_time()
            if planning.outcome is None and planning.error is None:
                self._known.pop(key, None)
            planning.done.set()

    def _drop_expired(self) -> None:
        now = anyio.current_time()
        for key, planning in list(self._known.items()):
            if planning.ended_at is not None and now - planning.ended_at > _PLAN_SECONDS:
                del self._known[key]


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans.

    Attributes:
        ledger: knows how long the latest runs took.
        access_of: finds the providers that a principal can use.
        draw_seed: draws a seed.
        cache: the plans of this process.
        prices: what providers publish of their prices.
    """

    catalog: Catalog
    access_of: Callable[[str], Awaitable[Access]]
    intake: Intake
    ledger: Ledger
    draw_seed: Callable[[], int]
    cache: PlanCache
    prices: PublishedPrices

    async def plan(self, tool: str, arguments: Arguments, principal: str, seconds: float) -> RequestPlan:
        """Plan a request.

        Args:
            tool: the tool's name.
            arguments: what it is asked.
            principal: on whose behalf.
            seconds: how long the plan is waited for.

        Raises:
            StillChecking: it takes longer, and goes on.
            UserMistake, MissingKey: the request is refused.
        """
        access = await self.access_of(principal)
        key = await _compute_plan_key(tool, arguments, principal, access)
        planned = await self.cache.join(
            key, lambda: self._plan_chain(cast("ToolName", tool), arguments, principal, access), seconds
        )
        shown = bool(getattr(arguments, "dry_run", False))
        return RequestPlan(planned.new_job, planned.call_plan, planned.steps, shown, key, access=access)

    async def _plan_chain(self, tool: ToolName, arguments: Arguments, principal: str, access: Access) -> PlannedJob:
        """A job, with the step that finds what it changes where only that is named."""
        if not isinstance(arguments, EditVideoWithMask) or arguments.target is None:
            return await self.plan_job(tool, arguments, principal, access)
        require_prompt(arguments)
        steps = hoist_steps(await self.plan_job("segment_video", segmentation_of_target(arguments), principal, access))
        mask = AwaitedOutput(len(steps) - 1, "video", "mask")
        return await self.plan_job(tool, arguments, principal, access, StepInputs(steps, {"mask": mask}))

    async def plan_job(
        self,
        tool: ToolName,
        arguments: Arguments,
        principal: str,
        access: Access,
        inputs: StepInputs = NO_INPUTS,
    ) -> PlannedJob:
        """Plan one job.

        Args:
            tool: the tool's name.
            arguments: what it is asked.
            principal: on whose behalf.
            access: the providers that can be used.
            inputs: what other jobs give to it.

        Raises:
            UserMistake, MissingKey: the request is refused.
        """
        asked: dict[str, Json] = arguments.model_dump(mode="json", exclude={"model", "dry_run"})
        if not inputs.is_part:  # a part goes on from what its neighbour gives
            require_prompt(arguments)
        wanted = getattr(arguments, "model", None)
        try:
            kinds = _prompt_kinds_of(tool, {**asked, **{name: one.link for name, one in inputs.awaited.items()}})
            manifest, routes = self.catalog.choose(tool, kinds, wanted, access.is_usable)
        except MissingKey as error:
            raise explain_missing_key(error, self.catalog.providers, access, principal) from error
        ranked = rank_routes(manifest, routes, asked, self.catalog.providers)
        carrier = largest_upload_limit(ranked, self.catalog.providers)
        pass_urls = not access.sandbox  # the sandbox fetches nothing from the network, so it is given the bytes
        intake = _let_read(self.intake, inputs.readable) if inputs.readable else self.intake
        admit = partial(
            admit_media,
            intake,
            principal=principal,
            pass_urls=pass_urls,
            upload_limit=carrier,
            awaited=inputs.awaited,
            is_part=inputs.is_part,
        )
        checked = await _check_media(manifest.at(ranked[0]), asked, admit)
        route = first_route_for_sizes(ranked, self.catalog.providers, checked.media.upload_sizes)
        if route is not ranked[0]:
            # The best route does not take files of this size; the next one may have other inputs for them.
            checked = await _check_media(manifest.at(route), asked, admit)
        looked_at = checked.media.first_medium("image") or checked.media.first_medium("video")
        notes = [*checked.media.notes, *check_inside_picture(arguments, looked_at)]
        notes = [*explain_unsent_mask(checked.view, asked, is_named=wanted is not None), *notes]
        provider = self.catalog.providers[route.provider]
        route = route.model_copy(update={"form": provider.form_of(route.form)})
        if checked.media.part_limit is not None:
            return await self._plan_in_parts(tool, arguments, principal, access, inputs, checked, route, notes)
        planned, learned = await self._plan_call(checked, route, sandbox=access.sandbox)
        keys = compute_request_keys(principal, checked, planned, inputs, access, self._plan_job_form(checked, route))
        new_job = build_new_job(access, checked, planned, notes, principal, learned, inputs, keys)
        return PlannedJob(new_job, planned, () if inputs.is_part else inputs.steps)

    async def _plan_in_parts(
        self,
        tool: ToolName,
        arguments: Arguments,
        principal: str,
        access: Access,
        inputs: StepInputs,
        checked: CheckedRequest,
        route: Route,
        notes: Sequence[str],
    ) -> PlannedJob:
        """A job for each part of the clip, and one that joins what they give; that sends and costs nothing itself."""
        from rotoscope.studio.parts import PartPlanner, number_after_parts, plan_joining_call

        async def plan_part(part: Arguments, given: StepInputs) -> PlannedJob:
            return await self.plan_job(tool, part, principal, access, given)

        planner = PartPlanner(self.intake, checked, f"{checked.view.id}@{route.provider}", inputs, plan_part)
        split = await planner.plan_parts(arguments)
        checked = number_after_parts(checked, len(inputs.steps), len(split.steps))
        planned = plan_joining_call(checked, route, self.draw_seed, len(split.parts))
        whole = replace(inputs, steps=(*inputs.steps, *split.steps))
        keys = compute_request_keys(principal, checked, planned, whole, access, self._plan_job_form(checked, route))
        every = (*notes, *split.notes)
        new_job = build_new_job(access, checked, planned, every, principal, None, whole, keys, split.parts)
        return PlannedJob(new_job, planned, whole.steps)

    async def _plan_call(
        self, checked: CheckedRequest, route: Route, *, sandbox: bool
    ) -> tuple[CallPlan, LearnedSeconds | None]:
        """The call, and how long such runs took until now; a price of computing time is estimated by that."""
        view, lengths = checked.view, checked.media.lengths
        provider = self.catalog.providers[route.provider]
        planned = plan_call(
            checked.fillable, route, checked.values, self.draw_seed, lengths, provider=provider, priced_as=view
        )
        kind = workload(view, planned.call)
        learned = await self.ledger.learned_seconds(view.id, route.provider, kind, sandbox=sandbox)
        is_timed = view.price is not None and view.price.unit == "run_second"
        if learned is not None and is_timed and not sandbox:  # the sandbox takes its own time
            priced = estimate_price(
                view,
                planned.call.input,
                lengths,
                stops_at_deadline=provider.stops_at_deadline,
                learned=learned,
                provider_title=provider.title,
            )
            planned = replace(planned, estimate=priced)
        return await self._add_published_price(view, planned), learned

    def _plan_job_form(self, checked: CheckedRequest, route: Route) -> CallPlan | None:
        """The call of a request that names outputs of jobs, as it is while these go on; None where there is none."""
        form = checked.media.job_form
        if form is None:
            return None
        with suppress(InvalidInput):
            values = {**checked.given, **form.values}
            return plan_call(checked.fillable, route, values, self.draw_seed, checked.media.lengths)
        return None

    async def _add_published_price(self, view: Manifest, planned: CallPlan) -> CallPlan:
        """The plan, with an estimate that is not too low by the price that the provider publishes, if it does."""
        name = planned.call.provider
        if name not in self.prices.providers:
            return planned
        title = self.catalog.providers[name].title
        priced = await self.prices.adjust_estimate(planned.estimate, view.price, planned.call, title)
        return replace(planned, estimate=priced)


def _let_read(intake: Intake, hashes: frozenset[str]) -> Intake:
    """The intake, which takes some files more."""

    async def can_read(sha256: str, principal: str) -> bool:
        return sha256 in hashes or await intake.can_read(sha256, principal)

    return replace(intake, can_read=can_read)


async def _check_media(
    view: Manifest, asked: Mapping[str, Json], admit: Callable[[Manifest, Mapping[str, Json]], Awaitable[Admission]]
) -> CheckedRequest:
    trimmed = trim_arguments(view, asked)
    # With an option, an input is filled by an argument of its own; what the model is and costs stays the same.
    fillable, values = apply_options(view, trimmed) if trimmed.get(OPTIONS_ARGUMENT) else (view, trimmed)
    media = await admit(fillable.with_judging_mask() if view.edits_by_words else fillable, values)
    return CheckedRequest(view, fillable, trimmed, values, {**values, **media.values}, media)


def _prompt_kinds_of(tool: ToolName, asked: Mapping[str, Json]) -> frozenset[PromptKind]:
    return prompt_kinds(asked) if tool in PROMPTED_TOOLS else frozenset()


async def _compute_plan_key(tool: str, arguments: Arguments, principal: str, access: Access) -> str:
    """Equal for requests that are the same before anything of them was read, apart from `dry_run`.

    A file that was changed in between makes another request of it, and so does another key of its principal.
    """
    given: dict[str, Json] = arguments.model_dump(mode="json", exclude={"dry_run"})
    accounts: list[Json] = [] if access.own_for is None else [*map(access.account_fingerprint, sorted(access.keys))]
    asked: list[Json] = [principal, tool, given, accounts]
    return await anyio.to_thread.run_sync(_hash_request, asked, argument_strings(arguments))


def _hash_request(asked: list[Json], texts: list[str]) -> str:
    canonical = json.dumps([asked, [_file_state(text) for text in texts]], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _file_state(text: str) -> tuple[int, int] | None:
    """When a file was written last, and its size; None where a text is not the path of a file."""
    if "://" in text and not text.lower().startswith("file://"):
        return None
    try:
        found = local_path(text).expanduser().stat()
    except (UserMistake, OSError, ValueError, RuntimeError):
        return None
    return found.st_mtime_ns, found.st_size
