"""What a dialect is: the protocol that every provider's wire is read and written by, and a base class for a new one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from rotoscope.providers.dialects.error_map import upload_error
from rotoscope.providers.http.messages import HttpCall, Json, Reply
from rotoscope.providers.recent import RecentPage, RecentPrediction, RunPage
from rotoscope.providers.states import Call, Open, Prediction, Ticket

__all__ = ["Dialect", "DialectBase", "UploadFile", "UploadPlan"]


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A checked file on its way to a provider. `name` is made up by us; `size` is in bytes."""

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
    """One provider's wire protocol. Pure: it builds requests and reads replies, and never opens a socket.

    A dialect is made with the provider's base URLs as its only argument, and holds no other state.

    Attributes:
        bases: the provider's base URLs by purpose; `api` is always there, the others are the dialect's own.
        price_metrics: by the unit of a price, the provider's metric that measures what is charged; `billed_unit` is a
            unit of the provider's own bill. A metric that is not named here is not taken for money, whatever its name:
            a "cost" may be in credits.
    """

    price_metrics: ClassVar[Mapping[str, str]]

    @property
    def bases(self) -> Mapping[str, str]: ...

    def __init__(self, bases: Mapping[str, str]) -> None: ...

    def submit(self, call: Call) -> HttpCall:
        """Build the paying request. It costs money, so it is sent at most once."""
        ...

    def ask(self, state: Open) -> HttpCall:
        """Build the free GET that asks about an open prediction. It is repeated at will."""
        ...

    def listen(self, ticket: Ticket) -> HttpCall | None:
        """Build the request for a stream of server-sent events about a prediction; None where the provider has none.

        An event only triggers an `ask`; the state is always read from the reply to that.
        """
        ...

    def cancel(self, ticket: Ticket) -> HttpCall | None:
        """Build the request to stop a prediction; None where the provider has none."""
        ...

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """The ticket for a prediction of this call, when only its id is known."""
        ...

    def list_recent(self, call: Call, since: float) -> HttpCall | None:
        """Build the free request for the list of what was submitted to the call's endpoint; None where there is none.

        Args:
            call: the call that is looked for.
            since: the earliest time of submission, in Unix seconds.
        """
        ...

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:
        """Read one page of that list.

        Raises:
            ProviderError: it cannot be read now, the key may not read it, or the reply is no such list.
        """
        ...

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:
        """Build the free request for one prediction with its input; None where there is none."""
        ...

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:
        """Read one prediction, from `look_up` or as a row of the list.

        Returns:
            None where it is of another model than the call's, or has no id or no input.
        """
        ...

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:
        """Build the free request for the list that shows which runs have ended; None where there is none.

        Args:
            endpoint: the endpoint of the runs; endpoints whose requests are equal share one list.
            since: when the oldest of them was accepted, in Unix seconds.
        """
        ...

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:
        """Read one page of that list. A run that is missing or unreadable in it may be there all the same.

        Raises:
            ProviderError: it cannot be read now, or the key may not read it.
        """
        ...

    def read(self, reply: Reply, about: Call | Open) -> Prediction:
        """Read the reply to the submit of a call, or to the ask about an open state.

        A reply that proves that the run failed, charged or not, is a `Failed` state and no error.

        Raises:
            InvalidInput, Refused, OutOfCredit, Busy: to a submit, it proves that nothing was accepted (Refused and Busy
                also to an ask, where they say nothing about the prediction).
            ReplyLost: to a submit, it proves neither that the request was accepted nor that it was not.
            ProviderDown: to an ask, it says nothing about the prediction; ask again.
        """
        ...

    def upload(self, file: UploadFile) -> HttpCall | None:
        """Build the first request that brings a file to the provider; None where it takes no files."""
        ...

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:
        """Read the reply to `upload`.

        Raises:
            ProviderError: the file was not taken.
        """
        ...


class DialectBase:
    """A base for a new dialect: it takes no files, has no lists and no event stream.

    A subclass adds `submit`, `ask`, `cancel` and `read`, and overrides here what its provider offers beyond that.
    """

    price_metrics: ClassVar[Mapping[str, str]] = {}

    def __init__(self, bases: Mapping[str, str]) -> None:
        self.bases = bases

    def ticket(self, call: Call, prediction_id: str) -> Ticket:
        """A ticket with the id alone."""
        return Ticket(prediction_id, call.endpoint)

    def listen(self, ticket: Ticket) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """No event stream."""
        return None

    def list_recent(self, call: Call, since: float) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """No list: a run whose reply was lost is then left to a person."""
        return None

    def read_recent(self, reply: Reply, call: Call) -> RecentPage:  # noqa: ARG002 - the protocol's signature
        """Nothing read, so nothing is proven by what is missing."""
        return RecentPage((), is_complete=False)

    def look_up(self, call: Call, prediction_id: str) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """No look-up of a prediction with its input."""
        return None

    def read_row(self, row: Json, call: Call) -> RecentPrediction | None:  # noqa: ARG002 - the protocol's signature
        """No rows."""
        return None

    def list_runs(self, endpoint: str, since: float) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """No list of runs: each run is asked about by itself."""
        return None

    def read_runs(self, reply: Reply, endpoint: str) -> RunPage:  # noqa: ARG002 - the protocol's signature
        """An empty page."""
        return RunPage(())

    def upload(self, file: UploadFile) -> HttpCall | None:  # noqa: ARG002 - the protocol's signature
        """No files are taken."""
        return None

    def read_upload(self, reply: Reply, file: UploadFile) -> UploadPlan:  # noqa: ARG002 - the protocol's signature
        """Raise: no file was taken."""
        raise upload_error(reply)
