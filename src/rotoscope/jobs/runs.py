"""What a provider says of a job's run, for a person: its id and page there, what was measured, what credit is left.

The id is what a provider's support and bills go by. All of it comes from the provider, so it is bounded and cleaned.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from rotoscope.contracts.results import ProviderFile, ProviderRun
from rotoscope.jobs.job import Job
from rotoscope.media.captions import clean_text
from rotoscope.predictions.dialects.addresses import PAGE
from rotoscope.predictions.states import Ticket
from rotoscope.wire.messages import Json

__all__ = ["credits_left", "metrics_of", "opens_in_a_browser", "provider_run", "run_data"]

_CREDITS = "remaining_credits"
_MOST_METRICS, _MOST_FILES = 20, 8
_LONGEST_NAME = 60  # bytes of UTF-8
_ABSURD = 1e15
_NOWHERE = ".invalid"  # reserved by RFC 6761: what the built-in sandbox is named by, and nobody can open


def run_data(ticket: Ticket | None) -> dict[str, Json]:
    """What a job keeps of its run, as data."""
    return {} if ticket is None else {"run": {"id": ticket.id, "web_url": ticket.urls.get(PAGE)}}


def provider_run(job: Job, files: Sequence[ProviderFile] = ()) -> ProviderRun | None:
    """The run at the provider; None where there is none, or its id is not known."""
    known = job.data.get("run")
    if not isinstance(known, dict) or not isinstance(known.get("id"), str):
        return None
    page = known.get("web_url")
    shown = page if isinstance(page, str) and opens_in_a_browser(page) else None
    return ProviderRun(id=str(known["id"]), web_url=shown, files=list(files[:_MOST_FILES]))


def metrics_of(job: Job) -> Mapping[str, float]:
    """What the provider has measured, as far as it is numbers."""
    return dict(list(_numbers(job.data.get("metrics")))[:_MOST_METRICS])


def _numbers(metrics: Json) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items() if isinstance(metrics, dict) else ():
        number = _number(value)
        shown = clean_text(name, _LONGEST_NAME)
        if number is not None and shown and name != _CREDITS:
            yield shown, number


def credits_left(job: Job) -> float | None:
    """What is left of the account's credits, in the provider's own unit; None where it does not say."""
    metrics = job.data.get("metrics")
    value = metrics.get(_CREDITS) if isinstance(metrics, dict) else None
    if isinstance(value, str):
        try:
            value = float(value[:_LONGEST_NAME])
        except ValueError:
            return None
    return _number(value)


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_ABSURD < value < _ABSURD and isfinite(value) else None


def opens_in_a_browser(url: str) -> bool:
    """Whether an address can lead anywhere: the names of the built-in sandbox cannot."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].lower()
    return bool(host) and not host.endswith(_NOWHERE)
