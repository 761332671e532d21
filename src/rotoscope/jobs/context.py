"""The rooms that a job goes through, in one record that is handed down to its stages."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import anyio

from rotoscope.errors import ProviderError, StorageFailed
from rotoscope.jobs.notifier import JobNotifier
from rotoscope.media.decoders import DecodeRunner
from rotoscope.media.vault import Vault
from rotoscope.models.catalog import Catalog
from rotoscope.models.manifest import Manifest
from rotoscope.models.provider import Provider
from rotoscope.providers.dialects import Dialect
from rotoscope.providers.http.client import Wire
from rotoscope.providers.http.messages import HttpCall, Reply, http_date
from rotoscope.providers.http.outgoing import RateLimiter
from rotoscope.providers.polling import PollSlot, ProviderPacers
from rotoscope.providers.runner import Runner
from rotoscope.providers.states import Prediction, Ticket, Waiting
from rotoscope.store.job_data import Charge, apply_changes, run_cost
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import ResendPolicy, settlement
from rotoscope.store.records import ENDED_STATES, Job, Patch
from rotoscope.store.timing import Intervals

__all__ = ["JobContext"]

_RETRY_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the stages work with.

    Attributes:
        clock: the time in Unix seconds.
        sleep: waits some seconds before something free is tried again.
        decoders: decodes media, out of this process.
        pacers: how often each provider is asked about runs, all jobs of this process together.
        limiters: how many requests a second each provider is sent, of all kinds.
        resend_policy: when a request that may have been accepted is sent once more.
        clock_offsets: each provider's clock minus ours, in seconds, as its latest reply says.
    """

    ledger: Ledger
    vault: Vault
    wire: Wire
    catalog: Catalog
    dialects: Mapping[str, Dialect]
    notifier: JobNotifier
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    decoders: DecodeRunner
    intervals: Intervals = field(default_factory=Intervals)
    pacers: ProviderPacers = field(default_factory=lambda: ProviderPacers(anyio.current_time))
    limiters: dict[str, RateLimiter] = field(default_factory=dict)
    clock_offsets: dict[str, float] = field(default_factory=dict)
    resend_policy: ResendPolicy = field(default_factory=ResendPolicy)

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
        report_miss: Callable[[ProviderError], Awaitable[None]] | None = None,
    ) -> Runner:
        """The runner that speaks to a job's provider."""

        async def send(call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False) -> Reply:
            return await self.send(job.provider, call, before_send, pays=pays)

        return Runner(self.dialects[job.provider], send, record, sleep, report_miss)

    def poll_slot(self, job: Job, ticket: Ticket) -> AbstractContextManager[PollSlot]:
        """Follow a job's prediction beside all others: the seat makes its pauses."""
        accepted = job.accepted.at if job.accepted is not None else None
        since = self.clock() if accepted is None else accepted
        return self.pacers.for_provider(job.provider).join(
            ticket, self.dialects[job.provider].ask(Waiting(ticket)), since
        )

    async def send(
        self, provider: str, call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False
    ) -> Reply:
        """Send one request. A question waits for its turn, if the provider's list has not answered it already.

        What pays, stops or uploads is counted and never kept waiting.
        """
        is_question = call.method == "GET"
        if is_question and (known := self.pacers.for_provider(provider).take_status_reply(call)) is not None:
            return known
        await self.wait_for_turn(provider, can_wait=is_question)
        reply = await self.wire.send(provider, call, before_send, pays=pays)
        told = http_date(reply.headers.get("date", ""))
        if told is not None:
            self.clock_offsets[provider] = told.timestamp() - self.clock()
        return reply

    async def wait_for_turn(self, provider: str, *, can_wait: bool = True) -> None:
        """Wait for the turn of a question to a provider, or only count what cannot wait."""
        limiter = self.limiters.setdefault(provider, RateLimiter(anyio.current_time))
        if can_wait:
            await limiter.wait_turn(self.sleep)
        else:
            limiter.count_request()

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found, then wake who waits: the ledger always knows first.

        Raises:
            LostLease: the job is no longer ours.
            StorageFailed: the ledger cannot be written, and could not for a while.
        """
        if patch.state in ENDED_STATES:
            cost = run_cost(apply_changes(job, patch))
            ending = settlement(patch.state, cost)
            patch = replace(patch, settlement=ending, charge=Charge(cost.is_charged, ending.charged_usd))
        with anyio.CancelScope(shield=True):
            advanced = await self.write_with_retries(lambda: self.ledger.advance(job, patch))
        self.notifier.notify_change(job.id, final=advanced.is_final)
        return advanced

    async def write_with_retries(
        self, write: Callable[[], Awaitable[Answer]], more_pauses: Sequence[float] = ()
    ) -> Answer:
        """Write what may have been paid for: a disk that is full or locked for a moment must not lose it.

        Args:
            write: what to do.
            more_pauses: further pauses, in seconds, for what is worth them.

        Raises:
            StorageFailed: it still could not be written after several tries.
        """
        for seconds in (*_RETRY_PAUSES, *more_pauses):
            try:
                return await write()
            except StorageFailed:
                await self.sleep(seconds)
        return await write()
