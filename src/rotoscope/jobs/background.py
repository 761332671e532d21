"""What the job engine does beside its jobs, in every process that drives any."""

import anyio.abc

from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.held_files import put_held_files
from rotoscope.jobs.list_walks import walk_lists
from rotoscope.jobs.restarting import resume_stopped_jobs
from rotoscope.store.leases import JobDriver

__all__ = ["start_job_background"]


def start_job_background(
    tasks: anyio.abc.TaskGroup, context: JobContext, dispatcher: Dispatcher, holder: JobDriver
) -> None:
    """Look into providers' lists, take up what was stopped, and bring held files into the vault; until tasks end.

    A process that drives no jobs leaves the first two to those that do.
    """
    if dispatcher.drives:
        tasks.start_soon(walk_lists, context)
        tasks.start_soon(resume_stopped_jobs, context, dispatcher, holder)
    tasks.start_soon(put_held_files, context)
