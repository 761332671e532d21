"""The runner: starts a prediction once and follows it to its end. The only loop that asks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
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
from rotoscope.providers.dialects import Dialect, UploadFile
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.recent import RecentList, RecentPrediction
from rotoscope.providers.states import Call, Canceled, Failed, Final, Open, Prediction, Succeeded, Ticket, Waiting

__all__ = ["MAX_RESULT_AGE", "CancelOutcome", "PollHistory", "Runner", "Send"]

MAX_RESULT_AGE = 7 * 86_400.0
"""Seconds for which a result is looked for where no provider says how long it keeps it. None that says so keeps it for
more than some days; to ask for too long is free, and to stop too early loses what was paid for.
"""

_UPLOAD_TRIES = 3
_RETRY_PAUSE = 1.0
_MAX_POLL_PAUSE = 60.0  # seconds; after an hour of silence:
_LONG_SILENCE, _MAX_SILENT_PAUSE = 3600.0, 300.0
_REPORT_EVERY = 60.0  # seconds of silence between two notes of it
_AUTH_STATUSES = frozenset({401, 403})
_EXPIRED_CODE = "output_expired"
_MAX_NOT_FOUND = 4
_MAX_REFUSALS = 3
_CANCEL_TRIES = 3
_MAX_PAGES = 10


class Send(Protocol):
    """The wire, with a provider's key.

    A guard may refuse, by an error of its own, just before anything is sent. `pays` is said of what costs money.
    """

    async def __call__(
        self, call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False
    ) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Speaks to one provider.

    Attributes:
        dialect: words the requests and reads the replies.
        send: the wire.
        record: told of every new state before anybody else is; the ledger.
        sleep: waits some seconds.
        report_miss: told when questions are not answered: of the first of several in a row, then about once a minute.
    """

    dialect: Dialect
    send: Send
    record: Callable[[Prediction], Awaitable[None]]
    sleep: Callable[[float], Awaitable[None]]
    report_miss: Callable[[ProviderError], Awaitable[None]] | None = None

    async def start(self, call: Call, before_send: Callable[[], None] | None = None) -> Prediction:
        """Spend the money, once. The ledger holds the intent before this is called, and the caller writes the state.

        Args:
            call: what is asked for.
            before_send: called at the last moment before anything is sent; what it raises comes out, and nothing was
                sent.

        Raises:
            SubmitUnsure: nobody can know whether it was accepted.
            ProviderError, UserMistake: it was not accepted.
        """
        try:
            state = self.dialect.read(await self.send(self.dialect.submit(call), before_send, pays=True), call)
        except Unreachable:
            raise
        except ProviderDown as error:
            raise SubmitUnsure(
                f"{call.provider} may have accepted the request, but its reply was lost.",
                hint=f"Look at your recent predictions of {call.endpoint} at {call.provider} before you call again.",
                provider_message=error.provider_message,
            ) from error
        return state

    async def follow(
        self,
        state: Prediction,
        pause: Callable[[Open], float],
        history: "PollHistory | None" = None,
        can_have_result: Callable[[float], bool] = lambda silent: silent < MAX_RESULT_AGE,
    ) -> Final:
        """Ask until there is nothing left to ask. After a crash, call it again with the last recorded state.

        Args:
            state: what is known of the prediction.
            pause: the seconds to wait before the next question, while they are answered.
            history: how the provider has answered until now; it is kept up here, so whoever has it can write it down.
            can_have_result: whether the provider may still have the result, after so many seconds without a good
                answer.

        Raises:
            SubmitUnsure: the provider never knew the prediction, as far as was seen here.
            Refused: several questions in a row were refused for the key.
            Timeout: nothing was heard of it until its result is surely gone.
        """
        history = history or PollHistory()
        doubt = _PollTrouble()
        while not isinstance(state, Succeeded | Failed | Canceled):
            await self._wait_before_poll(pause(state), doubt, history)
            try:
                heard = await self._ask(state)
            except (ProviderDown, Busy, Refused) as error:
                # A question that fails says nothing about the prediction: it is paid for, so we ask again.
                await self._count_failure(error, doubt, history)
                if not can_have_result(history.silent_seconds):
                    raise _expiry_error(error) from error
                continue
            if _is_not_found(heard) and not doubt.is_missing(history, can_have_result):
                # Lists lag behind and services are moved: after a good answer, "not found" passes.
                doubt.count_miss()
                await self._count_failure(_not_found_error(), doubt, history)
                continue
            if _is_not_found(heard) and not history.was_found:
                raise _unknown_prediction_error(state.ticket)
            history.note_answer()
            if heard != state or doubt.is_reported:
                await self.record(heard)
            doubt, state = _PollTrouble(), heard
        return state

    async def _wait_before_poll(self, seconds: float, trouble: "_PollTrouble", history: "PollHistory") -> None:
        """Wait before a question; while none is answered, the time that passes is counted."""
        longest = _MAX_POLL_PAUSE if history.silent_seconds < _LONG_SILENCE else _MAX_SILENT_PAUSE
        waited, begun = max(seconds, min(trouble.pause, longest)), anyio.current_time()
        await self.sleep(waited)
        if trouble.pause:
            history.silent_seconds += max(waited, anyio.current_time() - begun)

    async def _count_failure(self, error: ProviderError, trouble: "_PollTrouble", history: "PollHistory") -> None:
        trouble.pause = _next_pause(trouble.pause, error)
        trouble.refusals = trouble.refusals + 1 if isinstance(error, Refused) else 0
        if trouble.refusals == _MAX_REFUSALS:
            raise error
        if self.report_miss is not None and history.silent_seconds >= trouble.report_at:
            trouble.is_reported, trouble.report_at = True, history.silent_seconds + _REPORT_EVERY
            await self.report_miss(error)

    async def _ask(self, state: Open) -> Prediction:
        return self.dialect.read(await self.send(self.dialect.ask(state)), state)

    async def ask_once(self, state: Open) -> Prediction:
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

    async def cancel(self, ticket: Ticket) -> "CancelOutcome":
        """Tell the provider to stop, and what it answered. It is free, so trouble that may pass is tried again."""
        call = self.dialect.cancel(ticket)
        if call is None:
            return CancelOutcome()
        for tries_left in reversed(range(_CANCEL_TRIES)):
            try:
                reply = await self.send(call)
            except ProviderError:
                reply = None
            if reply is not None and not _is_transient(reply):
                return CancelOutcome(
                    reply.is_success,
                    reply.status in _AUTH_STATUSES,
                    self._final_state_in(reply, ticket) if reply.is_success else None,
                )
            if tries_left:
                await self.sleep(_RETRY_PAUSE)
        return CancelOutcome()

    def _final_state_in(self, reply: Reply, ticket: Ticket) -> Final | None:
        """The end of the run, where the answer to a cancel carries it: Replicate's is the prediction itself."""
        try:
            heard = self.dialect.read(reply, Waiting(ticket))
        except RotoscopeError:
            return None
        return heard if isinstance(heard, Succeeded | Failed | Canceled) and not _is_not_found(heard) else None

    async def list_recent(self, call: Call, since: float) -> RecentList | None:
        """What the provider lists as submitted to the call's endpoint since a moment (Unix seconds of its clock).

        What was read counts, also when a page after it could not be: then the list is not whole. None where the
        provider has no list, or no page of it could be read now.
        """
        asking = self.dialect.list_recent(call, since)
        if asking is None:
            return None
        found, whole = list[RecentPrediction](), True
        for number in range(_MAX_PAGES):
            try:
                page = self.dialect.read_recent(await self.send(asking), call)
            except ProviderError:
                return RecentList(tuple(found), is_complete=False) if number else None
            found, whole = [*found, *page.predictions], whole and page.is_complete
            if page.next_page is None:
                return RecentList(tuple(found), whole)
            asking = page.next_page
        return RecentList(tuple(found), is_complete=False)

    async def identify(self, call: Call, prediction_id: str) -> RecentPrediction | None:
        """What the provider keeps of one prediction of the call's model; None where it shows none.

        Raises:
            ProviderError: it does not answer just now.
        """
        asking = self.dialect.look_up(call, prediction_id)
        if asking is None:
            return None
        reply = await self.send(asking)
        if reply.status in {401, 403, 429} or reply.status >= 500:  # noqa: PLR2004 - what says nothing of the run
            raise ProviderDown("The provider does not show the prediction just now.", hint="Try again later.")
        shown = self.dialect.read_row(reply.json(), call) if reply.is_success else None
        return shown if shown is not None and shown.ticket.id == prediction_id else None

    async def upload(self, file: UploadFile) -> str:
        """Bring a file to the provider; the URL it is read from. Uploads are free, so they are tried again.

        Raises:
            InvalidInput: the provider takes no files.
            ProviderError: it did not take this one.
        """
        for tries_left in reversed(range(_UPLOAD_TRIES)):
            try:
                return await self._upload_once(file)
            except (ProviderDown, Busy) as error:
                if not tries_left:
                    raise
                await self.sleep(min(_next_pause(0.0, error), _MAX_POLL_PAUSE))
        raise AssertionError  # the last try returns or raises

    async def _upload_once(self, file: UploadFile) -> str:
        first = self.dialect.upload(file)
        if first is None:
            raise InvalidInput("This provider takes no files.", hint="Give a public https URL instead.")
        plan = self.dialect.read_upload(await self.send(first), file)
        replies = [await self._send_part(part) for part in plan.parts]
        if plan.complete is not None:
            await self._send_part(replace(plan.complete, json={"parts": [reply.fields() for reply in replies]}))
        return plan.url

    async def _send_part(self, part: HttpCall) -> Reply:
        reply = await self.send(part)
        if not reply.is_success:
            raise ProviderDown(f"The provider's storage answered {reply.status} to an upload.", hint="Try again later.")
        return reply


