"""Questions about a price as the ledger holds them, as frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.money import usd_to_millionths

__all__ = ["QUESTION_LIFE", "AskedPrice", "PriceQuestion", "QuestionState"]

QUESTION_LIFE = 86_400.0
"""How long a question stays readable after its last change, in seconds."""

QuestionState = Literal["open", "agreed", "started", "declined", "cancelled", "refused"]


@dataclass(frozen=True, slots=True)
class AskedPrice:
    """What is asked: for which requests a price is, in US dollars, and the question in words."""

    key: str
    usd: float
    words: str


@dataclass(frozen=True, slots=True)
class PriceQuestion:
    """One row. Times are Unix seconds.

    Attributes:
        args: the arguments of the call, as they were given.
        millionths: the price that is asked about, in millionths of a US dollar.
        round: how often a price was asked about.
        job_id: which job the yes has opened, under the question's own id, or joined.
    """

    id: str
    principal: str
    tool: str
    args: Mapping[str, Json]
    key: str
    millionths: int
    words: str
    round: int
    state: QuestionState
    error: ErrorRecord | None
    job_id: str | None
    created_at: float
    updated_at: float
    expires_at: float

    def is_expired(self, now: float) -> bool:
        """Whether nobody has answered in time, or what was agreed to was not begun in time."""
        return self.state in ("open", "agreed") and now > self.expires_at

    def covers(self, asked: AskedPrice) -> bool:
        """Whether a yes to it is a yes to that."""
        return self.key == asked.key and usd_to_millionths(asked.usd) <= self.millionths
