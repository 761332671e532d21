"""A prediction of the sandbox: what was asked, what the worker did, and what that means at a moment.

The stage is a pure function of these facts and the time. Pretended waiting (a queue, a least run time) never
sleeps anywhere: it only decides what is told.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = ["HIDDEN", "Failure", "Fate", "JsonObject", "Order", "Outcome", "Prediction", "Stage"]

HIDDEN = "hidden"
"""What is told as the version of a model that has none, as official models on Replicate."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as it came from, or goes to, the wire."""


class Stage(StrEnum):
    """Where a prediction is. `ABORTED` and `EXPIRED` never ran: a deadline, or a start deadline, came first."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (Stage.QUEUED, Stage.RUNNING)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for; written once, when the prediction is accepted.

    Attributes:
        id: the id on the wire.
        wire: `replicate`, `fal` or `segmind`.
        model: the model's name on that wire.
        version: what the caller is told as version; only Replicate has one.
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
class Fate:
    """What is to become of a prediction instead of its ordinary end; a fault decides it before it is accepted.

    Attributes:
        run_seconds: the least time its run seems to take, whatever the model says.
        ends: as in `Order`.
        failure: what it is to fail with.
        webhook: how its webhooks go wrong: one of the kinds of F26, or empty.
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

    order: Order
    begun: float | None = None
    logs: tuple[str, ...] = ()
    outcome: Outcome | None = None
    canceled: float | None = None

    @property
    def started(self) -> float | None:
        """When the run seems to start: never before the pretended queue is over; never, if it is to be aborted."""
        if self.begun is None or self.order.ends == Stage.ABORTED:
            return None
        return max(self.order.created + self.order.queue_seconds, self.begun)

    @property
    def finished(self) -> float | None:
        """When the run seems to end: never before its least run time is over."""
        if self.started is None or self.outcome is None:
            return None
        return max(self.started + self.order.run_seconds, self.outcome.ended)

    def stage(self, now: float) -> Stage:
        """Where the prediction is at a moment. The earliest of cancel, deadline and end decides."""
        stopped = self._stopped(now)
        if stopped is not None:
            return stopped
        if self.finished is not None and self.outcome is not None and self.finished <= now:
            return Stage.SUCCEEDED if self.outcome.failure is None else Stage.FAILED
        return Stage.RUNNING if self._running(now) else Stage.QUEUED

    def completed(self, now: float) -> float | None:
        """When the final stage was reached; None while there is none."""
        match self.stage(now):
            case Stage.CANCELED if self.canceled is not None:
                return self.canceled
            case Stage.CANCELED | Stage.ABORTED if self.order.ends:
                return self._fated
            case Stage.CANCELED | Stage.ABORTED:
                return self.order.deadline
            case Stage.EXPIRED:
                return self.order.start_by
            case Stage.SUCCEEDED | Stage.FAILED:
                return self.finished
            case _:
                return None

    def _stopped(self, now: float) -> Stage | None:
        order = self.order
        if self.canceled is not None:
            return Stage.CANCELED
        if order.ends:
            over = self._fated is not None and self._fated <= now
            return Stage(order.ends) if over else None
        if order.start_by is not None and now >= order.start_by and not self._running(order.start_by):
            return Stage.EXPIRED
        done = self.finished is not None and order.deadline is not None and self.finished <= order.deadline
        if order.deadline is not None and now >= order.deadline and not done:
            return Stage.CANCELED if self._running(order.deadline) else Stage.ABORTED
        return None

    @property
    def _fated(self) -> float | None:
        """When the provider itself ends it: aborted before its start, or canceled after its run."""
        order = self.order
        if order.ends == Stage.ABORTED:
            # Not at once where no waiting is pretended: the answer to the submit is to tell of an open prediction.
            return None if self.outcome is None else order.created + order.queue_seconds
        return None if self.started is None else self.started + order.run_seconds

    def _running(self, now: float) -> bool:
        return self.started is not None and self.started <= now
