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
from rotoscope.server.clients.inline_wait import poll_budget
from rotoscope.server.clients.learning import CallWait, WaitLearner
from rotoscope.server.clients.profiles import ClientProfile, ClientProfiles
from rotoscope.server.present.progress import capability_names, client_name

__all__ = ["CallTracker", "ClientCall"]

_log = logging.getLogger(__name__)
_SAFE_SECONDS = 2.0  # seconds; no measured client waits less
_TRANSIT_SECONDS = 1.0  # seconds that every row leaves for an answer to be made and to arrive
_MAX_CLIENTS = 64  # a client may call itself anything, as often as it likes


@dataclass(slots=True)
class ClientCall:
    """One call of one client.

    Attributes:
        profile: what it bears, by its row and by what was learned of it.
        learner: what is learned of it; None where its row says enough, or the operator has.
    """

    profile: ClientProfile
    learner: WaitLearner | None
    started_at: float
    clock: Callable[[], float]
    _wait: CallWait | None = None

    def mark_answered(self, result: JobResult) -> float:
        """The call is answered now; how many seconds the client may ask to wait when it comes again."""
        if self.learner is None or self._wait is None:
            return poll_budget(self.profile)
        now = self.clock()
        longest = self.learner.polling_seconds_after(self._wait, now)
        goes_on = result.status in ("queued", "running")
        if result.job_id:
            self.learner.record_answer(self._wait, now, float(round(longest)) if goes_on else None, result.job_id)
        return longest

    def is_late(self, seconds: float) -> bool:
        """Whether an answer that leaves now may reach nobody.

        Args:
            seconds: how long such a call of this client may stay open. A client that is being learned may have a limit
                below that.
        """
        bears = _SAFE_SECONDS if self.learner is not None else seconds + _TRANSIT_SECONDS
        return self.clock() - self.started_at > bears

    def mark_ended(self) -> None:
        """The call is over; if it was not answered, its client gave it up."""
        if self.learner is not None and self._wait is not None:
            self.learner.record_cancel(self._wait, self.clock())

    def mark_dismissed(self) -> None:
        """The call was refused, or answered by a question: that says nothing of patience."""
        if self.learner is not None and self._wait is not None:
            self.learner.record_dismissal(self._wait, self.clock())


@dataclass(slots=True)
class CallTracker:
    """Tells the clients of one process apart.

    Attributes:
        profiles: the rows.
        is_learning: whether anything is learned: not where the operator has said how long a call stays open.
        clock: seconds of the clock by which the arrival of requests is told.
    """

    profiles: ClientProfiles
    is_learning: bool
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    _logged_names: set[str] = field(default_factory=set, init=False)
    _learners: dict[tuple[str, str, frozenset[str]], WaitLearner] = field(default_factory=dict, init=False)

    def begin_call(self, tool: str, arguments: Arguments, context: Context[Any, Any], started_at: float) -> ClientCall:
        """Who makes a call that came in at some moment, and how long it may stay open."""
        name, protocol, declares = client_name(context), context.protocol_version or "", capability_names(context)
        if name and not self.profiles.has_client(name):
            self._log_unknown_client(name)
        client = self.profiles.profile_for(name, protocol, declares)
        patience = self._learner_for(client, (name or "", protocol, declares))
        if patience is None:
            return ClientCall(client, None, started_at, self.clock)
        about = _call_subject(tool, arguments)
        wanted = float(arguments.wait_seconds) if isinstance(arguments, GetJob) else None
        if about is None:
            return ClientCall(_with_learned_waits(client, patience), None, started_at, self.clock)
        patience.observe_request(about, started_at, wanted)
        bears = _with_learned_waits(client, patience)
        budget = bears.inline_seconds if wanted is None else poll_budget(bears)
        return ClientCall(bears, patience, started_at, self.clock, patience.begin(about, started_at, budget, wanted))

    def _learner_for(self, profile: ClientProfile, key: tuple[str, str, frozenset[str]]) -> WaitLearner | None:
        if not (profile.learns and self.is_learning):
            return None
        if key not in self._learners and len(self._learners) >= _MAX_CLIENTS:
            return None
        return self._learners.setdefault(key, WaitLearner(profile.inline_seconds, poll_budget(profile)))

    def _log_unknown_client(self, name: str) -> None:
        """Tell the log a client's name once: it is what a row of `clients.toml` begins with."""
        if name not in self._logged_names and len(self._logged_names) < _MAX_CLIENTS:
            self._logged_names.add(name)
            wait = self.profiles.default.inline_seconds
            _log.warning("clients.toml does not know the client %.80r: its calls stay open for %g s", name, wait)


def _with_learned_waits(profile: ClientProfile, learner: WaitLearner) -> ClientProfile:
    return profile.model_copy(
        update={"inline_seconds": learner.paying_seconds, "wait_seconds": learner.polling_seconds}
    )


def _call_subject(tool: str, arguments: Arguments) -> str | None:
    """What a call is about: a job, or the very request; None where how long it takes is no question of patience."""
    if isinstance(arguments, GetJob):
        return arguments.job_id.strip().removeprefix("job://").partition("/")[0]
    if not TOOLS[tool].can_cost_money:
        return None
    return f"{tool} {hashlib.sha256(arguments.model_dump_json().encode()).hexdigest()}"
