"""A provider's lists, as records, and which of their rows is the run that is looked for. Pure.

There are two uses. `RecentPrediction` (with its input) is for a run whose reply was lost: it is found by its token, and
runs with an equal input are suggested to a person. `RunRow` (without an input) is for runs that are followed: one list
then replaces many polls. A row only triggers a poll, unless it is itself the reply to that poll.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote, urldefrag

from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.states import Call, Ticket, Token, has_token

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
"""Rows of one page that are read, at most; pages are requested with 100."""


@dataclass(frozen=True, slots=True)
class RecentPrediction:
    """A prediction in a list.

    Attributes:
        ticket: its ticket.
        input: its input, as the provider shows it.
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
        is_complete: whether every row was read; if not, a run that is missing on the page may be there all the same.
    """

    predictions: tuple[RecentPrediction, ...]
    next_page: HttpCall | None = None
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class RecentList:
    """The predictions of a list; `is_complete` when all its pages and rows were read."""

    predictions: tuple[RecentPrediction, ...]
    is_complete: bool


def predictions_with_token(
    predictions: Sequence[RecentPrediction], token: Token | None
) -> tuple[RecentPrediction, ...]:
    """The predictions that have a token, each once."""
    if token is None:
        return ()
    return tuple({one.ticket.id: one for one in predictions if has_token(one.input, token)}.values())


def predictions_with_input(predictions: Sequence[RecentPrediction], call: Call) -> tuple[RecentPrediction, ...]:
    """The predictions with the input of a call, each once: perhaps the call's run, perhaps an equal one.

    A provider may add its defaults, trim texts and re-encode URLs. Inputs that the call does not have are ignored; the
    others are compared in a normal form.
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
    """A time in ISO 8601 as Unix seconds; None for anything else. Without a time zone it is UTC."""
    try:
        named = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if named is None:
        return None
    return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()


def find_rows(fields: Mapping[str, Json], *names: str) -> Sequence[Json] | None:
    """The rows in the first of the named members that is a list; None where none is, so the reply is no list at all.

    For some providers the member's name is not documented, so several are tried. Of an overlong page the first
    `MAX_ROWS` rows are returned and a None for the rest, which makes the page incomplete.
    """
    found = (fields.get(name) for name in names)
    rows = next((one for one in found if isinstance(one, list)), None)
    return rows if rows is None or len(rows) <= MAX_ROWS else [*rows[:MAX_ROWS], None]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in a list.

    Attributes:
        id: the provider's id of it.
        has_ended: whether the list shows it as ended, in whatever way.
        status_reply: the row as the reply to a poll of the run, where it equals that reply and shows the end.
    """

    id: str
    has_ended: bool
    status_reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list, and the request for the next one. A run that is not on it may exist all the same."""

    rows: tuple[RunRow, ...]
    next_page: HttpCall | None = None


def object_rows(fields: Mapping[str, Json], *names: str) -> Sequence[Mapping[str, Json]]:
    """The objects in the first of the named members that is a list, at most `MAX_ROWS`; other values are left out."""
    found = next((one for name in names if isinstance(one := fields.get(name), list)), [])
    return [row for row in found[:MAX_ROWS] if isinstance(row, dict)]


def row_as_reply(row: Mapping[str, Json]) -> Reply:
    """A reply with a row as its body."""
    return Reply(200, {"content-type": "application/json"}, json.dumps(row).encode())
