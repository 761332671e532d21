"""Webhooks of providers: a reason to poll, never an answer. Their keys, and how one wakes the job that it is about.

The process that receives one may not be the one that drives the job. So the wake goes through the ledger: an event of
the job, which the driver's process reads with all other changes; in this process the notifier passes it on at once.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from rotoscope.errors import ProviderError, StorageFailed
from rotoscope.jobs.concurrency import JobNotifier
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.webhooks import WebhookAddresses, WebhookKeys, WebhookSender
from rotoscope.store.webhook_log import WebhookLog

__all__ = ["KeyCache", "Webhooks", "wake_on_webhooks"]

_KEY_LIFE = 86_400.0  # seconds for which keys are used, at most: fal names one day
_KEY_PAUSE = 60.0  # seconds between two requests for a provider's keys, at least, whatever comes in

SendFree = Callable[[str, HttpCall], Awaitable[Reply]]


@dataclass(slots=True)
class _Cached:
    keys: WebhookKeys | None = None
    read_at: float = 0.0
    asked_at: float | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(frozen=True, slots=True)
class KeyCache:
    """The keys that webhooks are verified with, by provider, in this process alone.

    They are asked for again when a webhook fails with them, because they may have changed, but at most once a minute:
    what comes in from anywhere must not become requests to the provider.

    Attributes:
        clock: seconds of a clock that never goes back.
    """

    clock: Callable[[], float] = anyio.current_time
    _by_provider: dict[str, _Cached] = field(default_factory=dict)

    async def find_keys(self, provider: str, sender: WebhookSender, send: SendFree) -> WebhookKeys | None:
        """The keys of a provider; None where there are none that are young enough, and none can be had now."""
        known = self._by_provider.setdefault(provider, _Cached())
        if self._are_fresh(known):
            return known.keys
        return await self.renew_keys(provider, sender, send)

    async def renew_keys(
        self, provider: str, sender: WebhookSender, send: SendFree, failed: WebhookKeys | None = None
    ) -> WebhookKeys | None:
        """Keys that differ from those that failed; None where there are none, or they were asked for a moment ago."""
        known = self._by_provider.setdefault(provider, _Cached())
        async with known.lock:  # of several that fail at once, one asks for all
            now = self.clock()
            if known.asked_at is None or now - known.asked_at >= _KEY_PAUSE:
                known.asked_at = now
                with suppress(ProviderError):
                    known.keys = sender.read_webhook_keys(await send(provider, sender.ask_for_webhook_keys()))
                    known.read_at = now
        return known.keys if self._are_fresh(known) and known.keys != failed else None

    def _are_fresh(self, known: _Cached) -> bool:
        return known.keys is not None and self.clock() - known.read_at < _KEY_LIFE


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What this process needs to name addresses to providers, and to find what was sent to them.

    Attributes:
        addresses: which providers are given an address.
        log: the webhooks that came, to whichever process.
        keys: what they are verified with.
    """

    addresses: WebhookAddresses
    log: WebhookLog
    keys: KeyCache = field(default_factory=KeyCache)


async def wake_on_webhooks(
    webhooks: Webhooks, notifier: JobNotifier, job_id: str, wake: Callable[[], None], seen: int = 0
) -> None:
    """Call `wake` for every webhook of a job that is new, also for those that came before; until cancelled.

    Args:
        webhooks: where they are found.
        notifier: says that something about the job has changed, in this process or another.
        job_id: the job.
        wake: called each time.
        seen: how many of them are known already.
    """
    while True:
        change = notifier.next_change(job_id)  # before the look: what comes between the two is not lost
        with suppress(StorageFailed):  # polling goes on
            came = await webhooks.log.count(job_id)
            if came > seen:
                seen = came
                wake()
        await change.wait()
