"""What every stage is given: the parts that it works with in one record, and the guard of its lease."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import anyio

from rotoscope.errors import ProviderError, Refused, StorageFailed
from rotoscope.jobs.concurrency import JobNotifier
from rotoscope.jobs.own_keys import OwnKeys
from rotoscope.jobs.tracing import JobTracer, NoTracer
from rotoscope.jobs.webhooks import Webhooks
from rotoscope.media.decoders import DecodeRunner
from rotoscope.media.vault import Vault
from rotoscope.models.catalog import Access, Catalog
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
from rotoscope.store.ledger import Ledger, LostLease
from rotoscope.store.money import ResendPolicy, settlement
from rotoscope.store.records import ENDED_STATES, Job, Patch, Submission
from rotoscope.store.timing import Intervals

__all__ = ["CancelRequested", "JobContext", "LeaseGuard", "runner_without_recorder"]

Answer = TypeVar("Answer")


class CancelRequested(Exception):
    """The job is to be cancelled, and nothing was sent for it."""


@dataclass(slots=True)
class LeaseGuard:
    """Shows a driver whether its job is still its own, and whether to cancel it.

    The guard only says what is certain: while `is_held`, no other process can have claimed the job. A process that was
    suspended, or a machine that slept, finds `is_held` false before it does anything that pays. Writes need no guard:
    the ledger refuses every one that is not made under the newest fence.

    Attributes:
        safe_until: until when the lease has certainly not run out, in seconds of the monotonic clock: the start of the
            last renewal, not its end, plus the length of a lease.
        stop: set when the job is to be cancelled.
        cancel_scope: cancelled when the job is no longer this process's; it ends the driver.
        started_at: when this process began to drive the job, in seconds of the monotonic clock.
        key_refused: set by the driver when the provider did not accept our key; then this process leaves the job to
            others for a while.
        ended: set when the driver has ended.
    """

    safe_until: float
    stop: anyio.Event = field(default_factory=anyio.Event)
    cancel_scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    started_at: float = 0.0
    key_refused: bool = False
    ended: anyio.Event = field(default_factory=anyio.Event)

    @property
    def is_held(self) -> bool:
        """Whether the lease has certainly not run out. Asked right before the paying request is sent."""
        return anyio.current_time() < self.safe_until


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
        clock_offsets: each provider's clock minus ours, in seconds, by its latest reply.
        tracer: takes what a trace of the job shows.
        webhooks: how providers tell this server of ends; None where they are given no address.
        own_keys: the principals' own keys; None where all requests go out with the operator's.
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
    tracer: JobTracer = field(default_factory=NoTracer)
    webhooks: Webhooks | None = None
    own_keys: OwnKeys | None = None

    async def access_of(self, principal: str, usual: Access) -> Access:
        """The providers that a principal can use: as usual, or with its own keys.

        Raises:
            StorageFailed: its keys cannot be read.
        """
        return usual if self.own_keys is None else await self.own_keys.access_of(principal, is_fresh=True)

    def manifest(self, job: Job) -> Manifest:
        """The manifest of a job's model."""
        call = job.plan.call
        return self.catalog.find_at(job.model, job.provider, call.endpoint if call is not None else None)

    def provider(self, job: Job) -> Provider:
        """What is known of a job's provider."""
        return self.catalog.providers[job.provider]

    def webhooks_for(self, job: Job) -> Webhooks | None:
        """The webhooks, where a job's provider is given an address; else None."""
        known = self.webhooks
        return known if known is not None and job.provider in known.addresses.providers else None

    def runner(
        self,
        job: Job,
        record: Callable[[Prediction], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
        report_miss: Callable[[ProviderError], Awaitable[None]] | None = None,
    ) -> Runner:
        """A runner that speaks to a job's provider, and calls `record` with every state that it reads."""

        async def send(call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False) -> Reply:
            return await self.send(job.provider, call, before_send, pays=pays, job=job)

        return Runner(self.dialects[job.provider], send, record, sleep, report_miss)

    def poll_slot(self, job: Job, ticket: Ticket) -> AbstractContextManager[PollSlot]:
        """A place among all runs that are polled at a job's provider; it plans the pauses between polls."""
        accepted = job.accepted.at if job.accepted is not None else None
        since = self.clock() if accepted is None else accepted
        return self.pacers.for_provider(self._account_name(job.provider, job)).join(
            ticket, self.dialects[job.provider].ask(Waiting(ticket)), since
        )

    async def send(
        self,
        provider: str,
        call: HttpCall,
        before_send: Callable[[], None] | None = None,
        *,
        pays: bool = False,
        job: Job | None = None,
    ) -> Reply:
        """Send one request. A GET waits for its turn, unless the provider's list has just answered it.

        What pays, cancels or uploads is counted for the rate, and never kept waiting.

        Args:
            provider: its name.
            call: the request.
            before_send: called right before the first byte is sent; when it raises, nothing is sent.
            pays: whether the request costs money.
            job: for which it is; None: for all jobs at that provider.
        """
        is_question, account = call.method == "GET", self._account_name(provider, job)
        if is_question and (known := self.pacers.for_provider(account).take_status_reply(call)) is not None:
            return known
        await self.wait_for_turn(account, can_wait=is_question)
        key = await self._own_key(call, job, pays=pays)
        reply = await self.wire.send(provider, call, before_send, pays=pays, key=key)
        date = http_date(reply.headers.get("date", ""))
        if date is not None:
            self.clock_offsets[provider] = date.timestamp() - self.clock()
        return reply

    async def listen(self, job: Job, call: HttpCall, on_event: Callable[[str], None]) -> None:
        """Read a stream of events about a job's run to its end; see `Wire.listen`.

        Raises:
            ProviderError: it could not be opened, or broke.
        """
        await self.wire.listen(job.provider, call, on_event, await self._own_key(call, job))

    def _account_name(self, provider: str, job: Job | None) -> str:
        """Whose requests share a rate limit and a list of runs: those to one provider, with one principal's key."""
        return provider if self.own_keys is None or job is None else f"{provider} {job.principal}"

    async def _own_key(self, call: HttpCall, job: Job | None, *, pays: bool = False) -> str | None:
        """The key that a request goes out with, where that is not the operator's.

        Raises:
            Refused: no principal's key is right for it; nothing was sent.
        """
        if self.own_keys is None or not call.with_key:
            return None
        if job is None:
            raise Refused(
                "Each principal has keys of its own, so nothing is asked on behalf of all; nothing was sent.",
                hint="Report this as a defect of rotoscope.",
            )
        return await self.own_keys.key_for(job, pays=pays)

    async def wait_for_turn(self, provider: str, *, can_wait: bool = True) -> None:
        """Wait for the turn of a request to a provider, or only count one that cannot wait."""
        limiter = self.limiters.setdefault(provider, RateLimiter(anyio.current_time))
        if can_wait:
            await limiter.wait_turn(self.sleep)
        else:
            limiter.count_request()

    async def read_intent(self, job: Job) -> Submission | None:
        """The intent to pay of a job; None proves that its paying request was not sent, or was certainly refused.

        Raises:
            LostLease: the ledger cannot be read, so nothing is decided: the job is left as it is, and the process that
                drives it next reads the intent.
        """
        try:
            return await self.ledger.submission(job.id, job.principal)
        except StorageFailed as error:
            raise LostLease(job.id) from error

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found, with how the job's money is settled if it ends; then wake those that wait for it.

        The write is finished also when this task is cancelled meanwhile.

        Raises:
            LostLease: the job is no longer ours.
            StorageFailed: the ledger could not be written, after several tries.
        """
        if patch.state in ENDED_STATES:
            cost = run_cost(apply_changes(job, patch))
            ending = settlement(patch.state, cost)
            patch = replace(patch, settlement=ending, charge=Charge(cost.is_charged, ending.charged_usd, cost.measured))
        with anyio.CancelScope(shield=True):
            advanced = await self.write_with_retries(lambda: self.ledger.advance(job, patch))
        self.notifier.notify_change(job.id, final=advanced.is_final)
        return advanced

    async def write_with_retries(
        self, write: Callable[[], Awaitable[Answer]], more_pauses: Sequence[float] = ()
    ) -> Answer:
        """Write what may have been paid for; a disk that is full or locked for a moment must not lose it.

        Args:
            write: writes, and may be repeated.
            more_pauses: further pauses between tries, in seconds.

        Raises:
            StorageFailed: it still could not be written after all tries.
        """
        for seconds in (*self.intervals.storage_pauses, *more_pauses):
            try:
                return await write()
            except StorageFailed:
                await self.sleep(seconds)
        return await write()


def runner_without_recorder(context: JobContext, job: Job) -> Runner:
    """A runner that records no state: the caller writes what comes of it."""
    return context.runner(job, _ignore_state, context.sleep)


async def _ignore_state(_: Prediction) -> None:
    """The caller writes the state."""
