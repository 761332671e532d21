"""What of a planned call is paid for: a step whose result is there already, or is being made, costs nothing more."""

from rotoscope.store.records import NewJob
from rotoscope.studio.planning import RequestPlan
from rotoscope.studio.step_files import find_reused_steps
from rotoscope.studio.studio import Studio

__all__ = ["find_paid_part"]


async def find_paid_part(studio: Studio, plan: RequestPlan) -> NewJob:
    """The job of a plan with those of its steps alone that would be paid for with it."""
    new = plan.new_job
    return new.leave_out_steps(await find_reused_steps(studio.context, new)) if new.steps else new
