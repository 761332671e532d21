"""What a dry run gives: the very request that would be sent, and its price."""

from typing import Any, cast

from rotoscope.contracts.results import AnyResult, Cost, JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import OverBudget
from rotoscope.jobs.budget import Caps, refuse_over_budget
from rotoscope.jobs.job import NewJob
from rotoscope.models.plan import Plan

__all__ = ["dry_run"]


def dry_run(new: NewJob, planned: Plan, caps: Caps) -> JobResult:
    """What a request would send and cost, as the result of its tool; nothing was sent and nothing is held."""
    notes = [*_seed_notes(new, planned), *_cap_notes(caps, new)]
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
        warnings=[*(str(one) for one in warnings), *notes] if isinstance(warnings, list) else [*notes],
        next_step="Call again without dry_run to run it.",
        dry_run=True,
        quote_key=new.quote_key,
        planned_input=dict(planned.call.input),
        **_of_the_mask(new),
    )


def _of_the_mask(new: NewJob) -> dict[str, Any]:
    """What an edit's result says, and no other's has a place for."""
    return {"mask_selects": new.data.get("mask_selects")}


def _seed_notes(new: NewJob, planned: Plan) -> list[str]:
    """A seed that nobody asked for is drawn for each run, and so differs from the one shown."""
    if not planned.drawn or "seed" not in TOOLS[new.tool].arguments.model_fields:
        return []
    return [f"A run draws a seed of its own; give seed: {planned.seed} to run this very request."]


def _cap_notes(caps: Caps, new: NewJob) -> list[str]:
    """A dry run spends nothing, so a cap that the run would pass is only told."""
    try:
        refuse_over_budget(caps, new.estimate_usd, 0, new.model)
    except OverBudget as error:
        return [f"{error.message} {error.hint}"]
    if new.estimate_usd is None and caps.unpriced == "ask" and not new.sandbox:
        return ["A run of unknown price is asked about first; the user should agree to it."]
    return []
