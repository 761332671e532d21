"""By which lane a request goes, and what it is on its way: none waits behind another kind's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rotoscope.wire.bodies import has_file
from rotoscope.wire.guard import Way
from rotoscope.wire.messages import HttpCall
from rotoscope.wire.progress import RequestProgress

__all__ = ["FRESH", "Lane", "Outgoing", "lane_of", "outgoing_by"]

Lane = Literal["pays", "tells", "carries", "stores", "asks", "listens", "fetches"]

# What pays goes out on a connection of its own: an idle one may be closed by the other side at that very moment, and
# then nobody knows whether the request was seen. One opened for a judged name must not serve another name.
FRESH: tuple[Lane, ...] = ("pays", "stores", "listens", "fetches")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request on its way; `body` stands for what `call` does not hold as it is sent."""

    call: HttpCall
    progress: RequestProgress
    extensions: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None


def lane_of(call: HttpCall, *, pays: bool) -> Lane:
    """By which lane a request goes: a cancel waits neither behind questions nor behind files."""
    if pays:
        return "pays"
    if not call.with_key:
        return "stores"
    return "asks" if call.method == "GET" else "carries" if has_file(call) else "tells"


def outgoing_by(call: HttpCall, way: Way, progress: RequestProgress) -> Outgoing:
    """A request as it goes out by one way."""
    return Outgoing(
        replace(call, url=way.url, headers={**call.headers, **way.headers}), progress, extensions=way.extensions
    )
