"""A job as the ledger remembers it, and what a stage may change of it. Frozen data and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rotoscope.contracts.status import Status
from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call
from rotoscope.store.job_data import JobChanges, JobData, JobPlan
from rotoscope.store.money import Settlement

__all__ = [
    "ENDED_STATES",
    "FINAL_STATES",
    "STAGES",
    "Artifact",
    "Job",
    "NewJob",
    "OpenResult",
    "Output",
    "Patch",
    "Stage",
    "Submission",
    "error_record",
]

Stage = Literal["prepare", "submit", "watch", "fetch", "finish", "done"]

STAGES: tuple[Stage, ...] = ("prepare", "submit", "watch", "fetch", "finish", "done")
ENDED_STATES: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
"""States in which it is known what became of a job, and so of its money."""

FINAL_STATES: frozenset[Status] = ENDED_STATES | {"needs_review"}
"""States in which nobody drives a job. A final state is final, but for `needs_review`: a person, or the provider's id
when it comes after all, ends the doubt; and but for what `jobs.resuming` takes up again."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job when it is opened.

    Attributes:
        args: the request as understood.
        plan: what is to be sent, and what it is likely to take.
        request_key: equal for equal requests; None for one that joins nothing.
        estimate_usd: what it is likely to cost, in US dollars; None where no price is known.
        needs_key: what a process must hold to drive it: `provider@host`, or the sandbox; None: the provider's name.
        account: which key it was opened with, as a fingerprint; None where that does not matter.
        inputs: the hashes (hex) of the kept files that it was given.
        quote_key: equal for requests that one shown price is for: equal ones, whatever their seed.
        warnings: what the user should know, in sentences.
    """

    tool: str
    model: str
    provider: str
    principal: str
    sandbox: bool
    args: Mapping[str, Json]
    plan: JobPlan
    request_key: str | None = None
    estimate_usd: float | None = None
    needs_key: str | None = None
    account: str | None = None
    inputs: tuple[str, ...] = ()
    quote_key: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job(JobData):
    """One row of the ledger: its columns, and what it carries. Times are Unix seconds."""

    id: str
    tool: str
    model: str
    provider: str
    principal: str
    sandbox: bool
    state: Status
    stage: Stage
    args: Mapping[str, Json]
    progress: float
    message: str
    error: Mapping[str, str] | None
    cancel_requested: bool
    owner: str | None
    fence: int
    created_at: float
    updated_at: float
    finished_at: float | None
    delivered_at: float | None = None
    next_at: float | None = None
    needs_key: str | None = None
    account: str | None = None
    told_again_at: float | None = None
    lease_until: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether nobody drives it any more."""
        return self.state in FINAL_STATES

    @property
    def call(self) -> Call:
        """The request that was planned, with links to our files.

        Raises:
            StorageFailed: the row holds none that can be read.
        """
        if self.plan.call is None:
            raise StorageFailed("The plan of this job cannot be read from the ledger.", hint="Call the tool again.")
        return self.plan.call


@dataclass(frozen=True, slots=True)
class OpenResult:
    """A job that was asked for.

    Attributes:
        is_joined: an equal request had opened it before.
        is_redelivery: its end was told already, so lately that whoever asks again may have missed it.
    """

    job: Job
    is_joined: bool
    is_redelivery: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """The intent to pay, committed before the paying request.

    Attributes:
        nonce: names this very intent; only who wrote it may take it back.
        intent_at: when it was written, in Unix seconds of our clock.
        is_new: whether it was written just now, by who has it.
        token: what no other run's input can hold, as text (see `predictions.tokens`); None: there is no such thing.
        clock_offset: the provider's clock minus ours at the intent, in seconds; None where it was not known.
    """

    job_id: str
    nonce: str
    intent_at: float
    prediction_id: str | None
    is_new: bool
    token: str | None = None
    clock_offset: float | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kept file: hash, media type, size in bytes, and what is known of the medium (`width`, `height`)."""

    sha256: str
    content_type: str
    size: int
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """A kept file in its role in a job: the n-th of that role, and where the provider has it until when."""

    role: str
    n: int
    artifact: Artifact
    source_url: str | None = None
    source_expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Patch(JobChanges):
    """What a stage found, written in one transaction with the stage that comes next. None leaves a value as it is.

    Attributes:
        next_at: not before this is the stage tried again, in Unix seconds; it never outlives the patch after it.
        error: stays with a job that goes on only until the next patch.
        settlement: how the job's reservation ends, for a patch with a final state.
    """

    stage: Stage | None = None
    state: Status | None = None
    next_at: float | None = None
    settlement: Settlement | None = None
    progress: float | None = None
    message: str | None = None
    error: Mapping[str, str] | None = None
    outputs: tuple[Output, ...] = ()
    event: str = "changed"


def error_record(error: RotoscopeError) -> dict[str, str]:
    """An error as a row holds it."""
    said = {"said": error.provider_message[:2000]} if error.provider_message else {}
    return {"code": error.code, "message": error.message, "hint": error.hint, **said}
