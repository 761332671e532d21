"""A job as the ledger holds it, and what a stage may change of it, as frozen records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rotoscope.contracts.status import Status
from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call
from rotoscope.store.job_data import ErrorRecord, JobChanges, JobData, JobPlan, PreparedRequest
from rotoscope.store.money import Settlement, add_usd

__all__ = [
    "ENDED_STATES",
    "FINAL_STATES",
    "STAGES",
    "UNPAID_STAGES",
    "Artifact",
    "AwaitedJob",
    "Job",
    "NewJob",
    "OpenResult",
    "Output",
    "Patch",
    "Stage",
    "Submission",
    "error_record",
]

_MAX_PROVIDER_MESSAGE = 2000  # characters

Stage = Literal["gather", "prepare", "submit", "watch", "fetch", "finish", "done"]

STAGES: tuple[Stage, ...] = ("gather", "prepare", "submit", "watch", "fetch", "finish", "done")
UNPAID_STAGES: frozenset[Stage] = frozenset({"gather", "prepare", "submit"})
"""Stages that need the account which is to be charged: the run is not known yet."""

ENDED_STATES: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
"""States in which it is known what became of a job, and so of its money."""

FINAL_STATES: frozenset[Status] = ENDED_STATES | {"needs_review"}
"""States in which no process drives a job. They are final but for two ways out: a review ends when a person decides or
the run's id arrives late, and a job that was paid for and has no result may be resumed (`store.resuming`)."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job when it is opened.

    Attributes:
        args: the request as understood.
        plan: what is to be sent, and what it is likely to take.
        request_key: equal for equal requests; None for one that joins nothing.
        estimate_usd: what it is likely to cost, in US dollars; None where no price is known.
        at_most_usd: what it can cost at most, which is held; None where that is the estimate.
        needs_key: what a process must hold to drive it: `provider@host`, or the sandbox; None: the provider's name.
        account: which key it was opened with, as a fingerprint; None where that does not matter.
        inputs: the hashes (hex) of the kept files that it was given.
        quote_key: equal for requests that one shown price is for: equal ones, whatever their seed.
        warnings: what the user should know, in sentences.
        request: what is sent, where no file has to be brought to the provider before: then the job begins at `submit`.
        steps: the jobs that are opened with it because it takes their outputs as arguments, in the order in which its
            plan names them (`models.awaited`). It is the last step itself.
        takes_from: the numbers of the steps whose outputs it takes itself: of its own ones, or, as a step, of those
            before it. A job with steps that names none takes all of them.
        waits_for: the ids of open jobs whose outputs it takes as well, numbered after the steps.
        joins_ended: whether, as a step, it may be a job that has succeeded; not where the files of that are gone.
        other_keys: keys that an equal request may have been opened under, when a job whose output it names went on.
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
    at_most_usd: float | None = None
    request: PreparedRequest | None = None
    steps: tuple["NewJob", ...] = ()
    waits_for: tuple[str, ...] = ()
    other_keys: tuple[str, ...] = ()
    joins_ended: bool = True
    takes_from: tuple[int, ...] = ()

    @property
    def total_estimate_usd(self) -> float | None:
        """What it is likely to cost with all of its steps, in US dollars; None where a price is not known."""
        if not self.steps:
            return self.estimate_usd
        return add_usd([self.estimate_usd, *(step.total_estimate_usd for step in self.steps)])

    @property
    def total_at_most_usd(self) -> float | None:
        """What it can cost at most with all of its steps, in US dollars; None where that is not known."""
        own = self.estimate_usd if self.at_most_usd is None else self.at_most_usd
        return add_usd([own, *(step.total_at_most_usd for step in self.steps)]) if self.steps else own

    def leave_out_steps(self, joined: Sequence["Job | None"]) -> "NewJob":
        """What is paid for: the job with those of its steps alone that join no job; `joined` has an entry for each."""
        new = (step for step, job in zip(self.steps, joined, strict=True) if job is None)
        return replace(self, steps=tuple(new))


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
    error: ErrorRecord | None
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
        """Whether no process drives it any more."""
        return self.state in FINAL_STATES

    @property
    def is_delivered(self) -> bool:
        """Whether its end was sent to a client, in time: to write that again would change nothing."""
        return self.delivered_at is not None and self.redelivery.until is None

    @property
    def may_have_files(self) -> bool:
        """Whether a file of its result may be kept already: `fetch` is the first stage that keeps any."""
        return self.stage not in ("gather", "prepare", "submit", "watch")

    @property
    def error_code(self) -> str | None:
        """The code of what is wrong with it; None where nothing is."""
        return self.error.code if self.error is not None else None

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
    """The job of a request.

    Attributes:
        is_joined: an equal request had opened it before.
        is_redelivery: its end was sent to a client already, so lately that the same client may have missed it.
        startable: the new jobs of the request that wait for no other.
    """

    job: Job
    is_joined: bool
    is_redelivery: bool = False
    startable: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitedJob:
    """A job whose outputs another one takes as arguments.

    Attributes:
        n: by which number the plan of the other one names it.
        job: as it is now.
        is_step: whether it was opened for the other one: then cost, progress and cancel of that hold for both.
    """

    n: int
    job: Job
    is_step: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """The intent to pay, committed before the paying request.

    Attributes:
        nonce: random, so that it names this intent and no later one of the same job; only its author withdraws it.
        intent_at: when it was written, in Unix seconds of our clock.
        is_new: whether the caller has just written it; only then may the caller send the request.
        token: what no other run's input can hold, as text (`providers.states.Token`); None: there is no such thing.
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
    """A file in the vault: its hash (hex), media type, size in bytes, and facts such as the `width` of a picture."""

    sha256: str
    content_type: str
    size: int
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """A file of a job: the n-th in its role, and at which URL the provider has it until when (Unix seconds)."""

    role: str
    n: int
    artifact: Artifact
    source_url: str | None = None
    source_expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Patch(JobChanges):
    """What a stage found, written in one transaction with the stage that comes next. None leaves a value as it is.

    Attributes:
        next_at: when the stage is tried again, not earlier, in Unix seconds; the next patch clears it.
        error: what is wrong now; while a job goes on, the next patch clears it.
        settlement: how the job's reservation ends, for a patch with a final state.
        inputs: the hashes (hex) of kept files that the job needs from now on, beside those that it was given.
        run_seconds: how long the run has worked at the provider, to be learned from; None where that was not seen.
    """

    stage: Stage | None = None
    state: Status | None = None
    next_at: float | None = None
    settlement: Settlement | None = None
    progress: float | None = None
    message: str | None = None
    error: ErrorRecord | None = None
    outputs: tuple[Output, ...] = ()
    inputs: tuple[str, ...] = ()
    run_seconds: float | None = None
    event: str = "changed"


def error_record(error: RotoscopeError) -> ErrorRecord:
    """An error as a job holds it, with the provider's words cut to a length that a row should have."""
    words = error.provider_message[:_MAX_PROVIDER_MESSAGE] if error.provider_message else None
    return ErrorRecord(error.code, error.message, error.hint, words)
