"""What a provider's list of recent predictions shows, and which of them is ours. Pure.

What a provider's list says of runs that are followed. It only wakes who asks, unless a row is the answer itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote, urldefrag

from rotoscope.providers.correlation import Token, has_token
from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.states import Call, Ticket

__all__ = [
    "MAX_ROWS",
    "RecentList",
    "RecentPage",
    "RecentPrediction",
    "RunPage",
    "RunRow",
    "find_rows",
    "object_rows",
    "predictions_with_input",
    "predictions_with_token",
    "row_as_reply",
    "unix_seconds",
]

MAX_ROWS = 1_000
"""Rows of one page that are read; pages are asked for with 100."""


@dataclass(frozen=True, slots=True)
class RecentPrediction:
    """A prediction in a list.

    Attributes:
        ticket: how to ask about it.
        input: what it was given, as the provider shows it.
        submitted_at: when it was submitted, in Unix seconds of the provider's clock; None where the list does not say.
    """

    ticket: Ticket
    input: Mapping[str, Json] = field(default_factory=dict)
    submitted_at: float | None = None


@dataclass(frozen=True, slots=True)
class RecentPage:
    """One page of a list.

    Attributes:
        predictions: the predictions of the call's model.
        next_page: the request for the next page; None where this is the last.
        is_complete: whether every row was recognised: an absence from others proves nothing.
    """

    predictions: tuple[RecentPrediction, ...]
    next_page: HttpCall | None = None
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class RecentList:
    """What could be read of a list; `is_complete` when that is all of it, every row recognised."""

    predictions: tuple[RecentPrediction, ...]
    is_complete: bool


def predictions_with_token(
    predictions: Sequence[RecentPrediction], token: Token | None
) -> tuple[RecentPrediction, ...]:
    """Those of some predictions that hold a token, each once."""
    if token is None:
        return ()
    return tuple({one.ticket.id: one for one in predictions if has_token(one.input, token)}.values())


def predictions_with_input(predictions: Sequence[RecentPrediction], call: Call) -> tuple[RecentPrediction, ...]:
    """Those of some predictions that were given what a call gives, each once: perhaps ours, perhaps an equal run.

    A provider may add its defaults, trim texts and write addresses anew: what it adds does not count, the rest is
    compared as it means the same.
    """
    wanted = {name: _normal_form(value) for name, value in call.input.items()}
    same = (one for one in predictions if wanted == {name: _normal_form(one.input.get(name)) for name in wanted})
    return tuple({one.ticket.id: one for one in same}.values())


def _normal_form(value: Json) -> str:
    if isinstance(value, str):
        value = unquote(value).strip()
        if value.lower().startswith(("https://", "http://")):
            value = urldefrag(value).url  # a provider may drop the fragment that we added
    if isinstance(value, list):
        return json.dumps([_normal_form(one) for one in value])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def unix_seconds(text: Json) -> float | None:
    """The moment that a list names in ISO 8601, in Unix seconds; None for anything else. Without a zone it is UTC."""
    try:
        named = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if named is None:
        return None
    return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()


def find_rows(fields: Mapping[str, Json], *names: str) -> Sequence[Json] | None:
    """The rows in the first of the named members that is a list; None where none is: then it is no list at all.

    What the list is called is documented nowhere for some providers, so several names are tried. Of a page that is
    longer than any the first rows are read, and a row that nobody can read stands for the others.
    """
    found = (fields.get(name) for name in names)
    rows = next((one for one in found if isinstance(one, list)), None)
    return rows if rows is None or len(rows) <= MAX_ROWS else [*rows[:MAX_ROWS], None]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in a list.

    Attributes:
        id: the provider's id of it.
        has_ended: whether the list says that it has ended, however.
        status_reply: what the question about the run would be answered, where the row is just that, and says the end.
    """

    id: str
    has_ended: bool
    status_reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list, and the request for the next one. What is not on it may still be there."""

    rows: tuple[RunRow, ...]
    next_page: HttpCall | None = None


def object_rows(fields: Mapping[str, Json], *names: str) -> Sequence[Mapping[str, Json]]:
    """The objects in the first of the named members that is a list; what is odd or beyond a page is left out."""
    found = next((one for name in names if isinstance(one := fields.get(name), list)), [])
    return [row for row in found[:MAX_ROWS] if isinstance(row, dict)]


def row_as_reply(row: Mapping[str, Json]) -> Reply:
    """A row as the reply that has it as its body."""
    return Reply(200, {"content-type": "application/json"}, json.dumps(row).encode())
