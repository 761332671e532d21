"""The runner: starts a prediction once and follows it to its end. The only loop that asks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rotoscope.errors import Busy, InvalidInput, ProviderDown, ProviderError, Refused, SubmitUnsure, Unreachable
from rotoscope.predictions.dialects import Dialect, Parcel
from rotoscope.predictions.states import Call, Canceled, Failed, Final, Open, Prediction, Succeeded, Ticket
from rotoscope.wire.messages import HttpCall, Reply

__all__ = ["Runner"]

_UPLOAD_TRIES = 3
_TROUBLE_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_GONE = "output_expired"
_MISSES = 4


@dataclass(frozen=True, slots=True)
class Runner:
    """Speaks to one provider.

    Attributes:
        dialect: words the requests and reads the replies.
        send: the wire, with the provider's key.
        record: told of every new state before anybody else is; the ledger.
        sleep: waits some seconds.
    """

    dialect: Dialect
    send: Callable[[HttpCall], Awaitable[Reply]]
    record: Callable[[Prediction], Awaitable[None]]
    sleep: Callable[[float], Awaitable[None]]

    async def start(self, call: Call) -> Prediction:
        """Spend the money, once. The ledger holds the intent before this is called, and the caller writes the state.

        Raises:
            SubmitUnsure: nobody can know whether it was accepted.
            ProviderError, UserMistake: it was not accepted.
        """
        try:
            state = self.dialect.read(await self.send(self.dialect.submit(call)), call)
        except Unreachable:
            raise
        except ProviderDown as error:
            raise SubmitUnsure(
                f"{call.provider} may have accepted the request, but its reply was lost.",
                hint=f"Look at your recent predictions of {call.endpoint} at {call.provider} before you call again.",
                said=error.said,
            ) from error
        return state

    async def follow(self, state: Prediction, pause: Callable[[Open], float]) -> Final:
        """Ask until there is nothing left to ask. After a crash, call it again with the last recorded state.

        Raises:
            SubmitUnsure: the provider never knew the prediction, as far as was seen here.
        """
        trouble, missed, seen = 0.0, 0, False
        while not isinstance(state, Succeeded | Failed | Canceled):
            await self.sleep(max(pause(state), trouble))
            try:
                heard = await self._ask(state)
            except (ProviderDown, Busy, Refused) as error:
                # A question that fails says nothing about the prediction: it is paid for, so we ask again.
                trouble = _longer(trouble, error)
                continue
            if isinstance(heard, Failed) and heard.code == _GONE and missed < _MISSES:
                # Lists lag behind, and one "not found" may pass: only several in a row are believed.
                missed, trouble = missed + 1, max(2 * trouble, _TROUBLE_PAUSE)
                continue
            if missed == _MISSES and not seen:
                raise _unknown(state.ticket)
            trouble, missed, seen = 0.0, 0, True
            if heard != state:
                await self.record(heard)
            state = heard
        return state

    async def _ask(self, state: Open) -> Prediction:
        return self.dialect.read(await self.send(self.dialect.ask(state)), state)

    async def look(self, state: Open) -> Prediction:
        """One question; the state as it was when the answer says nothing."""
        try:
            return await self._ask(state)
        except ProviderError:
            return state

    async def cancel(self, ticket: Ticket) -> bool:
        """Tell the provider to stop; whether it was told and took it."""
        call = self.dialect.cancel(ticket)
        if call is None:
            return False
        try:
            reply = await self.send(call)
        except ProviderError:
            return False
        return reply.ok

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
                await self.sleep(_longer(0.0, error))
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


def _unknown(ticket: Ticket) -> SubmitUnsure:
    return SubmitUnsure(
        "The provider accepted the request but does not know the prediction.",
        hint=f"Look at prediction {ticket.id} of {ticket.endpoint} there before you call again.",
    )


def _longer(pause: float, error: ProviderError) -> float:
    asked = error.after if isinstance(error, Busy) and error.after is not None else 0.0
    return min(max(2 * pause, _TROUBLE_PAUSE, asked), _LONGEST_PAUSE)
