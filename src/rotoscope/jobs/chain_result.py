"""What a result says of the jobs that give its job inputs: each as a step, and their cost with its own. Pure."""

from collections.abc import Sequence

from rotoscope.contracts.money import count_equal_words
from rotoscope.contracts.results import Cost, JobStep
from rotoscope.store.money import add_usd
from rotoscope.store.records import AwaitedJob, Job

__all__ = ["add_costs", "chain_fields", "describe_step", "job_cost"]


def job_cost(job: Job) -> Cost:
    """What one job costs, without the jobs that give it inputs. The sandbox charges nothing."""
    return Cost(
        estimate_usd=job.plan.estimate_usd,
        at_most_usd=job.plan.at_most_usd,
        charged_usd=0.0 if job.sandbox else job.charge.usd,
        basis=job.plan.price_basis,
    )


def chain_fields(job: Job, awaited: Sequence[AwaitedJob]) -> dict[str, object]:
    """The fields of a result that differ where other jobs give inputs; nothing where none does."""
    if not awaited:
        return {}
    steps = [describe_step(one.job, is_reused=not one.is_step) for one in awaited]
    own = describe_step(job, is_reused=False)
    paid = [(one.tool, one.cost) for one in (*steps, own) if not one.reused]
    return {"steps": [*steps, own], "cost": add_costs(paid)}


def add_costs(parts: Sequence[tuple[str, Cost]]) -> Cost:
    """The cost of several runs together, each with the name of its tool; a sum is null where a part of it is."""
    costs = [cost for _, cost in parts]
    return Cost(
        estimate_usd=add_usd([cost.estimate_usd for cost in costs]),
        at_most_usd=add_usd([cost.at_most_usd for cost in costs]),
        charged_usd=add_usd([cost.charged_usd for cost in costs]),
        basis="; ".join(count_equal_words([f"{tool}: {cost.basis}" for tool, cost in parts if cost.basis])),
    )


def describe_step(job: Job, *, is_reused: bool) -> JobStep:
    """One job of a chain; `is_reused`: it was there before, and its cost is no part of the chain's."""
    return JobStep(
        job_id=job.id,
        tool=job.tool,
        model=job.model,
        provider=job.provider,
        status=job.state,
        progress=job.progress,
        message=job.message,
        cost=job_cost(job),
        reused=is_reused,
    )
