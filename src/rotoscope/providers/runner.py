"""The runner: starts a prediction once and follows it to its end. The only loop that asks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import anyio

from rotoscope.errors import (
    Busy,
    InvalidInput,
    ProviderDown,
    ProviderError,
    Refused,
    RotoscopeError,
    SubmitUnsure,
    Timeout,
    Unreachable,
)
from rotoscope.providers.dialects import Dialect, Parcel
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.recent import Seen, Sighting
from rotoscope.providers.states import Call, Canceled, Failed, Final, Open, Prediction, Succeeded, Ticket, Waiting

__all__ = ["LONGEST_LIFE", "Runner", "Send", "Told", "Trail"]

LONGEST_LIFE = 7 * 86_400.0
"""Seconds for which a result is looked for where no provider says how long it keeps it. None that says so keeps it for
more than some days; to ask for too long is free, and to stop too early loses what was paid for.
"""

_UPLOAD_TRIES = 3
_TROUBLE_PAUSE = 1.0
_LONGEST_PAUSE = 60.0  # seconds; after an hour of silence:
_LONG_SILENCE, _RAREST_PAUSE = 3600.0, 300.0
_TELL_EVERY = 60.0  # seconds of silence between two notes of it
_NO_ENTRY = frozenset({401, 403})
_GONE = "output_expired"
_MISSES = 4
_REFUSALS = 3
_CANCEL_TRIES = 3
_PAGES = 10


class Send(Protocol):
    """The wire, with a provider's key.

    A guard may refuse, by an error of its own, just before anything is sent. `pays` is said of what costs money.
    """

    async def __call__(
        self, call: HttpCall, guard: Callable[[], None] | None = None, *, pays: bool = False
    ) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Speaks to one provider.

    Attributes:
        dialect: words the requests and reads the replies.
        send: the wire.
        record: told of every new state before anybody else is; the ledger.
        sleep: waits some seconds.
        missed: told when questions are not answered: of the first of several in a row, then about once a minute.
    """

    dialect: Dialect
    send: Send
    record: Callable[[Prediction], Awaitable[None]]
    sleep: Callable[[float], Awaitable[None]]
    missed: Callable[[ProviderError], Awaitable[None]] | None = None

    async def start(self, call: Call, guard: Callable[[], None] | None = None) -> Prediction:
        """Spend the money, once. The ledger holds the intent before this is called, and the caller writes the state.

        Args:
            call: what is asked for.
            guard: called at the last moment before anything is sent; what it raises comes out, and nothing was sent.

        Raises:
            SubmitUnsure: nobody can know whether it was accepted.
            ProviderError, UserMistake: it was not accepted.
        """
        try:
            state = self.dialect.read(await self.send(self.dialect.submit(call), guard, pays=True), call)
        except Unreachable:
            raise
        except ProviderDown as error:
            raise SubmitUnsure(
                f"{call.provider} may have accepted the request, but its reply was lost.",
                hint=f"Look at your recent predictions of {call.endpoint} at {call.provider} before you call again.",
                said=error.said,
            ) from error
        return state

    async def follow(
        self,
        state: Prediction,
        pause: Callable[[Open], float],
        trail: "Trail | None" = None,
        lasts: Callable[[float], bool] = lambda silent: silent < LONGEST_LIFE,
    ) -> Final:
        """Ask until there is nothing left to ask. After a crash, call it again with the last recorded state.

        Args:
            state: what is known of the prediction.
            pause: the seconds to wait before the next question, while they are answered.
            trail: how the provider has answered until now; it is kept up here, so whoever has it can write it down.
            lasts: whether the provider may still have the result, after so many seconds without a good answer.

        Raises:
            SubmitUnsure: the provider never knew the prediction, as far as was seen here.
            Refused: several questions in a row were refused for the key.
            Timeout: nothing was heard of it until its result is surely gone.
        """
        trail = trail or Trail()
        doubt = _Doubt()
        while not isinstance(state, Succeeded | Failed | Canceled):
            await self._rest(pause(state), doubt, trail)
            try:
                heard = await self._ask(state)
            except (ProviderDown, Busy, Refused) as error:
                # A question that fails says nothing about the prediction: it is paid for, so we ask again.
                await self._missed(error, doubt, trail)
                if not lasts(trail.silent):
                    raise _over(error) from error
                continue
            if _is_not_found(heard) and not doubt.is_believed(trail, lasts):
                # Lists lag behind and services are moved: after a good answer, "not found" passes.
                doubt.miss()
                await self._missed(_unseen(), doubt, trail)
                continue
            if _is_not_found(heard) and not trail.seen:
                raise _unknown(state.ticket)
            trail.hear()
            if heard != state or doubt.told:
                await self.record(heard)
            doubt, state = _Doubt(), heard
        return state

    async def _rest(self, seconds: float, doubt: "_Doubt", trail: "Trail") -> None:
        """Wait before a question; while none is answered, the time that passes is counted."""
        longest = _LONGEST_PAUSE if trail.silent < _LONG_SILENCE else _RAREST_PAUSE
        waited, begun = max(seconds, min(doubt.pause, longest)), anyio.current_time()
        await self.sleep(waited)
        if doubt.pause:
            trail.silent += max(waited, anyio.current_time() - begun)

    async def _missed(self, error: ProviderError, doubt: "_Doubt", trail: "Trail") -> None:
        doubt.pause = _longer(doubt.pause, error)
        doubt.refusals = doubt.refusals + 1 if isinstance(error, Refused) else 0
        if doubt.refusals == _REFUSALS:
            raise error
        if self.missed is not None and trail.silent >= doubt.tell_at:
            doubt.told, doubt.tell_at = True, trail.silent + _TELL_EVERY
            await self.missed(error)

    async def _ask(self, state: Open) -> Prediction:
        return self.dialect.read(await self.send(self.dialect.ask(state)), state)

    async def look(self, state: Open) -> Prediction:
        """One question; the state as it was when the answer says nothing.

        Raises:
            Refused: the key is not accepted, so nothing can be known.
        """
        try:
            return await self._ask(state)
        except Refused:
            raise
        except ProviderError:
            return state

    async def cancel(self, ticket: Ticket) -> "Told":
        """Tell the provider to stop, and what it answered. It is free, so trouble that may pass is tried again."""
        call = self.dialect.cancel(ticket)
        if call is None:
            return Told()
        for tries_left in reversed(range(_CANCEL_TRIES)):
            try:
                reply = await self.send(call)
            except ProviderError:
                reply = None
            if reply is not None and not _passes(reply):
                return Told(reply.ok, reply.status in _NO_ENTRY, self._last_word(reply, ticket) if reply.ok else None)
            if tries_left:
                await self.sleep(_TROUBLE_PAUSE)
        return Told()

    def _last_word(self, reply: Reply, ticket: Ticket) -> Final | None:
        """The end of the run, where the answer to a cancel carries it: Replicate's is the prediction itself."""
        try:
            heard = self.dialect.read(reply, Waiting(ticket))
        except RotoscopeError:
            return None
        return heard if isinstance(heard, Succeeded | Failed | Canceled) and not _is_not_found(heard) else None

    async def recent(self, call: Call, since: float) -> Seen | None:
        """What the provider lists as submitted to the call's endpoint since a moment (Unix seconds of its clock).

        What was read counts, also when a page after it could not be: then the list is not whole. None where the
        provider has no list, or no page of it could be read now.
        """
        asking = self.dialect.recent(call, since)
        if asking is None:
            return None
        found, whole = list[Sighting](), True
        for number in range(_PAGES):
            try:
                page = self.dialect.sightings(await self.send(asking), call)
            except ProviderError:
                return Seen(tuple(found), whole=False) if number else None
            found, whole = [*found, *page.found], whole and page.whole
            if page.following is None:
                return Seen(tuple(found), whole)
            asking = page.following
        return Seen(tuple(found), whole=False)

    async def identify(self, call: Call, prediction_id: str) -> Sighting | None:
        """What the provider keeps of one prediction of the call's model; None where it shows none.

        Raises:
            ProviderError: it does not answer just now.
        """
        asking = self.dialect.record(call, prediction_id)
        if asking is None:
            return None
        reply = await self.send(asking)
        if reply.status in {401, 403, 429} or reply.status >= 500:  # noqa: PLR2004 - what says nothing of the run
            raise ProviderDown("The provider does not show the prediction just now.", hint="Try again later.")
        shown = self.dialect.sighting(reply.json(), call) if reply.ok else None
        return shown if shown is not None and shown.ticket.id == prediction_id else None

    async def upload(self, parcel: Parcel) -> str:
        """Bring a file to the provider; the URL it is read from. Uploads are free, so they are tried again.

        Raises:
            InvalidInput: the provider takes no files.
            ProviderError: it did not take this one.
        """
        for tries_left in reversed(range(_UPLOAD_TRIES)):
            try:
                return await self._upload_once(parcel)
            except (ProviderDown, Busy) as error:
                if not tries_left:
                    raise
                await self.sleep(min(_longer(0.0, error), _LONGEST_PAUSE))
        raise AssertionError  # the last try returns or raises

    async def _upload_once(self, parcel: Parcel) -> str:
        first = self.dialect.upload(parcel)
        if first is None:
            raise InvalidInput("This provider takes no files.", hint="Give a public https URL instead.")
        placement = self.dialect.placed(await self.send(first), parcel)
        replies = [await self._stored(part) for part in placement.parts]
        closing = placement.closing(replies)
        if closing is not None:
            await self._stored(closing)
        return placement.url

    async def _stored(self, part: HttpCall) -> Reply:
        reply = await self.send(part)
        if not reply.ok:
            raise ProviderDown(f"The provider's storage answered {reply.status} to an upload.", hint="Try again later.")
        return reply


