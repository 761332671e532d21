"""What a job carries beside its columns, in typed records; `store.job_json` reads and writes them.

Each record is written as a whole, and by one author at a time. So a change names the records that it replaces, and two
authors, such as the process that watches a run and the one that cancels it, do not overwrite each other's findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, Ticket
from rotoscope.store.money import RunCost, UnitPrice

__all__ = [
    "AcceptedRun",
    "Charge",
    "ErrorRecord",
    "FetchEffort",
    "HeldFile",
    "JobChanges",
    "JobData",
    "JobPart",
    "JobPlan",
    "MeasuredResult",
    "PreparedRequest",
    "ProviderOutput",
    "Redelivery",
    "RunReference",
    "SubmitEffort",
    "WatchState",
    "apply_changes",
    "run_cost",
]


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """What is wrong with a job: a code for programs, a sentence, what to do about it, and the provider's own words."""

    code: str
    message: str
    hint: str = ""
    provider_message: str | None = None


@dataclass(frozen=True, slots=True)
class JobPart:
    """A part of a clip for which there is a job: its number among the awaited ones, first frame and count of frames."""

    n: int
    first: int
    frames: int


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What was planned when the job was opened. It changes once, where other jobs give some of its files: as they come.

    Attributes:
        call: the request, with `artifact://` links for files; None only where a row holds none that can be read.
        drawn_inputs: the inputs for which we drew a seed.
        seed: the seed that is sent, drawn or given.
        price: what one unit of the model costs; None where no price is known.
        estimate_usd: what the run is likely to cost, in US dollars; None where no price is known.
        at_most_usd: what it can cost at most; None where no price is known, and in rows of older versions.
        price_basis: how that was computed, in words.
        on_failure: whether the provider charges a run that fails; None where that is not known.
        on_cancel: whether it charges one that is cancelled at work.
        expected_seconds: how long such a run usually works.
        known_runs: how many runs `expected_seconds` was learned from; None in rows of older versions.
        cold_start_seconds: how long the model's machine takes to start; None where it is always warm, or not known.
        workload: what decides how long a run takes, as text.
        picture: the picture that masks are painted on, as a link.
        label: what a mask without a phrase is called.
        mask_selects: how much of the frame the mask of an edit selects, as its result shows it.
        media: the links of the files that were given, by argument; none in rows of older versions.
        awaited_jobs: how many other jobs give some of these files.
        parts: the parts of the clip whose results are joined; then the job sends nothing itself.
    """

    call: Call | None = None
    drawn_inputs: tuple[str, ...] = ()
    seed: int | None = None
    price: UnitPrice | None = None
    estimate_usd: float | None = None
    at_most_usd: float | None = None
    price_basis: str = ""
    on_failure: bool | None = None
    on_cancel: bool | None = None
    expected_seconds: float | None = None
    known_runs: float | None = None
    cold_start_seconds: float | None = None
    workload: str = ""
    picture: str | None = None
    label: str = "mask"
    mask_selects: Mapping[str, Json] | None = None
    media: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    awaited_jobs: int = 0
    parts: tuple[JobPart, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The input as it is sent, with the provider's addresses in place of our files, and which of them we uploaded."""

    input: Mapping[str, Json]
    uploads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitEffort:
    """What it has taken to submit the request.

    Attributes:
        refusals: how often it was sent and certainly not accepted.
        late_looks: how often the provider's list was read after the usual time for that was up.
        was_resent: whether it was sent again although it may have been accepted before.
    """

    refusals: int = 0
    late_looks: int = 0
    was_resent: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """A run that the provider has accepted: how to ask about it, and when that was known (Unix seconds)."""

    ticket: Ticket
    at: float | None


@dataclass(frozen=True, slots=True)
class RunReference:
    """By what name a person finds the run at the provider: its id, and its page where there is one."""

    id: str
    web_url: str | None = None


