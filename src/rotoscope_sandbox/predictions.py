"""A prediction of the sandbox: what was asked, what the worker did, and what status that means at a moment.

The status is a pure function of these facts and the time. Pretended waiting (a queue, a least run time) never
sleeps anywhere: it only decides which status is answered.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = ["HIDDEN", "AcceptedRequest", "Failure", "ForcedOutcome", "JsonObject", "Outcome", "Prediction", "RunStatus"]

HIDDEN = "hidden"
"""What Replicate answers as the version of a model that has none, as official models."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as it came from, or goes to, the wire."""


class RunStatus(StrEnum):
    """Where a prediction is. `ABORTED` and `EXPIRED` never ran: a deadline, or a start deadline, came first."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """What was asked for; written once, when the prediction is accepted.

    Attributes:
        id: the id on the wire.
        wire: `replicate`, `fal` or `segmind`.
        model: the model's name on that wire.
        version: what the caller gets as version; only Replicate has one.
        input: the model's input exactly as it was sent.
        created: when it was accepted, in seconds since the epoch.
        turn: orders predictions that were accepted in the same moment.
        queue_seconds: pretended time in the queue.
        run_seconds: the least time a run seems to take.
        deadline: when it is stopped, or None.
        start_by: when it must have started, or None.
        ends: `canceled` or `aborted` when the provider itself is to end it so; empty for the ordinary end.
        failure: the fields of the `Failure` it is to end with, or None.
    """

    id: str
    wire: str
    model: str
    version: str
    input: JsonObject
    created: float
    turn: int
    queue_seconds: float
    run_seconds: float
    deadline: float | None = None
    start_by: float | None = None
    ends: str = ""
    failure: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no output. `field` names the input at fault; `kind` is a word a program can switch on."""

    message: str
    kind: str = "internal_error"
    field: str | None = None


@dataclass(frozen=True, slots=True)
class ForcedOutcome:
    """What becomes of a prediction instead of its ordinary end; a fault decides it before it is accepted.

    Attributes:
        run_seconds: the least time its run seems to take, whatever the model has.
        ends: as in `AcceptedRequest`.
        failure: what it is to fail with.
        webhook: how its webhooks go wrong: one of the kinds of `odd-webhook`, or empty.
    """

    run_seconds: float | None = None
    ends: str = ""
    failure: Failure | None = None
    webhook: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the computation ended: exactly one of `output` and `failure` is set; `metrics` is what the model measured."""

    ended: float
    output: Any = None
    failure: Failure | None = None
    metrics: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Everything known about one prediction.

    `begun`, `logs` and `outcome` are the worker's facts; `canceled` is when somebody canceled it.
    """

    request: AcceptedRequest
    begun: float | None = None
    logs: tuple[str, ...] = ()
    outcome: Outcome | None = None
    canceled: float | None = None

    @property
    def started(self) -> float | None:
        """When the run seems to start: never before the pretended queue is over; never, if it is to be aborted."""
        if self.begun is None or self.request.ends == RunStatus.ABORTED:
            return None
        return max(self.request.created + self.request.queue_seconds, self.begun)

    @property
    def finished(self) -> float | None:
        """When the run seems to end: never before its least run time is over."""
        if self.started is None or self.outcome is None:
            return None
        return max(self.started + self.request.run_seconds, self.outcome.ended)

    def status(self, now: float) -> RunStatus:
        """Where the prediction is at a moment. The earliest of cancel, deadline and end decides."""
        early_end = self._early_end(now)
        if early_end is not None:
            return early_end
        if self.finished is not None and self.outcome is not None and self.finished <= now:
            return RunStatus.SUCCEEDED if self.outcome.failure is None else RunStatus.FAILED
        return RunStatus.RUNNING if self._is_running(now) else RunStatus.QUEUED

    def end_time(self, now: float) -> float | None:
        """When the final status was reached; None while there is none."""
        match self.status(now):
            case RunStatus.CANCELED if self.canceled is not None:
                return self.canceled
            case RunStatus.CANCELED | RunStatus.ABORTED if self.request.ends:
                return self._forced_end
            case RunStatus.CANCELED | RunStatus.ABORTED:
                return self.request.deadline
            case RunStatus.EXPIRED:
                return self.request.start_by
            case RunStatus.SUCCEEDED | RunStatus.FAILED:
                return self.finished
            case _:
                return None

    def failure(self, now: float) -> Failure | None:
        """Why the computation failed, once it has."""
        return self.outcome.failure if self.outcome is not None and self.status(now) is RunStatus.FAILED else None

    def _early_end(self, now: float) -> RunStatus | None:
        request = self.request
        if self.canceled is not None:
            return RunStatus.CANCELED
        if request.ends:
            is_over = self._forced_end is not None and self._forced_end <= now
            return RunStatus(request.ends) if is_over else None
        if request.start_by is not None and now >= request.start_by and not self._is_running(request.start_by):
            return RunStatus.EXPIRED
        if request.deadline is None or now < request.deadline:
            return None
        if self.finished is not None and self.finished <= request.deadline:
            return None
        return RunStatus.CANCELED if self._is_running(request.deadline) else RunStatus.ABORTED

    @property
    def _forced_end(self) -> float | None:
        """When the provider itself ends it: aborted before its start, or canceled after its run."""
        request = self.request
        if request.ends == RunStatus.ABORTED:
            # Not at once where no waiting is pretended: the answer to the submit has to show an open prediction.
            return None if self.outcome is None else request.created + request.queue_seconds
        return None if self.started is None else self.started + request.run_seconds

    def _is_running(self, now: float) -> bool:
        return self.started is not None and self.started <= now
