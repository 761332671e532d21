"""What a process takes up at its start: jobs that an internal fault or a full disk has stopped after the payment."""

import contextlib

from rotoscope.errors import StorageFailed
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.outputs import retention_seconds
from rotoscope.store.leases import JobDriver
from rotoscope.store.records import Job

__all__ = ["resume_stopped_jobs"]


async def resume_stopped_jobs(context: JobContext, dispatcher: Dispatcher, holder: JobDriver) -> None:
    """Go on with those of them that this process may drive and whose results the provider may still have."""

    def life_if_drivable(job: Job) -> float:
        can_drive = job.needs_key in holder.keys and job.model in holder.models
        return retention_seconds(context, job) if can_drive else 0.0

    with contextlib.suppress(StorageFailed):
        for job_id in await context.ledger.resume_failures_of_all_principals(life_if_drivable):
            dispatcher.take_up(job_id)