@dataclass(slots=True)
class Trail:
    """How a provider has answered the questions about one prediction.

    Attributes:
        seen: whether it has ever told a state of it.
        silent: the seconds that were seen to pass since its last good answer; 0 while it answers.
    """

    seen: bool = False
    silent: float = 0.0

    def hear(self) -> None:
        """A state was told."""
        self.seen, self.silent = True, 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider made of the wish that a run stops.

    Attributes:
        taken: it answered that it took the wish; whether the run stops is another matter.
        refused: it does not accept the key.
        final: how the run has ended, where the answer says it.
    """

    taken: bool = False
    refused: bool = False
    final: Final | None = None


@dataclass(slots=True)
class _Doubt:
    """What has gone wrong since the last answer."""

    pause: float = 0.0
    misses: int = 0
    refusals: int = 0
    told: bool = False
    tell_at: float = 0.0

    def miss(self) -> None:
        self.misses += 1

    def is_believed(self, trail: Trail, lasts: Callable[[float], bool]) -> bool:
        """Whether the provider surely does not have the prediction: never had it, or has it no more."""
        return not lasts(trail.silent) if trail.seen else self.misses >= _MISSES


def _is_not_found(heard: Prediction) -> bool:
    """Whether it is a plain "not found"; one that tells of the run, that its data were removed, is no blip."""
    return isinstance(heard, Failed) and heard.code == _GONE and heard.charged is None


def _unseen() -> ProviderDown:
    return ProviderDown("The provider does not find the prediction just now.", hint="It is asked about again.")


def _over(error: ProviderError) -> Timeout:
    return Timeout(
        "The provider could not be asked about the run until its result was surely gone.",
        hint="Whether it was charged is shown at the provider.",
        said=error.said,
    )


def _unknown(ticket: Ticket) -> SubmitUnsure:
    return SubmitUnsure(
        "The provider accepted the request but does not know the prediction.",
        hint=f"Look at prediction {ticket.id} of {ticket.endpoint} there before you call again.",
    )


def _passes(reply: Reply) -> bool:
    """Whether it is trouble that may be over the next time."""
    return reply.status == 429 or reply.status >= 500  # noqa: PLR2004 - too many requests, and server errors


def _longer(pause: float, error: ProviderError) -> float:
    asked = error.after if isinstance(error, Busy) and error.after is not None else 0.0
    return min(max(2 * pause, _TROUBLE_PAUSE, asked), _RAREST_PAUSE)
