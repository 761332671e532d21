"""Which client calls, and how long it waits: its row of `manifests/clients.toml`, and what was learned of it.

A profile decides how an answer is delivered; it is never a permission. How long a call stays open:

the client takes tasks       a short wait for what is quick, then a task
any other                    inline, as long as the client waits, then a job handle; with progress where it sent a
                             token, else silently
"""

import hashlib
import logging
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context
from pydantic import BaseModel, ConfigDict, Field

from rotoscope.contracts.arguments import Arguments, GetJob
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import HTTP_TOOLS
from rotoscope.server.clients.learning import CallWait, WaitLearner

__all__ = [
    "CallTracker",
    "ClientCall",
    "ClientProfile",
    "ClientProfiles",
    "ClientRow",
    "ClientVariant",
    "inline_budget",
    "poll_budget",
    "read_client_profiles",
]

_log = logging.getLogger(__name__)
_SAFE_SECONDS = 2.0  # seconds; no measured client waits less
_TRANSIT_SECONDS = 1.0  # seconds that every row leaves for an answer to be made and to arrive
_MAX_CLIENTS = 64  # a client may call itself anything, as often as it likes
_QUICK_SECONDS = 10.0  # what is expected to take less may be over within the short wait
_SHORT_WAIT_SECONDS = 2.5
_MAX_SECONDS = 45.0
_MAX_VIEW_BYTES = 45_000  # 60,000 characters of base64, which some clients pass on as text
_DEFAULT_VIEW_BYTES = 16_000
_WILDCARD = "*"  # at the end of a name: whatever follows


class ClientProfile(BaseModel):
    """How one client is answered.

    Attributes:
        inline_seconds: the longest time that a call may stay open before it answers with a job handle.
        wait_seconds: the same for `get_job`, which costs nothing when it is cut off; None: no longer than any call.
        view_bytes: the largest picture of `view_media`, which stands alone in its result; 0: none is safe.
        learns: how long it waits is learned in the session, beginning with these times.
        links: resource_link blocks are safe in its tool results.
        pictures: image blocks are safe in results that also carry structured content.
        evidence: how we know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inline_seconds: float = Field(ge=0, le=_MAX_SECONDS)
    wait_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    view_bytes: int = Field(default=_DEFAULT_VIEW_BYTES, ge=0, le=_MAX_VIEW_BYTES)
    learns: bool = False
    links: bool = False
    pictures: bool = False
    evidence: str = ""


class ClientVariant(BaseModel):
    """One of several clients of the same name, recognised by what it declares. Its values replace those of the row.

    Attributes:
        protocol: the protocol revision that it speaks.
        declares: its capabilities, all of them, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str
    declares: frozenset[str]
    inline_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    wait_seconds: float | None = Field(default=None, ge=0, le=_MAX_SECONDS)
    view_bytes: int | None = Field(default=None, ge=0, le=_MAX_VIEW_BYTES)
    learns: bool | None = None
    evidence: str

    @property
    def overrides(self) -> dict[str, object]:
        """Its own values, for a copy of its row."""
        return self.model_dump(exclude={"protocol", "declares"}, exclude_none=True)


class ClientRow(ClientProfile):
    """All clients of one name.

    Attributes:
        kinds: the variants among them that can be recognised.
    """

    kinds: tuple[ClientVariant, ...] = ()

    def variant_for(self, protocol: str, declares: frozenset[str]) -> ClientProfile:
        """The client of this name that speaks a revision and declares some capabilities."""
        for kind in self.kinds:
            if (kind.protocol, kind.declares) == (protocol, declares):
                return self.model_copy(update=kind.overrides)
        return self


class ClientProfiles(BaseModel):
    """Every client we know by its `clientInfo.name`, and what holds for all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: ClientProfile
    clients: Mapping[str, ClientRow]

    def has_client(self, name: str) -> bool:
        """Whether a client of that name has a row."""
        return self._find_row(name) is not None

    def profile_for(
        self, name: str | None, protocol: str = "", declares: frozenset[str] = frozenset()
    ) -> ClientProfile:
        """The profile of a client, by its exact name, or by its beginning where the name of a row ends with a star.

        Args:
            name: as it calls itself; a client that is unknown or gives no name gets the careful default.
            protocol: the revision that it speaks.
            declares: the names of its capabilities.
        """
        row = self._find_row(name or "")
        return self.default if row is None else row.variant_for(protocol, declares)

    def _find_row(self, name: str) -> ClientRow | None:
        exact = self.clients.get(name)
        if exact is not None:
            return exact
        by_prefix = (
            row for of, row in self.clients.items() if of.endswith(_WILDCARD) and name.startswith(of[: -len(_WILDCARD)])
        )
        return next(by_prefix, None)


def read_client_profiles(file: Path) -> ClientProfiles:
    """Read the table that is shipped."""
    return ClientProfiles.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))


def inline_budget(
    client: ClientProfile, expected: float | None, override: float | None = None, *, tasks: bool
) -> float:
    """How long one call may stay open for the result itself, in seconds.

    Args:
        client: its row of `clients.toml`.
        expected: how long the tool usually takes, in seconds; None where that is not known.
        override: the operator's ROTOSCOPE_INLINE_SECONDS, which beats every row; 0 means never inline.
        tasks: whether the call becomes a task once the time is up.
    """
    budget = client.inline_seconds if override is None else override
    if not tasks:
        return budget
    return min(_SHORT_WAIT_SECONDS, budget) if expected is not None and expected < _QUICK_SECONDS else 0.0


def poll_budget(client: ClientProfile, override: float | None = None) -> float:
    """How long `get_job` may stay open, in seconds. It costs nothing, so one that is cut off does no harm."""
    if override is not None:
        return override
    return client.inline_seconds if client.wait_seconds is None else client.wait_seconds


@dataclass(slots=True)
class ClientCall:
    """One call of one client.

    Attributes:
        profile: its row, with the waits that were learned.
        learner: what is learned from this call; None where the row or the operator has decided it.
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
        """Whether an answer that leaves now may come after its client has given up.

        Args:
            seconds: how long such a call of this client may stay open. A client that is being learned may have a limit
                below that.
        """
        limit = _SAFE_SECONDS if self.learner is not None else seconds + _TRANSIT_SECONDS
        return self.clock() - self.started_at > limit

    def mark_ended(self) -> None:
        """The call is over; if it was not answered, its client gave it up."""
        if self.learner is not None and self._wait is not None:
            self.learner.record_cancel(self._wait, self.clock())

    def mark_dismissed(self) -> None:
        """The call was refused, or answered by a question: nothing is learned from how long it took."""
        if self.learner is not None and self._wait is not None:
            self.learner.record_dismissal(self._wait, self.clock())


