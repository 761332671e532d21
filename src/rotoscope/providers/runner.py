"""The runner: sends the paying request once, and polls the prediction to its end. The only loop that polls.

A submit and a poll treat the same failure in opposite ways. A submit costs money: unless the failure proves that
nothing was accepted, it is not sent again (`SubmitUnsure`). A poll is free and the run behind it is paid for: whatever
fails, it is sent again, until the provider surely no longer has the result.
"""

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
from rotoscope.providers.webhooks import WebhookSender

__all__ = ["MAX_RESULT_AGE", "CancelOutcome", "PollHistory", "Runner", "Send"]

MAX_RESULT_AGE = 7 * 86_400.0
"""Seconds after which a result counts as gone where the provider does not say how long it keeps one. Those that say so
keep it for some days at most; to poll for too long is free, and to stop too early loses what was paid for.
"""

_UPLOAD_TRIES = 3
_RETRY_PAUSE = 1.0  # seconds
_MAX_POLL_PAUSE = 60.0  # seconds between polls that fail, at most, for the first:
_LONG_SILENCE = 3600.0  # seconds; after those:
_MAX_SILENT_PAUSE = 300.0  # seconds
_REPORT_EVERY = 60.0  # seconds of failing polls between two reports of them
_AUTH_STATUSES = frozenset({401, 403})
_EXPIRED_CODE = "output_expired"
_MAX_NOT_FOUND = 4  # polls in a row; a prediction that was never found by then is unknown to the provider
_MAX_REFUSALS = 3  # polls in a row that refuse the key
_CANCEL_TRIES = 3
_MAX_PAGES = 10  # of a list of recent predictions


