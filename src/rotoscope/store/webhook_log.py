"""The webhooks that were taken: each once, whichever process received it, and what it woke.

The address of a webhook holds the nonce of an intent to pay. The row names the job of that intent, so that whichever
process drives the job finds it: one that watches the run polls it at once, one that looks for a run whose reply was
lost has an id to verify. Nothing else that a webhook says is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, null, select, update

from rotoscope.store.access_schema import webhooks
from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.rows import write_event
from rotoscope.store.schema import jobs, submissions
from rotoscope.store.write_locks import WriteLock

__all__ = ["WebhookLog", "find_old_webhooks", "remove_webhooks"]

_MAX_PER_JOB = 16  # deliveries of one job that are kept; a provider sends one, and the same one again
_PAGE_SIZE = 200  # rows of a read

# Statements are built once: building one costs more than running it.
_INTENT = select(submissions.c.job_id, submissions.c.prediction_id).where(
    submissions.c.nonce == bindparam("named"), submissions.c.provider == bindparam("at_provider")
)
_OF_JOB = webhooks.c.job_id == bindparam("of")
_COUNT = select(func.count()).where(_OF_JOB)
_RUNS = select(webhooks.c.prediction_id).where(_OF_JOB, webhooks.c.prediction_id.is_not(None)).order_by(webhooks.c.at)
# A job in review is looked at in the next round, and not when its pause is over.
_LOOK_SOON = update(jobs).where(jobs.c.id == bindparam("of"), jobs.c.state == "needs_review").values(next_at=null())
_OLD = (
    select(webhooks.c.provider, webhooks.c.id)
    .where(webhooks.c.at < bindparam("before"))
    .order_by(webhooks.c.at)
    .limit(_PAGE_SIZE)
)
_REMOVE = webhooks.delete().where(webhooks.c.provider == bindparam("at_provider"), webhooks.c.id == bindparam("named"))


@dataclass(frozen=True, slots=True)
class WebhookLog:
    """Webhooks in the ledger; unscoped, for a webhook is the provider's and acts on behalf of nobody.

    Attributes:
        database: the ledger's.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def record(self, provider: str, nonce: str, delivery_id: str, prediction_id: str | None) -> str | None:
        """Write that a verified webhook came, with an event of its job that other processes see.

        Args:
            provider: who sent it.
            nonce: that of the address.
            delivery_id: the provider's id of the delivery.
            prediction_id: the run that it is about; None where it names none.

        Returns:
            The job that is to be woken; None where the nonce is of no intent at this provider, the same delivery came
            before, or the run is known to be another one.

        Raises:
            StorageFailed: it could not be written in the time in which a provider should be answered.
        """
        now = self.clock()

        def find(connection: Connection) -> str | None:
            intent = connection.execute(_INTENT, {"named": nonce, "at_provider": provider}).first()
            if intent is None or (
                intent.prediction_id is not None and prediction_id not in (None, intent.prediction_id)
            ):
                return None
            return str(intent.job_id)

        def write(connection: Connection) -> str | None:
            job_id = find(connection)
            if job_id is None or connection.execute(_COUNT, {"of": job_id}).scalar_one() >= _MAX_PER_JOB:
                return None
            row = {"provider": provider, "id": delivery_id, "at": now, "job_id": job_id, "prediction_id": prediction_id}
            # By what it returns: not every driver counts the rows of an insert.
            inserting = insert_or_ignore(connection, webhooks).returning(webhooks.c.id)
            if connection.execute(inserting, row).first() is None:
                return None
            write_event(connection, job_id, now, "webhook", {})
            connection.execute(_LOOK_SOON, {"of": job_id})
            return job_id

        # What leads nowhere takes no lock: whoever has a run at fal can have it send webhooks to any address.
        named = await self.database.transact(find, writes=False)
        if named is None:
            return None
        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=WriteLock(named))

    async def count(self, job_id: str) -> int:
        """How many webhooks have come for a job."""
        return await self.database.transact(lambda c: c.execute(_COUNT, {"of": job_id}).scalar_one(), writes=False)

    async def runs_named(self, job_id: str) -> Sequence[str]:
        """The ids of runs that webhooks for a job have named, each once; none of them is verified by that."""
        rows = await self.database.transact(lambda c: c.execute(_RUNS, {"of": job_id}).scalars().all(), writes=False)
        return tuple(dict.fromkeys(rows))


def find_old_webhooks(connection: Connection, before: float) -> Sequence[tuple[str, str]]:
    """Some of the webhooks that came before a moment, as provider and id of the delivery."""
    return [(provider, name) for provider, name in connection.execute(_OLD, {"before": before})]


def remove_webhooks(connection: Connection, found: Sequence[tuple[str, str]]) -> None:
    """Forget some webhooks, given as provider and id of the delivery."""
    connection.execute(_REMOVE, [{"at_provider": provider, "named": name} for provider, name in found])
