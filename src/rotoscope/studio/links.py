"""Links to what jobs have made, each read on behalf of a principal: `job://ID/...` and `artifact://SHA256`.

What belongs to another principal is answered exactly like what does not exist.
"""

from dataclasses import dataclass

from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import UnknownJob
from rotoscope.media.job_files import JobFile
from rotoscope.models.awaited import OutputKind
from rotoscope.store.ledger import Ledger
from rotoscope.store.output_names import may_have_output, output_name, require_output
from rotoscope.store.records import Output

__all__ = ["JobLinks", "parse_job_id"]


@dataclass(frozen=True, slots=True)
class JobLinks:
    """Finds out where links lead.

    Attributes:
        ledger: holds the jobs and their outputs.
    """

    ledger: Ledger

    async def output_link(self, link: str, principal: str) -> str:
        """The `artifact://` link of a job's output: `job://ID`, `job://ID/masks/1`, `job://ID/overlay`.

        Without a name it is the job's main output: its video, else its mask, if there is only one.

        Raises:
            UnknownJob: the principal has no such job.
            InvalidInput: it has no such output.
        """
        job_id, _, name = link.removeprefix("job://").partition("/")
        job = await self.ledger.job(job_id, principal)
        return _link_of(require_output(job, await self.ledger.outputs(job.id, principal), name.strip("/")))

    async def find_input(self, link: str, principal: str) -> JobFile:
        """What a link names as an input of another job: a file, or an output of a job that goes on.

        Raises:
            UnknownJob: the principal has no such job.
            InvalidInput: it has no such output, or is not to have one.
        """
        job_id, _, name = link.removeprefix("job://").partition("/")
        job, name = await self.ledger.job(job_id, principal), name.strip("/")
        found = output_name(job, name)
        kind: OutputKind = "video" if found in TOOLS[job.tool].job_record.film_outputs else "image"
        uri = None
        if job.is_final or not may_have_output(job, name):
            uri = _link_of(require_output(job, await self.ledger.outputs(job.id, principal), name))
        return JobFile(job.id, found, uri, kind)

    async def preview_link(self, link: str, principal: str) -> str:
        """The `artifact://` link of what shows a job's result best; where the link names an output, of that.

        Raises:
            UnknownJob: the principal has no such job.
            InvalidInput: it has no such output.
        """
        name = link.removeprefix("job://").partition("/")[2].strip("/")
        job = await self.ledger.job(parse_job_id(link), principal)
        outputs = await self.ledger.outputs(job.id, principal)
        roles = {output.role for output in outputs}
        best, otherwise = TOOLS[job.tool].job_record.preview_outputs
        return _link_of(require_output(job, outputs, name or (best if best in roles else otherwise)))

    async def can_read_artifact(self, sha256: str, principal: str) -> bool:
        """Whether a kept file may be read: a job of the principal's uses it, the principal uploaded it, or nobody did.

        What no job uses and nobody uploaded was given or shown a moment ago, such as the picture of a dry run; only who
        has that content can name it by its hash.
        """
        return await self.ledger.can_read_artifact(sha256, principal)


def parse_job_id(job_id: str) -> str:
    """The id in what a caller calls a job: an id or a `job://` link.

    Raises:
        UnknownJob: there is nothing in it.
    """
    bare = job_id.strip().removeprefix("job://").partition("/")[0]
    if not bare:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return bare


def _link_of(output: Output) -> str:
    return f"artifact://{output.artifact.sha256}"