class Send(Protocol):
    """Sends one request with a provider's key.

    `before_send` is called just before anything is sent, and may refuse by an error of its own. `pays` is true for the
    paying request alone.
    """

    async def __call__(
        self, call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False
    ) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs predictions at one provider.

    Attributes:
        dialect: builds the requests and reads the replies.
        send: sends a request.
        record: writes a new state to the ledger, before anything else learns of it.
        sleep: waits some seconds.
        report_miss: called when polls fail: for the first of several in a row, then about once a minute.
    """

    dialect: Dialect
    send: Send
    record: Callable[[Prediction], Awaitable[None]]
    sleep: Callable[[float], Awaitable[None]]
    report_miss: Callable[[ProviderError], Awaitable[None]] | None = None

    async def start(
        self, call: Call, before_send: Callable[[], None] | None = None, webhook: str | None = None
    ) -> Prediction:
        """Send the paying request, once. Its intent is in the ledger already; the caller writes the state it returns.

        Args:
            call: the planned request.
            before_send: called at the last moment before anything is sent; what it raises comes out, and nothing was
                sent.
            webhook: an address for the provider to call at the end of the run, for a dialect that is a `WebhookSender`.

        Raises:
            SubmitUnsure: the request may have been accepted, and the reply does not say so.
            ProviderError, UserMistake: it was not accepted.
        """
        # What a failure proves: `Unreachable` that nothing was sent, the refusals of `Dialect.read` that nothing was
        # accepted. Every other `ProviderDown` (`ReplyLost` is one) proves neither.
        request = self.dialect.submit(call)
        if webhook is not None and isinstance(self.dialect, WebhookSender):
            request = self.dialect.add_webhook(request, webhook)
        try:
            state = self.dialect.read(await self.send(request, before_send, pays=True), call)
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
        """Poll until the state is final. After a crash, call it again with the last recorded state.

        Args:
            state: the last known state of the prediction.
            pause: the seconds to wait before the next poll, while polls are answered.
            history: how polls were answered until now; it is updated here, and the caller may store it.
            can_have_result: whether the provider may still have the result, after so many seconds without a good
                answer.

        Raises:
            SubmitUnsure: the provider never knew the prediction, as far as was seen here.
            Refused: several polls in a row were refused for the key.
            Timeout: no poll was answered until the result was surely gone.
        """
        history = history or PollHistory()
        trouble = _PollTrouble()
        while not isinstance(state, Succeeded | Failed | Canceled):
            await self._wait_before_poll(pause(state), trouble, history)
            try:
                answer = await self._ask(state)
            except (ProviderDown, Busy, Refused) as error:
                # A poll that fails says nothing about the prediction, which is paid for: poll again.
                await self._count_failure(error, trouble, history)
                if not can_have_result(history.silent_seconds):
                    raise _expiry_error(error) from error
                continue
            if _is_not_found(answer) and not trouble.is_missing(history, can_have_result):
                # A provider's databases lag behind and are moved: "not found" may pass, so it is no end yet.
                trouble.count_miss()
                await self._count_failure(_not_found_error(), trouble, history)
                continue
            if _is_not_found(answer) and not history.was_found:
                raise _unknown_prediction_error(state.ticket)
            history.note_answer()
            if answer != state or trouble.is_reported:
                await self.record(answer)
            trouble, state = _PollTrouble(), answer
        return state

    async def _wait_before_poll(self, seconds: float, trouble: "_PollTrouble", history: "PollHistory") -> None:
        """Wait before a poll; while polls fail, add the time that passes to `history.silent_seconds`."""
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
        """Poll once; returns the given state when the answer says nothing about the prediction.

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
        """Ask the provider to stop a run; returns its answer. It is free, so a failure that may pass is tried again."""
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
        """The final state of the run where the reply to a cancel has it: Replicate's is the prediction itself."""
        try:
            state = self.dialect.read(reply, Waiting(ticket))
        except RotoscopeError:
            return None
        return state if isinstance(state, Succeeded | Failed | Canceled) and not _is_not_found(state) else None

    async def list_recent(self, call: Call, since: float) -> RecentList | None:
        """The provider's list of what was submitted to the call's endpoint since a time (Unix seconds of its clock).

        Where a later page cannot be read, the pages before it count, and the list is not complete.

        Returns:
            None where the provider has no list, or no page of it can be read now.
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
        """One prediction of the call's model as the provider stores it; None where it shows no such prediction.

        Raises:
            ProviderError: it does not answer just now.
        """
        asking = self.dialect.look_up(call, prediction_id)
        if asking is None:
            return None
        reply = await self.send(asking)
        if reply.status in {401, 403, 429} or reply.status >= 500:  # noqa: PLR2004 - statuses that say nothing of the run
            raise ProviderDown("The provider does not show the prediction just now.", hint="Try again later.")
        shown = self.dialect.read_row(reply.json(), call) if reply.is_success else None
        return shown if shown is not None and shown.ticket.id == prediction_id else None

    async def has_prediction(self, ticket: Ticket) -> bool:
        """Whether the provider shows a state of a prediction to our key.

        Raises:
            ProviderError: it does not answer just now.
        """
        return not _is_not_found(await self._ask(Waiting(ticket)))

    async def upload(self, file: UploadFile) -> str:
        """Upload a file to the provider; returns the URL that a model reads it from. It is free, so it is tried again.

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
    """How a provider has answered the polls of one prediction.

    Attributes:
        was_found: whether any poll has shown a state of it.
        silent_seconds: the seconds counted here since the last good answer; 0 while polls are answered.
    """

    was_found: bool = False
    silent_seconds: float = 0.0

    def note_answer(self) -> None:
        """Note that a poll has shown a state."""
        self.was_found, self.silent_seconds = True, 0.0


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """The provider's answer to a cancel.

    Attributes:
        accepted: it took the request; whether the run stops is another matter.
        key_refused: it does not accept the key.
        final: the final state of the run, where the answer has it.
    """

    accepted: bool = False
    key_refused: bool = False
    final: Final | None = None


@dataclass(slots=True)
class _PollTrouble:
    """What has gone wrong with the polls since the last good answer."""

    pause: float = 0.0
    misses: int = 0
    refusals: int = 0
    is_reported: bool = False
    report_at: float = 0.0

    def count_miss(self) -> None:
        self.misses += 1

    def is_missing(self, history: PollHistory, can_have_result: Callable[[float], bool]) -> bool:
        """Whether the provider surely does not have the prediction: it never had it, or has deleted it."""
        return not can_have_result(history.silent_seconds) if history.was_found else self.misses >= _MAX_NOT_FOUND


def _is_not_found(state: Prediction) -> bool:
    """Whether a state is a plain "not found". One with a known charge is about the run: its data were deleted."""
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
    """Whether a reply is a failure that may be over at the next try."""
    return reply.status == 429 or reply.status >= 500  # noqa: PLR2004 - too many requests, and server errors


def _next_pause(pause: float, error: ProviderError) -> float:
    asked = error.retry_after if isinstance(error, Busy) and error.retry_after is not None else 0.0
    return min(max(2 * pause, _RETRY_PAUSE, asked), _MAX_SILENT_PAUSE)
