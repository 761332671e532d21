"""How links name the outputs of a job: `video`, `overlay`, `masks/1`; and what `job://ID` alone means. Pure."""

import re
from collections.abc import Sequence

from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput
from rotoscope.store.records import Job, Output

__all__ = ["may_have_output", "output_name", "require_output"]

_NAME = re.compile(r"(?P<role>[a-z]+)(?:/(?P<n>[0-9]{1,4}))?", re.ASCII)
_THE_MASK = ("", "mask", "masks")
"""The one mask of a job: where it has several, one of them must be named."""


def output_name(job: Job, name: str) -> str:
    """A name in one spelling: the main output's where none is given, `mask` for the one mask of a job."""
    main = TOOLS[job.tool].job_record.main_output
    if main == "masks/0":
        return "mask" if name in _THE_MASK else name
    return name or main


def may_have_output(job: Job, name: str) -> bool:
    """Whether a job that goes on can be expected to have an output: how many masks it finds is not known before."""
    record, found = TOOLS[job.tool].job_record, output_name(job, name)
    return found in {"mask", "masks/0"} if record.main_output == "masks/0" else found == record.main_output


def require_output(job: Job, outputs: Sequence[Output], name: str) -> Output:
    """The output of a job with a name; its main output where that is empty.

    Raises:
        InvalidInput: it has none of that name, or several masks and none is named.
    """
    main = TOOLS[job.tool].job_record.main_output
    masks = sum(output.role == "mask" for output in outputs)
    if main == "masks/0" and name in _THE_MASK and masks > 1:
        hint = f"Name one of them: job://{job.id}/masks/0 and so on; get_job tells their labels."
        raise InvalidInput(f"The job has {masks} masks.", hint=hint, code="unknown_resource")
    known = _NAME.fullmatch(name or main)
    wanted = (known["role"].replace("masks", "mask"), int(known["n"] or 0)) if known else None
    found = next((output for output in outputs if (output.role, output.n) == wanted), None)
    if found is None:
        raise InvalidInput(
            f"The job has no output {(name or main)[:40]!r}; it is {job.state}.",
            hint=_outputs_hint(job, outputs),
            code="unknown_resource",
        )
    return found


def _outputs_hint(job: Job, outputs: Sequence[Output]) -> str:
    if not job.is_final:
        return f"Call get_job with job_id {job.id} and wait_seconds, and ask again when it has succeeded."
    roles = dict.fromkeys(output.role for output in outputs)
    names = ", ".join("masks/0 and so on" if role == "mask" else role for role in roles)
    return f"It has {names}." if names else "It has none; call get_job to see why."