@dataclass(slots=True)
class CallTracker:
    """Tells the clients of one process apart.

    Attributes:
        profiles: the rows.
        is_learning: whether anything is learned: not where the operator has decided how long a call stays open.
        clock: the time in seconds of `time.monotonic`, like the arrival of requests.
    """

    profiles: ClientProfiles
    is_learning: bool
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    _logged_names: set[str] = field(default_factory=set, init=False)
    _learners: dict[tuple[str, str, frozenset[str]], WaitLearner] = field(default_factory=dict, init=False)

    def begin_call(self, tool: str, arguments: Arguments, context: Context[Any, Any], started_at: float) -> ClientCall:
        """The client that makes a call, and how long the call may stay open.

        Args:
            tool: the tool.
            arguments: what it is asked.
            context: the request.
            started_at: when it came in, in seconds of the clock.
        """
        name, protocol, declares = _client_name(context), context.protocol_version or "", _capability_names(context)
        if name and not self.profiles.has_client(name):
            self._log_unknown_client(name)
        client = self.profiles.profile_for(name, protocol, declares)
        learner = self._learner_for(client, (name or "", protocol, declares))
        if learner is None:
            return ClientCall(client, None, started_at, self.clock)
        about = _call_subject(tool, arguments)
        wanted = float(arguments.wait_seconds) if isinstance(arguments, GetJob) else None
        if about is None:
            return ClientCall(_with_learned_waits(client, learner), None, started_at, self.clock)
        learner.observe_request(about, started_at, wanted)
        profile = _with_learned_waits(client, learner)
        budget = profile.inline_seconds if wanted is None else poll_budget(profile)
        wait = learner.begin(about, started_at, budget, wanted)
        return ClientCall(profile, learner, started_at, self.clock, wait)

    def _learner_for(self, profile: ClientProfile, key: tuple[str, str, frozenset[str]]) -> WaitLearner | None:
        if not (profile.learns and self.is_learning):
            return None
        if key not in self._learners and len(self._learners) >= _MAX_CLIENTS:
            return None
        return self._learners.setdefault(key, WaitLearner(profile.inline_seconds, poll_budget(profile)))

    def _log_unknown_client(self, name: str) -> None:
        """Log the name of a client once: with it a row can be added to `clients.toml`."""
        if name not in self._logged_names and len(self._logged_names) < _MAX_CLIENTS:
            self._logged_names.add(name)
            wait = self.profiles.default.inline_seconds
            _log.warning("clients.toml does not know the client %.80r: its calls stay open for %g s", name, wait)


def _with_learned_waits(profile: ClientProfile, learner: WaitLearner) -> ClientProfile:
    return profile.model_copy(
        update={"inline_seconds": learner.paying_seconds, "wait_seconds": learner.polling_seconds}
    )


def _call_subject(tool: str, arguments: Arguments) -> str | None:
    """What a call is about: a job, or the very request; None for a call that never waits."""
    if isinstance(arguments, GetJob):
        return arguments.job_id.strip().removeprefix("job://").partition("/")[0]
    if not HTTP_TOOLS[tool].can_cost_money:
        return None
    return f"{tool} {hashlib.sha256(arguments.model_dump_json().encode()).hexdigest()}"


def _client_name(context: Context[Any, Any]) -> str | None:
    """What the client calls itself; None when it does not say."""
    params = context.request_context.session.client_params
    return params.client_info.name if params is not None else None


def _capability_names(context: Context[Any, Any]) -> frozenset[str]:
    """The names of the capabilities that a client declares."""
    declared = context.client_capabilities
    return frozenset() if declared is None else frozenset(declared.model_dump(exclude_none=True))
