"""Recorded conversations: a request, the replies that it may get, and the state or error that each one means.

A file holds one call and its exchanges in order. Every answer of an exchange is read on its own; the last one is how
the conversation goes on.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from rotoscope.errors import RotoscopeError
from rotoscope.providers.dialects import DIALECTS, Dialect
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.states import Blob, Call, Failed, Open, Prediction, Ticket, ticket_to_json

__all__ = ["Conversation", "Exchange"]


@dataclass(frozen=True)
class Exchange:
    """One request as built, and each reply to it with what it should mean."""

    asked: HttpCall
    request: Any
    about: Call | Open
    answers: tuple[tuple[Reply, dict[str, Any]], ...]


@dataclass(frozen=True)
class Conversation:
    """One call with a provider, from the submit to the end."""

    record: Mapping[str, Any]

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.record["dialect"]](self.record["bases"])

    @property
    def call(self) -> Call:
        return Call(**self.record["call"])

    def exchanges(self) -> Iterator[Exchange]:
        """Every exchange, built by the dialect from the state after the one before."""
        about: Call | Open = self.call
        next_state: Prediction | None = None
        for exchange in self.record["exchanges"]:
            if next_state is not None:
                assert isinstance(next_state, Open), "the conversation goes on after its end"
                about = next_state
            asked = self.dialect.submit(about) if isinstance(about, Call) else self.dialect.ask(about)
            answers = tuple((recorded_reply(answer["reply"]), answer["gives"]) for answer in exchange["answers"])
            yield Exchange(asked, exchange["request"], about, answers)
            next_state = self.dialect.read(answers[-1][0], about)

    def means(self, reply: Reply, about: Call | Open) -> dict[str, Any]:
        """The state or error that the dialect reads from a reply, as plain data."""
        try:
            return described(self.dialect.read(reply, about))
        except RotoscopeError as error:
            return described_error(error)


def recorded_reply(record: Mapping[str, Any]) -> Reply:
    """The reply that a record holds as `json`, `text` or `base64`."""
    match record:
        case {"json": data}:
            body = json.dumps(data).encode()
        case {"text": text}:
            body = text.encode()
        case _:
            body = base64.b64decode(record["base64"])
    return Reply(record["status"], record.get("headers", {}), body)


def described(state: Prediction) -> dict[str, Any]:
    """A state as plain data: its name and every field that is not at its default."""
    set_fields = {f.name: getattr(state, f.name) for f in fields(state) if getattr(state, f.name) != default(f)}
    return {"state": type(state).__name__, **{name: plain(value) for name, value in set_fields.items()}}


def default(field: Field[object]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def plain(value: object) -> Any:
    match value:
        case Ticket():
            return ticket_to_json(value)
        case Failed():
            return described(value)
        case Blob():
            return {"content_type": value.content_type, "base64": base64.b64encode(value.content).decode()}
        case tuple():
            return list(value)
        case _:
            return value


def described_error(error: RotoscopeError) -> dict[str, Any]:
    """An error as plain data: its name, code, the provider's text and the seconds to wait, where there are any."""
    details = {"provider_message": error.provider_message, "after": getattr(error, "retry_after", None)}
    given = {name: value for name, value in details.items() if value is not None}
    return {"error": type(error).__name__, "code": error.code, **given}
