"""Recorded conversations: a request, the replies that it may get, and the state or error that each one means.

A file holds one call and its exchanges in order. Every answer of an exchange is read on its own; the last one is how
the conversation goes on.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path

import pytest

from rotoscope.errors import RotoscopeError
from rotoscope.providers.dialects import DIALECTS, Dialect
from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.states import Blob, Call, Failed, Open, Prediction, Ticket, is_final, ticket_to_json

CONVERSATIONS = sorted((Path(__file__).parent / "conversations").glob("*.json"))


@dataclass(frozen=True)
class Exchange:
    """One request as built, and each reply to it with what it should mean."""

    asked: HttpCall
    request: Json
    about: Call | Open
    answers: tuple[tuple[Reply, dict[str, Json]], ...]


@dataclass(frozen=True)
class Conversation:
    """One call with a provider, from the submit to the end."""

    record: Mapping[str, Json]

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.record["dialect"]](self.record["bases"])

    @property
    def call(self) -> Call:
        return Call(**self.record["call"])

    def exchanges(self) -> Iterator[Exchange]:
        """Every exchange, built by the dialect from the state after the one before."""
        about: Call | Prediction = self.call
        for exchange in self.record["exchanges"]:
            assert isinstance(about, Call) or not is_final(about), "the conversation goes on after its end"
            asked = self.dialect.submit(about) if isinstance(about, Call) else self.dialect.ask(about)
            answers = tuple((recorded_reply(answer["reply"]), answer["gives"]) for answer in exchange["answers"])
            yield Exchange(asked, exchange["request"], about, answers)
            about = self.dialect.read(answers[-1][0], about)

    def means(self, reply: Reply, about: Call | Open) -> dict[str, Json]:
        """The state or error that the dialect reads from a reply, as plain data."""
        try:
            return described(self.dialect.read(reply, about))
        except RotoscopeError as error:
            return described_error(error)


def recorded_reply(record: Mapping[str, Json]) -> Reply:
    """The reply that a record holds as `json`, `text` or `base64`."""
    match record:
        case {"json": data}:
            body = json.dumps(data).encode()
        case {"text": text}:
            body = text.encode()
        case _:
            body = base64.b64decode(record["base64"])
    return Reply(record["status"], record.get("headers", {}), body)


def described(state: Prediction) -> dict[str, Json]:
    """A state as plain data: its name and every field that is not at its default."""
    set_fields = {f.name: getattr(state, f.name) for f in fields(state) if getattr(state, f.name) != default(f)}
    return {"state": type(state).__name__, **{name: plain(value) for name, value in set_fields.items()}}


def default(field: Field[object]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def plain(value: object) -> Json:
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


def described_error(error: RotoscopeError) -> dict[str, Json]:
    """An error as plain data: its name, code, the provider's text and the seconds to wait, where there are any."""
    details = {"provider_message": error.provider_message, "after": getattr(error, "retry_after", None)}
    given = {name: value for name, value in details.items() if value is not None}
    return {"error": type(error).__name__, "code": error.code, **given}


@pytest.fixture(params=CONVERSATIONS, ids=lambda path: path.stem)
def conversation(request: pytest.FixtureRequest) -> Conversation:
    """Each recorded conversation in turn."""
    return Conversation(json.loads(request.param.read_text(encoding="utf-8")))
