"""Outputs of jobs as inputs of others: files, or what a job that goes on is to make."""

from collections.abc import Mapping
from dataclasses import dataclass

from rotoscope.models.awaited import AwaitedOutput, OutputKind
from rotoscope.models.manifest import MediaKind

__all__ = ["OUTPUT_KINDS", "JobFile"]

OUTPUT_KINDS: Mapping[MediaKind, frozenset[OutputKind]] = {
    "image": frozenset({"image"}),
    "still": frozenset({"image", "video"}),
    "video": frozenset({"video"}),
    "audio": frozenset(),
    "visual": frozenset({"image", "video"}),
    "mask": frozenset({"image", "video"}),
}
"""Which outputs of jobs may be a medium of a kind."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """An output of a job, as a link names it.

    Attributes:
        job_id: the job's.
        output: its name, in one spelling.
        uri: the `artifact://` link of its file; None while the job goes on.
        kind: what it is.
    """

    job_id: str
    output: str
    uri: str | None
    kind: OutputKind

    @property
    def link(self) -> str:
        """The `job://` link, in one spelling."""
        return f"job://{self.job_id}/{self.output}"

    def as_awaited(self, n: int) -> str:
        """How a plan names it that waits for the job, as the n-th one."""
        return AwaitedOutput(n, self.kind, self.output).link
