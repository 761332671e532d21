"""What a provider's list of recent predictions shows, and which of them is ours. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rotoscope.predictions.states import Call, Ticket
from rotoscope.wire.messages import HttpCall, Json

__all__ = ["Page", "Sighting", "listed", "moment", "ours", "rows"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A prediction in a list: how to ask about it, and the input that it was given."""

    ticket: Ticket
    input: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, and the request for the next one."""

    found: tuple[Sighting, ...]
    following: HttpCall | None = None


def ours(call: Call, seen: Sequence[Sighting], known: frozenset[str], drawn: str | None) -> tuple[Sighting, ...]:
    """Those of some predictions that can be the run of this call, each once.

    The same input is one; where none has it, because a provider rewrites what it was given, the same seed is, if we
    drew it ourselves.

    Args:
        call: what was asked for.
        seen: what the list shows of the same endpoint.
        known: ids that belong to other jobs.
        drawn: the name of the input that holds a seed of our own drawing, or None.
    """
    candidates = {one.ticket.id: one for one in seen if one.ticket.id not in known}.values()
    same = tuple(one for one in candidates if _canonical(one.input) == _canonical(call.input))
    if same or drawn is None:
        return same
    return tuple(one for one in candidates if one.input.get(drawn) == call.input[drawn])


def _canonical(given: Mapping[str, Json]) -> str:
    return json.dumps(given, sort_keys=True, separators=(",", ":"))


def moment(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def listed(fields: Mapping[str, Json], *names: str) -> Sequence[Mapping[str, Json]]:
    """The objects in the first of the named members that is a list; a list's own name is documented nowhere."""
    found = (fields.get(name) for name in names)
    rows_found = next((one for one in found if isinstance(one, list)), [])
    return rows(rows_found)


def rows(value: Json) -> Sequence[Mapping[str, Json]]:
    """The objects among the items of a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
