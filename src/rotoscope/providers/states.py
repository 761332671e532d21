"""The states of a prediction, and every rule about them.

Rule 1: a prediction is open (`Waiting`, `Working`, `Ready`) or final (`Succeeded`, `Failed`, `Canceled`).
Rule 2: a final state is final; whatever a provider says afterwards is ignored.
Rule 3: a status word nobody knows is `Working` with a note; the job's deadline decides, not the word. Only another word
    for "finished well" beside an output that stands there is believed.
Rule 4: every state but a one-shot success carries the ticket, so that it can be asked about after a restart.
Rule 5: `Ready` exists because fal keeps "completed" and "result" apart; it is followed by one more ask.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rotoscope.providers.http.messages import Json

__all__ = [
    "Blob",
    "Call",
    "Canceled",
    "Failed",
    "Final",
    "Open",
    "Prediction",
    "Ready",
    "Succeeded",
    "Ticket",
    "Waiting",
    "Working",
    "call_from_json",
    "call_to_json",
    "is_final",
    "ticket_from_json",
    "ticket_to_json",
]


@dataclass(frozen=True, slots=True)
class Call:
    """A planned request to one model: where it goes and the provider-shaped input.

    Attributes:
        provider: the provider's name in `providers.toml`.
        endpoint: the provider's name of the model, such as `bytedance/seedance-2.0`.
        input: what the model is given, exactly as sent.
        version: the version id of a community model on Replicate, or None.
        form: which of the provider's request forms is used: `official`, `version`, `queue`, `v1` or `v2`.
        deadline_seconds: after how long the provider may stop the run by itself.
    """

    provider: str
    endpoint: str
    input: Mapping[str, Json]
    version: str | None = None
    form: str = ""
    deadline_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is needed to ask about a prediction again: survives JSON and a restart."""

    id: str
    endpoint: str
    urls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    """An output that came as bytes in the reply itself."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accepted, not started; `position` counts who is ahead, where the provider says so."""

    ticket: Ticket
    position: int | None = None
    logs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Working:
    """Running; `progress` is a fraction from 0 to 1, only where the model's logs say it."""

    ticket: Ticket
    progress: float | None = None
    logs: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """Finished; the result is still to be fetched. `metrics` came with the status and not again with the result.

    `failure` is how it has ended where that is known already, and one answer more may say why.
    """

    ticket: Ticket
    logs: tuple[str, ...] = ()
    metrics: Mapping[str, Json] = field(default_factory=dict)
    failure: "Failed | None" = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Finished with an output; `metrics` are the provider's own numbers, such as `predict_time`."""

    ticket: Ticket | None
    output: Json | Blob
    metrics: Mapping[str, Json] = field(default_factory=dict)
    logs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The model ran and failed; `said` are the provider's own words. `charged` is None when nobody knows."""

    ticket: Ticket | None
    code: str
    message: str
    said: str | None = None
    charged: bool | None = None
    logs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Canceled:
    """Stopped at the provider; `charged` is None when nobody knows."""

    ticket: Ticket | None
    charged: bool | None = None
    logs: tuple[str, ...] = ()


Open = Waiting | Working | Ready
Final = Succeeded | Failed | Canceled
Prediction = Open | Final


def is_final(state: Prediction) -> bool:
    """Whether there is nothing left to ask."""
    return isinstance(state, Succeeded | Failed | Canceled)


def ticket_to_json(ticket: Ticket) -> dict[str, Json]:
    """The ticket as plain JSON data."""
    plain = asdict(ticket)
    return {**plain, "urls": dict(ticket.urls)}


def ticket_from_json(data: Mapping[str, Json]) -> Ticket:
    """The ticket that `ticket_to_json` wrote."""
    urls = data.get("urls")
    pairs = urls.items() if isinstance(urls, dict) else ()
    return Ticket(id=str(data["id"]), endpoint=str(data["endpoint"]), urls={k: str(v) for k, v in pairs})


def call_to_json(call: Call) -> dict[str, Json]:
    """A call as plain JSON data."""
    return {
        "provider": call.provider,
        "endpoint": call.endpoint,
        "input": dict(call.input),
        "version": call.version,
        "form": call.form,
        "deadline_seconds": call.deadline_seconds,
    }


def call_from_json(data: Json) -> Call:
    """The call that `call_to_json` wrote."""
    known = _as_object(data)
    version, deadline = known.get("version"), known.get("deadline_seconds")
    return Call(
        provider=str(known["provider"]),
        endpoint=str(known["endpoint"]),
        input=_as_object(known["input"]),
        version=str(version) if version is not None else None,
        form=str(known["form"]),
        deadline_seconds=int(deadline) if isinstance(deadline, int) else None,
    )


def _as_object(data: Json) -> dict[str, Json]:
    return data if isinstance(data, dict) else {}
