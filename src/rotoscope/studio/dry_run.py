"""The result of a dry run: the very request that would be sent, and its price."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from rotoscope.contracts.results import Cost, JobResult, JobStep, PlannedRequest
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import OverBudget
from rotoscope.jobs.chain_result import add_costs, describe_step
from rotoscope.jobs.context import JobContext
from rotoscope.models.alternatives import describe_alternatives, list_alternatives
from rotoscope.models.catalog import Catalog
from rotoscope.models.descriptions import describe_route_price
from rotoscope.models.manifest import PROMPTED_TOOLS, Manifest
from rotoscope.models.plan import CallPlan, awaited_files, kept_files, prompt_kinds, replace_media
from rotoscope.models.provider import Provider
from rotoscope.providers.dialects import Dialect
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, add_token
from rotoscope.store.money import Caps, refuse_over_budget
from rotoscope.store.records import Job, NewJob
from rotoscope.studio.planning import PlannedJob, RequestPlan
from rotoscope.studio.step_files import find_reused_steps

__all__ = ["build_planned_request", "show_dry_run"]

_DRY_RUN = "Dry run: nothing was sent and nothing was spent."
_CORRELATION_PLACEHOLDER = "(the job's own mark)"


async def show_dry_run(context: JobContext, plan: RequestPlan, caps: Caps) -> JobResult:
    """What a request would send and cost, as the result of its tool; nothing was sent and nothing is held.

    Its message names other models that the same request could go to, with their prices.
    """
    reused = await find_reused_steps(context, plan.new_job) if plan.steps else ()
    return _dry_run_result(plan, reused, caps, context.catalog, context.dialects)


def _dry_run_result(
    plan: RequestPlan,
    reused: Sequence[Job | None],
    caps: Caps,
    catalog: Catalog,
    dialects: Mapping[str, Dialect],
) -> JobResult:
    """See `show_dry_run`; `reused` has for each step of the plan the job whose result it would use, unpaid."""
    new, planned = plan.new_job, plan.call_plan
    chain = list(zip((*plan.steps, plan), (*reused, None), strict=True))
    paid = [one for one, found in chain if found is None]
    manifest = _manifest_of(plan, catalog)
    provider = catalog.providers[new.provider]
    call = _preview_call(manifest, provider, planned)
    cost = planned.estimate
    price_notes = [cost.price_note] if cost.price_note else []
    notes = [*_seed_notes(new, planned), *price_notes, *_cap_notes(caps, new.leave_out_steps(reused))]
    return TOOLS[new.tool].job_record(
        job_id="",
        status="succeeded",
        tool=new.tool,
        model=new.model,
        provider=new.provider,
        sandbox=new.sandbox,
        progress=1.0,
        message=" ".join(filter(None, (_DRY_RUN, _alternatives_text(new, catalog, plan.access.is_usable)))),
        elapsed_seconds=0.0,
        expected_seconds=_expected_seconds(paid),
        cost=add_costs([(one.new_job.tool, _cost_of(one)) for one in paid]) if plan.steps else _cost_of(plan),
        seed=planned.seed,
        request=dict(new.args),
        warnings=list(dict.fromkeys([*_step_warnings(plan), *new.warnings, *notes])),
        next_step="Call again without dry_run to run it.",
        dry_run=True,
        quote_key=new.quote_key,
        # A job that joins parts sends nothing.
        planned_input=None if new.plan.parts else _name_awaited_files(manifest, planned.call.input),
        planned_request=None if new.plan.parts else build_planned_request(dialects[new.provider], provider, call),
        **_video_fields(new, [_preview_step(*one, catalog, dialects) for one in chain] if plan.steps else []),
    )


def _step_warnings(plan: RequestPlan) -> Iterator[str]:
    """What the user should know of the steps; of a part of a clip that is said for the whole."""
    parts = {part.n for part in plan.new_job.plan.parts}
    for n, step in enumerate(plan.steps):
        yield from step.new_job.warnings if n not in parts else ()


def _cost_of(planned: PlannedJob) -> Cost:
    price = planned.call_plan.estimate
    return Cost(estimate_usd=price.typical_usd, at_most_usd=price.at_most_usd, charged_usd=0.0, basis=price.basis)


def _preview_step(
    planned: PlannedJob, reused: Job | None, catalog: Catalog, dialects: Mapping[str, Dialect]
) -> JobStep:
    """One job of a chain as it would be sent, or the one that is there already; nothing was sent."""
    if reused is not None:
        return describe_step(reused, is_reused=True)
    new, provider = planned.new_job, catalog.providers[planned.new_job.provider]
    call = _preview_call(_manifest_of(planned, catalog), provider, planned.call_plan)
    return JobStep(
        job_id="",
        tool=new.tool,
        model=new.model,
        provider=new.provider,
        status="queued",
        progress=0.0,
        message="The parts are joined; nothing is sent for that." if new.plan.parts else _DRY_RUN,
        cost=_cost_of(planned),
        planned_request=None if new.plan.parts else build_planned_request(dialects[new.provider], provider, call),
    )


def _name_awaited_files(manifest: Manifest, filled: Mapping[str, Json]) -> dict[str, object]:
    """An input with words in place of the files that do not exist yet."""
    words = dict.fromkeys(awaited_files(manifest, filled), "<the result of the step before>")
    return cast("dict[str, object]", replace_media(manifest, filled, words))


def _manifest_of(planned: PlannedJob, catalog: Catalog) -> Manifest:
    return catalog.find_at(planned.new_job.model, planned.new_job.provider, planned.call_plan.call.endpoint)


def _expected_seconds(chain: Sequence[PlannedJob]) -> float | None:
    known = [one.new_job.plan.expected_seconds for one in chain if one.new_job.plan.expected_seconds is not None]
    return sum(known) if known else None


def _alternatives_text(new: NewJob, catalog: Catalog, is_usable: Callable[[str], bool]) -> str:
    manifest = catalog.find(new.model)
    # As in planning: the other tools take one kind of prompt alone.
    kinds = prompt_kinds(new.args) if new.tool in PROMPTED_TOOLS else frozenset()
    media = {field.argument for field in manifest.inputs.values() if field.is_media and field.argument}
    given = {name for name in media if new.args.get(name)}
    placed = new.args.get("mask") is not None or new.args.get("target") is not None
    found = list_alternatives(
        catalog,
        manifest,
        is_usable,
        describe_route_price,
        kinds,
        given,
        needs_words=manifest.edits_by_words and not placed,
    )
    return describe_alternatives(found)


def _video_fields(new: NewJob, steps: Sequence[JobStep]) -> dict[str, Any]:
    """The fields that only the result of a video has; a record without them ignores these."""
    return {"mask_selects": new.plan.mask_selects, "steps": list(steps)}


def build_planned_request(dialect: Dialect, provider: Provider, call: Call) -> PlannedRequest:
    """The paying request of a call, as its dialect builds it; in place of the key stands the variable that holds it."""
    worded = dialect.submit(call)
    headers = {**provider.shown_headers, "Content-Type": "application/json"}
    body = worded.json if isinstance(worded.json, dict) else {}
    return PlannedRequest(
        method=worded.method,
        url=worded.url,
        headers={**headers, **worded.headers},
        body=cast("dict[str, object]", body),
    )


def _preview_call(manifest: Manifest, provider: Provider, planned: CallPlan) -> Call:
    """The call as a job sends it; what is known only once there is a job is described in words.

    A file has its address once it was uploaded. An address that the user gave gets the token of the job as its
    fragment, where nothing else in the request tells its run from others.
    """
    call = planned.call
    kept = kept_files(manifest, call.input)
    how = f"its address after the upload to {provider.title}" if provider.can_upload else "as a data URI"
    stand_ins = {value: f"<{value}, {how}>" for value in kept}
    stand_ins |= dict.fromkeys(awaited_files(manifest, call.input), f"<the result of the step before, {how}>")
    filled = replace_media(manifest, call.input, stand_ins)
    sent = Call(call.provider, call.endpoint, filled, call.version, call.form, call.deadline_seconds)
    uploads = list(stand_ins.values()) if provider.can_upload else []
    media = [name for name, field in manifest.inputs.items() if field.is_media]
    marked, token = add_token(sent, planned.drawn_inputs, uploads, media, "")
    if token is None or token.kind != "fragment":
        return marked
    value = marked.input[token.name]
    first = value[0] if isinstance(value, list) else value
    shown = str(first).replace(token.value, f"rs-{_CORRELATION_PLACEHOLDER}")
    named = {**marked.input, token.name: [shown, *value[1:]] if isinstance(value, list) else shown}
    return Call(call.provider, call.endpoint, named, call.version, call.form, call.deadline_seconds)


def _seed_notes(new: NewJob, planned: CallPlan) -> list[str]:
    """A note that a seed which the user did not give is drawn for each run, and so differs from the one shown."""
    if not planned.drawn_inputs or new.plan.parts or "seed" not in TOOLS[new.tool].arguments.model_fields:
        return []
    return [f"A run draws a seed of its own; give seed: {planned.seed} to run this very request."]


def _cap_notes(caps: Caps, new: NewJob) -> list[str]:
    """Notes on caps that the run would pass; the dry run itself spends nothing and is not refused."""
    try:
        refuse_over_budget(caps, new.total_estimate_usd, 0, new.model, new.total_at_most_usd)
    except OverBudget as error:
        return [f"{error.message} {error.hint}"]
    if new.total_estimate_usd is None and caps.unpriced == "ask" and not new.sandbox:
        return ["A run of unknown price is asked about first; the user should agree to it."]
    return []