@dataclass(slots=True)
class PollHistory:
    """How a provider has answered the questions about one prediction.

    Attributes:
        was_found: whether it has ever told a state of it.
        silent_seconds: the seconds that were seen to pass since its last good answer; 0 while it answers.
    """

    was_found: bool = False
    silent_seconds: float = 0.0

    def note_answer(self) -> None:
        """A state was told."""
        self.was_found, self.silent_seconds = True, 0.0


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What a provider made of the wish that a run stops.

    Attributes:
        accepted: it answered that it took the wish; whether the run stops is another matter.
        key_refused: it does not accept the key.
        final: how the run has ended, where the answer says it.
    """

    accepted: bool = False
    key_refused: bool = False
    final: Final | None = None


@dataclass(slots=True)
class _PollTrouble:
    """What has gone wrong since the last answer."""

    pause: float = 0.0
    misses: int = 0
    refusals: int = 0
    is_reported: bool = False
    report_at: float = 0.0

    def count_miss(self) -> None:
        self.misses += 1

    def is_missing(self, history: PollHistory, can_have_result: Callable[[float], bool]) -> bool:
        """Whether the provider surely does not have the prediction: never had it, or has it no more."""
        return not can_have_result(history.silent_seconds) if history.was_found else self.misses >= _MAX_NOT_FOUND


def _is_not_found(state: Prediction) -> bool:
    """Whether it is a plain "not found"; one that tells of the run, that its data were removed, is no blip."""
    return isinstance(state, Failed) and state.code == _EXPIRED_CODE and state.charged is None


def _not_found_error() -> ProviderDown:
    return ProviderDown("The provider does not find the prediction just now.", hint="It is asked about again.")


def _expiry_error(error: ProviderError) -> Timeout:
    return Timeout(
        "The provider could not be asked about the run until its result was surely gone.",
        hint="Whether it was charged is shown at the provider.",
        provider_message=error.provider_message,
    )


def _unknown_prediction_error(ticket: Ticket) -> SubmitUnsure:
    return SubmitUnsure(
        "The provider accepted the request but does not know the prediction.",
        hint=f"Look at prediction {ticket.id} of {ticket.endpoint} there before you call again.",
    )


def _is_transient(reply: Reply) -> bool:
    """Whether it is trouble that may be over the next time."""
    return reply.status == 429 or reply.status >= 500  # noqa: PLR2004 - too many requests, and server errors


def _next_pause(pause: float, error: ProviderError) -> float:
    asked = error.retry_after if isinstance(error, Busy) and error.retry_after is not None else 0.0
    return min(max(2 * pause, _RETRY_PAUSE, asked), _MAX_SILENT_PAUSE)
