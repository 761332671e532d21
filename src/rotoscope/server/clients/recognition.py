"""Who calls: a row of `clients.toml`, and what a client that has none, or shares one, was seen to bear."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver import Context

from rotoscope.contracts.arguments import Arguments, GetJob
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.server.clients.inline_wait import asking_seconds
from rotoscope.server.clients.learning import Hold, Patience
from rotoscope.server.clients.profiles import Client, Clients
from rotoscope.server.present.progress import client_name, declared

__all__ = ["Call", "Recognition"]

_log = logging.getLogger(__name__)
_SURELY_BORNE = 2.0  # seconds; no measured client waits less
_ON_ITS_WAY = 1.0  # seconds that every row leaves for an answer to be made and to arrive
_STRANGERS = 64  # a client may call itself anything, as often as it likes


@dataclass(slots=True)
class Call:
    """One call of one client.

    Attributes:
        client: what it bears, by its row and by what was learned of it.
        patience: what is learned of it; None where its row says enough, or the operator has.
    """

    client: Client
    patience: Patience | None
    begun: float
    clock: Callable[[], float]
    _hold: Hold | None = None

    def answered(self, result: JobResult) -> float:
        """The call is answered now; how many seconds the client may ask to wait when it comes again."""
        if self.patience is None or self._hold is None:
            return asking_seconds(self.client)
        now = self.clock()
        longest = self.patience.asking_after(self._hold, now)
        goes_on = result.status in ("queued", "running")
        if result.job_id:
            self.patience.answer(self._hold, now, float(round(longest)) if goes_on else None, result.job_id)
        return longest

    def is_late(self, seconds: float) -> bool:
        """Whether an answer that leaves now may reach nobody.

        Args:
            seconds: how long such a call of this client may stay open. A client that is being learned may have a limit
                below that.
        """
        bears = _SURELY_BORNE if self.patience is not None else seconds + _ON_ITS_WAY
        return self.clock() - self.begun > bears

    def ended(self) -> None:
        """The call is over; if it was not answered, its client gave it up."""
        if self.patience is not None and self._hold is not None:
            self.patience.cancel(self._hold, self.clock())

    def dismissed(self) -> None:
        """The call was refused, or answered by a question: that says nothing of patience."""
        if self.patience is not None and self._hold is not None:
            self.patience.dismiss(self._hold, self.clock())


@dataclass(slots=True)
class Recognition:
    """Tells the clients of one process apart.

    Attributes:
        clients: the rows.
        learns: whether anything is learned: not where the operator has said how long a call stays open.
        clock: seconds of the clock by which the arrival of requests is told.
    """

    clients: Clients
    learns: bool
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    _named: set[str] = field(default_factory=set, init=False)
    _learned: dict[tuple[str, str, frozenset[str]], Patience] = field(default_factory=dict, init=False)

    def call(self, tool: str, arguments: Arguments, context: Context[Any, Any], begun: float) -> Call:
        """Who makes a call that came in at some moment, and how long it may stay open."""
        name, protocol, declares = client_name(context), context.protocol_version or "", declared(context)
        if name and not self.clients.knows(name):
            self._mention(name)
        client = self.clients.named(name, protocol, declares)
        patience = self._patience(client, (name or "", protocol, declares))
        if patience is None:
            return Call(client, None, begun, self.clock)
        about = _about(tool, arguments)
        wanted = float(arguments.wait_seconds) if isinstance(arguments, GetJob) else None
        if about is None:
            return Call(_bearing(client, patience), None, begun, self.clock)
        patience.hear(about, begun, wanted)
        bears = _bearing(client, patience)
        budget = bears.inline_seconds if wanted is None else asking_seconds(bears)
        return Call(bears, patience, begun, self.clock, patience.begin(about, begun, budget, wanted))

    def _patience(self, client: Client, who: tuple[str, str, frozenset[str]]) -> Patience | None:
        if not (client.learns and self.learns):
            return None
        if who not in self._learned and len(self._learned) >= _STRANGERS:
            return None
        return self._learned.setdefault(who, Patience(client.inline_seconds, asking_seconds(client)))

    def _mention(self, stranger: str) -> None:
        """Tell the log a client's name once: it is what a row of `clients.toml` begins with."""
        if stranger not in self._named and len(self._named) < _STRANGERS:
            self._named.add(stranger)
            wait = self.clients.default.inline_seconds
            _log.warning("clients.toml does not know the client %.80r: its calls stay open for %g s", stranger, wait)


def _bearing(client: Client, patience: Patience) -> Client:
    return client.model_copy(update={"inline_seconds": patience.paying, "wait_seconds": patience.asking})


def _about(tool: str, arguments: Arguments) -> str | None:
    """What a call is about: a job, or the very request; None where how long it takes is no question of patience."""
    if isinstance(arguments, GetJob):
        return arguments.job_id.strip().removeprefix("job://").partition("/")[0]
    if not TOOLS[tool].pays:
        return None
    return f"{tool} {hashlib.sha256(arguments.model_dump_json().encode()).hexdigest()}"
