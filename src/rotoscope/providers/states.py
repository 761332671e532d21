"""A planned call, its correlation token, and the states of its prediction, with the rules about them. Pure.

Rule 1: a prediction is open (`Waiting`, `Working`, `Ready`) or final (`Succeeded`, `Failed`, `Canceled`).
Rule 2: a final state is final; whatever a provider reports afterwards is ignored.
Rule 3: an unknown status is `Working` with a note; the job's deadline decides, not the word. One exception: another
    word for "finished well" is believed where the reply has an output.
Rule 4: every state but a one-shot success has the ticket, so that it can be asked about after a restart.
Rule 5: `Ready` exists because fal keeps "completed" and "result" apart; it is followed by one more ask.

The correlation token of a paying request is a value in its input that no other run's input can have.

When the reply to a submit is lost, the run is found in the provider's list by its token, and only by it: an equal run
may be another user's, made by hand or from another ROTOSCOPE_HOME of the same account. A token is one of:

1. A seed that we drew ourselves. A seed that the user gave may be used by others too.
2. The URL of a file that was uploaded for this job alone.
3. A fragment on a URL that was given (`https://host/photo.jpg#rs-0f3a...`). It is never sent to the host (a fragment is
   no part of a request: RFC 9110, section 7.1), but appears in the provider's list. That a provider keeps it is
   inferred; one that drops it lists a run without the token, which is then only a suggestion to a person.

A token stays the same when another process takes over the job or the request is sent again: it is made from the job's
id, from the seed in its plan, or from its upload.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal
from urllib.parse import unquote, urldefrag

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
    "Token",
    "Waiting",
    "Working",
    "add_token",
    "call_from_json",
    "call_to_json",
    "has_token",
    "is_final",
    "parse_token",
    "ticket_from_json",
    "ticket_to_json",
]


@dataclass(frozen=True, slots=True)
class Call:
    """A planned request to one model: its provider, its endpoint there, and its input in the provider's form.

    Attributes:
        provider: the provider's name in `providers.toml`.
        endpoint: the provider's name of the model, such as `bytedance/seedance-2.0`.
        input: the input of the model, exactly as sent.
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
    """All that is needed to ask about a prediction again; it can be stored as JSON (`ticket_to_json`)."""

    id: str
    endpoint: str
    urls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    """An output that is the body of the reply itself."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Accepted, not started; `position` is the number of runs ahead in the queue, where the provider shows it."""

    ticket: Ticket
    position: int | None = None
    logs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Working:
    """Running; `progress` is a fraction from 0 to 1, where the model's logs show it."""

    ticket: Ticket
    progress: float | None = None
    logs: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """Finished; the result is still to be asked for. `metrics` came with the status and do not come with the result.

    `failure` is the final state where the status has shown a failure already; the result may have its reason.
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
    """The model ran and failed. `provider_message` is the provider's text; `charged` is None where it is not known.

    `is_reported`: the provider itself says that the run has failed, so that its rule for failed runs holds.
    """

    ticket: Ticket | None
    code: str
    message: str
    provider_message: str | None = None
    charged: bool | None = None
    logs: tuple[str, ...] = ()
    metrics: Mapping[str, Json] = field(default_factory=dict)
    is_reported: bool = False


@dataclass(frozen=True, slots=True)
class Canceled:
    """Stopped at the provider; `charged` is None where it is not known."""

    ticket: Ticket | None
    charged: bool | None = None
    logs: tuple[str, ...] = ()
    metrics: Mapping[str, Json] = field(default_factory=dict)


Open = Waiting | Working | Ready
Final = Succeeded | Failed | Canceled
Prediction = Open | Final


def is_final(state: Prediction) -> bool:
    """Whether a state is final."""
    return isinstance(state, Succeeded | Failed | Canceled)


def ticket_to_json(ticket: Ticket) -> dict[str, Json]:
    """The ticket as plain JSON data."""
    plain = asdict(ticket)
    return {**plain, "urls": dict(ticket.urls)}


def ticket_from_json(data: Mapping[str, Json]) -> Ticket:
    """The ticket from what `ticket_to_json` returned."""
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


TokenKind = Literal["seed", "upload", "fragment"]
_KINDS: tuple[TokenKind, ...] = ("seed", "upload", "fragment")


@dataclass(frozen=True, slots=True)
class Token:
    """A value that distinguishes one run from every other.

    Attributes:
        kind: a seed, an upload or a fragment.
        name: the input that has it.
        value: the seed, the URL of the upload, or the fragment.
    """

    kind: TokenKind
    name: str
    value: str

    def __str__(self) -> str:
        """The form in the ledger; `parse_token` reads it."""
        return f"{self.kind}:{self.name}={self.value}"


def parse_token(text: str | None) -> Token | None:
    """The token from its form in the ledger; None for anything else."""
    kind, colon, rest = (text or "").partition(":")
    name, equals, value = rest.partition("=")
    known = next((one for one in _KINDS if one == kind), None)
    return Token(known, name, value) if known and colon and equals and value else None


def add_token(
    call: Call, drawn_inputs: Iterable[str], upload_urls: Iterable[str], media: Iterable[str], job_id: str
) -> tuple[Call, Token | None]:
    """Give a call a token.

    Args:
        call: the call as planned, with its media as URLs.
        drawn_inputs: the inputs whose values we drew ourselves.
        upload_urls: the URLs of files that were uploaded for this job alone.
        media: the inputs that hold media, in order.
        job_id: the job's id, which no other job has.

    Returns:
        The call, with a fragment added where that is the token, and the token; the call as it is and None where nothing
        in it can be a token.
    """
    token = _existing_token(call, drawn_inputs, upload_urls)
    if token is not None:
        return call, token
    for name in media:
        value = call.input.get(name)
        first = value[0] if isinstance(value, list) and value else value
        if not isinstance(first, str) or not first.lower().startswith(("https://", "http://")):
            continue
        fragment = f"rs-{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"
        marked = f"{urldefrag(first).url}#{fragment}"
        changed: Json = [marked, *value[1:]] if isinstance(value, list) else marked
        return replace(call, input={**call.input, name: changed}), Token("fragment", name, fragment)
    return call, None


def _existing_token(call: Call, drawn_inputs: Iterable[str], upload_urls: Iterable[str]) -> Token | None:
    for name in drawn_inputs:
        if name in call.input:
            return Token("seed", name, str(call.input[name]))
    urls = set(upload_urls)
    for name, value in call.input.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one in urls:
                return Token("upload", name, one)
    return None


def has_token(given: Mapping[str, Json], token: Token) -> bool:
    """Whether an input, as a provider lists it, has a token. URLs may be re-encoded there, and seeds be texts."""
    if token.kind == "seed":
        value = given.get(token.name)
        return not isinstance(value, bool) and isinstance(value, int | float | str) and _seed_text(value) == token.value
    wanted = unquote(token.value)
    return any(wanted in unquote(text) for text in _texts_within(given))


def _seed_text(value: float | str) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _texts_within(value: Json | Mapping[str, Json], depth: int = 4) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list) and depth:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_within(part, depth - 1)
