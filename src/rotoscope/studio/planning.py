"""Planning: from the arguments of a paying tool call to the job that would be opened and the request it would send.

Media are decoded and measured for that, which may take longer than a client waits. So a plan is made by the process and
not by the request that asked for it: the work goes on when its client gives up, and an equal request joins it. A plan
that is ready waits some time for that request. Planning sends and spends nothing.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.contracts.arguments import Arguments, argument_strings, require_prompt
from rotoscope.errors import MissingKey, RotoscopeError, StillChecking, UserMistake
from rotoscope.media.intake import Intake
from rotoscope.media.paths import local_path
from rotoscope.models.access import explain_missing_key
from rotoscope.models.catalog import Access, Catalog, UploadLimit, first_route_for_sizes, largest_upload_limit
from rotoscope.models.estimate import Estimate, LearnedSeconds, estimate_price
from rotoscope.models.manifest import Manifest, PromptKind, Route, ToolName
from rotoscope.models.options import OPTIONS_ARGUMENT, apply_options
from rotoscope.models.plan import CallPlan, kept_files, plan_call, prompt_kinds, workload
from rotoscope.models.request_key import request_and_price_keys, trim_arguments
from rotoscope.models.routing import rank_routes
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import JobPlan, PreparedRequest
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import UnitPrice
from rotoscope.store.openings import SANDBOX_KEY
from rotoscope.store.records import NewJob
from rotoscope.studio.prices import PublishedPrices
from rotoscope.studio.validation import Admission, admit_media, check_inside_picture

__all__ = ["PlanCache", "Planner", "RequestPlan"]

_PLAN_SECONDS = 120.0  # for which a plan that nobody has used waits for an equal request
_SANDBOX_SECONDS: Mapping[ToolName, float] = {
    "segment_image": 1.5,
    "describe_with_masks": 1.5,
    "generate_video": 6.0,
    "edit_video_with_mask": 10.0,
}


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """A request that was checked and planned, and has begun nothing.

    Attributes:
        new_job: the job as it would be opened, with its price and the principal on whose behalf it runs.
        call_plan: the request that would be sent.
        is_dry_run: whether it was asked for only to be shown.
        key: equal for requests that this plan is good for.
        access: the providers that its principal can use.
    """

    new_job: NewJob
    call_plan: CallPlan
    is_dry_run: bool
    key: str
    access: Access


@dataclass(slots=True)
class _Planning:
    """One plan that is being made: what came of it, or why the request is refused."""

    done: anyio.Event = field(default_factory=anyio.Event)
    ended_at: float | None = None
    outcome: tuple[NewJob, CallPlan] | None = None
    error: Exception | None = None

    @property
    def result(self) -> tuple[NewJob, CallPlan]:
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RotoscopeError("rotoscope is ending.", hint="Call again when it has started anew.", code="internal")
        return self.outcome


@dataclass(frozen=True, slots=True)
class _CheckedRequest:
    """A request whose media were admitted, for one route of its model.

    Attributes:
        view: the model as the route has it.
        fillable: the same, with an argument of its own for each input that an option fills.
        asked: the arguments as understood, the options among them.
        values: what fills the inputs, by argument: files as links, options as arguments of their own.
    """

    view: Manifest
    fillable: Manifest
    asked: Mapping[str, Json]
    values: Mapping[str, Json]
    media: Admission


class PlanCache:
    """The plans that are being made in this process, and those that are ready and that nobody has used yet.

    Args:
        tasks: where they are made; it belongs to the process.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._known: dict[str, _Planning] = {}

    async def join(
        self, key: str, work: Callable[[], Awaitable[tuple[NewJob, CallPlan]]], seconds: float
    ) -> tuple[NewJob, CallPlan]:
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
        if planning is not None and planning.outcome is not None and planning.outcome[0] is plan.new_job:
            del self._known[plan.key]

    async def _run(self, key: str, planning: _Planning, work: Callable[[], Awaitable[tuple[NewJob, CallPlan]]]) -> None:
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
        new_job, call_plan = await self.cache.join(
            key, lambda: self._make_plan(cast("ToolName", tool), arguments, principal, access), seconds
        )
        return RequestPlan(new_job, call_plan, bool(getattr(arguments, "dry_run", False)), key, access)

    async def _make_plan(
        self, tool: ToolName, arguments: Arguments, principal: str, access: Access
    ) -> tuple[NewJob, CallPlan]:
        asked: dict[str, Json] = arguments.model_dump(mode="json", exclude={"model", "dry_run"})
        require_prompt(arguments)
        wanted = getattr(arguments, "model", None)
        try:
            manifest, routes = self.catalog.choose(tool, _prompt_kinds_of(tool, asked), wanted, access.is_usable)
        except MissingKey as error:
            raise explain_missing_key(error, self.catalog.providers, access, principal) from error
        ranked = rank_routes(manifest, routes, asked, self.catalog.providers)
        carrier = largest_upload_limit(ranked, self.catalog.providers)
        pass_urls = not access.sandbox  # the sandbox fetches nothing from the network, so it is given the bytes
        checked = await self._check_media(manifest.at(ranked[0]), asked, principal, carrier, pass_urls=pass_urls)
        route = first_route_for_sizes(ranked, self.catalog.providers, checked.media.upload_sizes)
        if route is not ranked[0]:
            # The best route does not take files of this size; the next one may have other inputs for them.
            checked = await self._check_media(manifest.at(route), asked, principal, carrier, pass_urls=pass_urls)
        notes = [*checked.media.notes, *check_inside_picture(arguments, checked.media.first_medium("image"))]
        planned, learned = await self._plan_call(checked, route, sandbox=access.sandbox)
        return _build_new_job(access, checked, planned, notes, principal, learned), planned

    async def _check_media(
        self,
        view: Manifest,
        asked: Mapping[str, Json],
        principal: str,
        carrier: UploadLimit | None,
        *,
        pass_urls: bool,
    ) -> _CheckedRequest:
        trimmed = trim_arguments(view, asked)
        # With an option, an input is filled by an argument of its own; what the model is and costs stays the same.
        fillable, values = apply_options(view, trimmed) if trimmed.get(OPTIONS_ARGUMENT) else (view, trimmed)
        media = await admit_media(self.intake, fillable, values, principal, pass_urls=pass_urls, upload_limit=carrier)
        return _CheckedRequest(view, fillable, trimmed, {**values, **media.values}, media)

    async def _plan_call(
        self, checked: _CheckedRequest, route: Route, *, sandbox: bool
    ) -> tuple[CallPlan, LearnedSeconds | None]:
        """The call, and how long such runs took until now; a price of computing time is estimated by that."""
        view, lengths = checked.view, checked.media.lengths
        provider = self.catalog.providers[route.provider]
        route = route.model_copy(update={"form": provider.form_of(route.form)})
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

    async def _add_published_price(self, view: Manifest, planned: CallPlan) -> CallPlan:
        """The plan, with an estimate that is not too low by the price that the provider publishes, if it does."""
        name = planned.call.provider
        if name not in self.prices.providers:
            return planned
        title = self.catalog.providers[name].title
        priced = await self.prices.adjust_estimate(planned.estimate, view.price, planned.call, title)
        return replace(planned, estimate=priced)


