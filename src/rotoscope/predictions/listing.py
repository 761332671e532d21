"""What a provider's list says of runs that are followed. It only wakes who asks, unless a row is the answer itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.predictions.sightings import MOST_ROWS
from rotoscope.wire.messages import HttpCall, Json, Reply

__all__ = ["Listed", "Row", "reply_of", "rows_in"]


@dataclass(frozen=True, slots=True)
class Row:
    """One run in a list.

    Attributes:
        id: the provider's id of it.
        ended: whether the list says that it has ended, however.
        answer: what the question about the run would be answered, where the row is just that, and says the end.
    """

    id: str
    ended: bool
    answer: Reply | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of a list, and the request for the next one. What is not on it may still be there."""

    rows: tuple[Row, ...]
    following: HttpCall | None = None


def rows_in(fields: Mapping[str, Json], *names: str) -> Sequence[Mapping[str, Json]]:
    """The objects in the first of the named members that is a list; what is odd or beyond a page is left out."""
    found = next((one for name in names if isinstance(one := fields.get(name), list)), [])
    return [row for row in found[:MOST_ROWS] if isinstance(row, dict)]


def reply_of(row: Mapping[str, Json]) -> Reply:
    """A row as the reply that has it as its body."""
    return Reply(200, {"content-type": "application/json"}, json.dumps(row).encode())