@dataclass(frozen=True, slots=True)
class WatchState:
    """What was seen of a run so far, so that the next process that watches it goes on from there.

    Attributes:
        seconds: for how many seconds it was watched; None where no process has noted it.
        noted_at: when that was noted, in Unix seconds.
        working_at: after how many watched seconds it was first seen at work; None while it waits. A row of a version
            that did not note it says 0: the whole time counts as work.
        model_progress: what the model's own logs say, 0 to 1.
        was_found: whether the provider has ever answered that it knows the run.
        silent_seconds: for how many watched seconds the provider has not answered.
        stale_since: since when it does not answer, in Unix seconds; None while it does.
    """

    seconds: float | None = None
    noted_at: float | None = None
    working_at: float | None = None
    model_progress: float | None = None
    was_found: bool = False
    silent_seconds: float = 0.0
    stale_since: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderOutput:
    """How the provider has reported the success of a run.

    Attributes:
        output: the output as the provider words it, with addresses of files.
        metrics: what it has measured, by its own names.
        measured: what of that a price may count, by the unit of the price.
        ready_at: when we knew of it, in Unix seconds.
    """

    output: Json = None
    metrics: Mapping[str, Json] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of the result that is on the disk of the host that fetched it, until the object store takes it.

    Attributes:
        url: where it was fetched from.
        sha256: of the content, in hex.
        size: in bytes.
    """

    url: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class FetchEffort:
    """What was done to fetch the files of the result.

    Attributes:
        seconds: for how long they were tried to fetch.
        refetches: how often they had gone again.
        held: those that are fetched and not yet in the vault.
    """

    seconds: float = 0.0
    refetches: int = 0
    held: tuple[HeldFile, ...] = ()


@dataclass(frozen=True, slots=True)
class MeasuredResult:
    """The result without its files, as the tool's result shows it.

    Attributes:
        text: what the model said.
        masks: one row for each mask.
        segments: one row for each phrase.
        frames: one row for each frame of a clip that an object was followed through.
        changes: what an edit has changed; None where that is not known, and in rows of older versions.
    """

    text: str | None = None
    masks: tuple[Mapping[str, Json], ...] = ()
    segments: tuple[Mapping[str, Json], ...] = ()
    frames: tuple[Mapping[str, Json], ...] = ()
    changes: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Whether the provider has charged for the run, and how many US dollars; None where that is not known.

    Attributes:
        measured: of a run without output, what the provider has measured of what a price may count.
    """

    is_charged: bool | None = None
    usd: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Until when (Unix seconds) an equal request gets the end of this job once more, because it was delivered late."""

    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobData:
    """Everything that a job carries beside its columns.

    Attributes:
        plan: what was planned when it was opened.
        request: the request as it is sent; None until its files are where the provider reads them.
        submit_effort: what it has taken to submit it.
        accepted: the run at the provider; None until it is known, and for a provider that answers at once.
        run: the name of the run for a person.
        watch: what was seen of the run.
        log_tail: the last lines of the model's own log, cleaned; empty where the provider shows none.
        provider_output: what the provider has given; None until the run has succeeded there.
        fetch_effort: what it has taken to fetch the result.
        result: the result without its files; None until it was made.
        warnings: what the user should know, in sentences.
        charge: what was charged.
        stage_retries: how often in a row the present stage has failed by a fault that says nothing of the run.
        uncancellable_at: the title of a provider that was asked for a cancel and cannot stop a run.
        redelivery: whether the end was delivered so late that it is delivered once more.
    """

    plan: JobPlan = JobPlan()
    request: PreparedRequest | None = None
    submit_effort: SubmitEffort = SubmitEffort()
    accepted: AcceptedRun | None = None
    run: RunReference | None = None
    watch: WatchState = WatchState()
    log_tail: tuple[str, ...] = ()
    provider_output: ProviderOutput | None = None
    fetch_effort: FetchEffort = FetchEffort()
    result: MeasuredResult | None = None
    warnings: tuple[str, ...] = ()
    charge: Charge = Charge()
    stage_retries: int = 0
    uncancellable_at: str | None = None
    redelivery: Redelivery = Redelivery()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChanges:
    """What changes of a job's data, by the same names: each record replaces the one that stands, None leaves it."""

    plan: JobPlan | None = None
    request: PreparedRequest | None = None
    submit_effort: SubmitEffort | None = None
    accepted: AcceptedRun | None = None
    run: RunReference | None = None
    watch: WatchState | None = None
    log_tail: tuple[str, ...] | None = None
    provider_output: ProviderOutput | None = None
    fetch_effort: FetchEffort | None = None
    result: MeasuredResult | None = None
    warnings: tuple[str, ...] | None = None
    charge: Charge | None = None
    stage_retries: int | None = None
    uncancellable_at: str | None = None
    redelivery: Redelivery | None = None


Data = TypeVar("Data", bound=JobData)


def apply_changes(data: Data, changes: JobChanges) -> Data:
    """A job's data, or the job itself, with some changes."""
    changed = {name: getattr(changes, name) for name in JobChanges.__slots__}
    return replace(data, **{name: value for name, value in changed.items() if value is not None})


def run_cost(data: JobData) -> RunCost:
    """What a job's data says of the cost of its run."""
    return RunCost(
        price=data.plan.price,
        estimate_usd=data.plan.estimate_usd,
        at_most_usd=data.plan.at_most_usd,
        is_charged=data.charge.is_charged,
        has_output=data.provider_output is not None,
        measured=data.provider_output.measured if data.provider_output is not None else data.charge.measured,
        was_resent=data.submit_effort.was_resent,
    )