def _build_new_job(
    access: Access,
    checked: _CheckedRequest,
    planned: CallPlan,
    notes: Sequence[str],
    principal: str,
    learned: LearnedSeconds | None,
) -> NewJob:
    sandbox = access.sandbox
    manifest, asked, admitted = checked.view, checked.asked, checked.media
    picture = admitted.first_medium("image")
    price = planned.estimate
    guess = _SANDBOX_SECONDS[manifest.tool] if sandbox else manifest.timing.typical_seconds
    plan = JobPlan(
        call=planned.call,
        drawn_inputs=tuple(planned.drawn_inputs),
        seed=planned.seed,
        price=_unit_price(price),
        estimate_usd=price.typical_usd,
        at_most_usd=price.at_most_usd,
        price_basis=price.basis,
        on_failure=price.on_failure,
        on_cancel=price.on_cancel,
        expected_seconds=learned.median if learned else guess,
        known_runs=learned.runs if learned else 0,
        cold_start_seconds=None if sandbox else manifest.timing.cold_start_seconds,
        workload=workload(manifest, planned.call),
        picture=picture.value if picture else None,
        label=_object_label(manifest.tool, asked),
        mask_selects=admitted.mask_share,
        media=admitted.links,
    )
    warnings = (*notes, *_price_notes(price.typical_usd))
    shown = {name: _shorten_data_uris(value) for name, value in asked.items() if value is not None}
    provider = planned.call.provider
    driver = SANDBOX_KEY if sandbox else access.driver_key(provider)
    how: dict[str, Json] = {"driver": driver, "overlay": asked.get("overlay")}
    if asked.get("keep_outside"):  # named only where it is, so that the keys of older versions stay
        how["keep_outside"] = True
    key, quote = request_and_price_keys(principal, manifest, planned, how)
    account = None if sandbox else access.account_fingerprint(provider)
    where = (manifest.tool, manifest.id, provider, principal, sandbox)
    return NewJob(
        *where,
        shown,
        plan,
        key,
        price.typical_usd,
        driver,
        account,
        admitted.file_hashes,
        quote,
        warnings,
        price.at_most_usd,
        None if kept_files(manifest, planned.call.input) else PreparedRequest(planned.call.input),
    )


def _prompt_kinds_of(tool: ToolName, asked: Mapping[str, Json]) -> frozenset[PromptKind]:
    return prompt_kinds(asked) if tool == "segment_image" else frozenset()


def _object_label(tool: ToolName, asked: Mapping[str, Json]) -> str:
    words = asked.get("instruction") if tool == "segment_image" else None
    return str(words).strip()[:200] if words else ("object" if tool == "segment_image" else "area")


def _shorten_data_uris(given: Json) -> Json:
    """A data URI is bytes: they are not repeated in results."""
    if isinstance(given, list):
        return [_shorten_data_uris(one) for one in given]
    if isinstance(given, dict):
        return {name: _shorten_data_uris(one) for name, one in given.items()}
    is_data = isinstance(given, str) and given.lstrip()[:5].lower() == "data:"
    return f"{given.strip()[:40]}…" if isinstance(given, str) and is_data else given


def _unit_price(price: Estimate) -> UnitPrice | None:
    if price.unit_usd is not None:
        return UnitPrice(price.unit, price.unit_usd, price.added_units, price.minimum_usd, price.billed_unit_usd)
    # Without a price of its own only what the provider bills can be counted.
    return None if price.billed_unit_usd is None else UnitPrice("unknown", 0.0, billed_unit_usd=price.billed_unit_usd)


def _price_notes(estimate_usd: float | None) -> list[str]:
    words = "The price of this model is not known, so the spending caps cannot count it."
    return [words] if estimate_usd is None else []


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
