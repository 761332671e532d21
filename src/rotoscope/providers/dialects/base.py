"""What every dialect is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.recent import RecentPage, RecentPrediction, RunPage
from rotoscope.providers.states import Call, Open, Prediction, Ticket

__all__ = ["Dialect", "UploadFile", "UploadPlan"]


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A checked file on its way to a provider. `name` is one that we made up; `size` is in bytes."""

    path: Path
    name: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """How a file is uploaded: its URL is valid once every part, and then `complete`, were answered with a 2xx.

    Attributes:
        url: where the model reads the file.
        parts: the requests that carry the bytes, each free and repeatable.
        complete: the request that joins the parts; its JSON body becomes `{"parts": [the replies to the parts]}`.
    """

    url: str
    parts: tuple[HttpCall, ...] = ()
    complete: HttpCall | None = None


class Dialect(Protocol):
    """How one provider speaks. Pure: words requests, reads replies, never opens a socket.

    Attributes:
        bases: the provider's base URLs by purpose; `api` is always there, the others are the dialect's own.
        price_metrics: which of the provider's metrics measures what a price counts, by the unit of the price; both in
            seconds. A metric that is not here says nothing of money, whatever its name: a "cost" may be in credits.
    """

    price_metrics: ClassVar[Mapping[str, str]]

    @property
    def bases(self) -> Mapping[str, str]: ...

    def __init__(self, bases: Mapping[str, str]) -> None: ...

    def submit(self, call: Call) -> HttpCall:
        """Word the paying request. It costs money: sent at most once."""
        ...

    def ask(self, state: Open) -> HttpCall:
        """Word the free question about an open prediction. Repeat at will."""
        ...

    def listen(self, ticket: Ticket) -> HttpCall | None:
        """Word the request for a stream of server-sent events that tells of changes, or None where there is none.

        It only wakes who asks: what is true is always read with `ask`.
        """
        ...

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Word the request to stop, or None where the provider has none."""
        ...

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """What a prediction of this call is asked about with, when only its id is known."""
        ...

    def list_recent(self, call: Call, since: float) -> HttpCall | None:
        """Word the free request for the list of what was submitted to the call's endpoint, or None without one.

        Args:
            call: what was asked for.
            since: not before this moment, in Unix seconds.
        """
        ...

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:
        """Read one page of that list.

        Raises:
            ProviderError: it cannot be read now, this key may not, or the reply is no such list.
        """
        ...

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:
        """Word the free question for what is kept of one prediction, its input too; None where there is none."""
        ...

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:
        """Read what is kept of one prediction, or a row of the list; None where it is not of the call's model, or
        has no id or no input.
        """
        ...

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:
        """Word the free request for the list that tells which runs have ended; None where there is none.

        Args:
            endpoint: what the runs run; lists that are worded alike are one list.
            since: when the oldest of them was accepted, in Unix seconds.
        """
        ...

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:
        """Read one page of that list. What is not in it, or cannot be read, may be there all the same.

        Raises:
            ProviderError: it cannot be read now, or this key may not.
        """
        ...

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read the reply to the submit of a call, or to the ask about an open state.

        A reply that proves that the run failed, unbilled or not, is a `Failed` state and no error.

        Raises:
            InvalidInput, Refused, OutOfCredit, Busy: the provider refused; nothing was accepted.
            ReplyLost: to a submit, the reply proves neither that it was accepted nor that it was not.
            ProviderDown: to an ask, this answer says nothing about the prediction; ask again.
        """
        ...

    def upload(self, file: UploadFile) -> HttpCall | None:
        """Word the first request that brings a file to the provider, or None where it takes no files."""
        ...

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:
        """Read the reply to `upload`.

        Raises:
            ProviderError: the file was not taken.
        """
        ...
