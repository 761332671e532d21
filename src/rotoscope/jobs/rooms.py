"""The rooms that a job goes through, in one record that is handed down to its stages."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from rotoscope.jobs.feed import Feed
from rotoscope.jobs.job import Job, Patch
from rotoscope.jobs.ledger import Ledger
from rotoscope.media.vault import Vault
from rotoscope.models.catalog import Catalog
from rotoscope.models.manifest import Manifest, Provider
from rotoscope.predictions.dialects import Dialect
from rotoscope.predictions.runner import Runner
from rotoscope.predictions.states import Prediction
from rotoscope.wire.client import Wire
from rotoscope.wire.messages import HttpCall, Reply

__all__ = ["Rooms"]


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the stages work with.

    Attributes:
        owner: names this process, uniquely for each start.
        clock: the time in Unix seconds.
        sleep: waits some seconds before something free is tried again.
    """

    ledger: Ledger
    vault: Vault
    wire: Wire
    catalog: Catalog
    dialects: Mapping[str, Dialect]
    feed: Feed
    owner: str
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    def manifest(self, job: Job) -> Manifest:
        """The manifest of a job's model."""
        return self.catalog.find(job.model)

    def provider(self, job: Job) -> Provider:
        """What is known of a job's provider."""
        return self.catalog.providers[job.provider]

    def runner(
        self,
        job: Job,
        record: Callable[[Prediction], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
    ) -> Runner:
        """The runner that speaks to a job's provider."""

        async def send(call: HttpCall) -> Reply:
            return await self.wire.send(job.provider, call)

        return Runner(self.dialects[job.provider], send, record, sleep)

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found, then wake who waits: the ledger always knows first."""
        advanced = await self.ledger.advance(job, patch)
        self.feed.changed(job.id)
        return advanced
