"""The intent to pay, as a test of the store writes it."""

from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job, Submission

__all__ = ["intent_of"]


async def intent_of(ledger: Ledger, job: Job) -> Submission:
    """Commit the intent to pay for a job, or read the one that stands."""
    intent = await ledger.commit_intent(job, "digest")
    assert intent is not None
    return intent
