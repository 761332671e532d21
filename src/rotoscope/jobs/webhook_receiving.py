"""A webhook that has come in: it is verified, written to the ledger once, and its job is woken.

Nothing that it says is followed. It names a run, which is read back from the provider before anything is made of it.
"""

import logging
import re
from typing import Literal

import anyio

from rotoscope.errors import StorageFailed
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.webhooks import KeyCache, wake_on_webhooks
from rotoscope.providers.webhooks import Rejection, WebhookDelivery, WebhookNotice, WebhookSender
from rotoscope.store.records import Job
from rotoscope.store.webhook_log import WebhookLog

__all__ = ["WebhookOutcome", "count_webhooks", "receive_webhook", "sleep_until_webhook"]

_NONCE = re.compile(r"[0-9a-f]{1,64}")
_SHOWN_NONCE_CHARS = 4
_log = logging.getLogger(__name__)

WebhookOutcome = Literal["taken", "ignored", "unverifiable", "unstored"] | Rejection
"""What became of a webhook: it woke its job; it leads nowhere, or came before; or why it was not taken: the provider's
keys cannot be had now, the ledger cannot be written now, or it is not believed."""


async def receive_webhook(context: JobContext, provider: str, nonce: str, delivery: WebhookDelivery) -> WebhookOutcome:
    """Verify a webhook and wake the job whose paying request named its address. Nothing that it says is followed.

    Args:
        context: what the stages work with.
        provider: out of the address.
        nonce: out of the address.
        delivery: what came in.
    """
    webhooks = context.webhooks
    sender: object = context.dialects[provider] if webhooks and provider in webhooks.addresses.providers else None
    if webhooks is None or not isinstance(sender, WebhookSender):
        return "forged"  # nobody was given this address
    notice = await _verify(context, webhooks.keys, provider, sender, delivery)
    if isinstance(notice, str):
        return notice
    try:
        job_id = await _record(webhooks.log, provider, nonce, notice)
    except StorageFailed as error:
        _log.warning("a webhook of %s could not be written: %s", provider, error.message)
        return "unstored"
    _log.info("a webhook of %s came for %s...: %s", provider, nonce[:_SHOWN_NONCE_CHARS], job_id or "ignored")
    if job_id is not None:
        context.notifier.notify_change(job_id, final=False)
    return "ignored" if job_id is None else "taken"


async def _record(log: WebhookLog, provider: str, nonce: str, notice: WebhookNotice) -> str | None:
    """The job that is to be woken; what cannot be a nonce is not even looked for."""
    if not _NONCE.fullmatch(nonce):
        return None
    return await log.record(provider, nonce, notice.id, notice.prediction_id)


async def _verify(
    context: JobContext, cache: KeyCache, provider: str, sender: WebhookSender, delivery: WebhookDelivery
) -> WebhookNotice | Rejection | Literal["unverifiable"]:
    keys = await cache.find_keys(provider, sender, context.send)
    if keys is None:
        return "unverifiable"
    found = sender.read_webhook(delivery, keys, context.clock())
    if found != "forged":
        return found
    newer = await cache.renew_keys(provider, sender, context.send, keys)
    return found if newer is None else sender.read_webhook(delivery, newer, context.clock())


async def count_webhooks(context: JobContext, job: Job) -> int:
    """How many webhooks have come for a job; 0 where its provider is given no address."""
    webhooks = context.webhooks_for(job)
    return await webhooks.log.count(job.id) if webhooks is not None else 0


async def sleep_until_webhook(context: JobContext, job: Job, seconds: float, seen: int) -> None:
    """Sleep some seconds, or until more webhooks have come for a job than were seen."""
    webhooks = context.webhooks_for(job)
    if webhooks is None or not seconds:
        await context.sleep(seconds)
        return
    is_over = anyio.CancelScope()

    async def sleep() -> None:
        with is_over:
            await context.sleep(seconds)

    await run_with_background(sleep, lambda: wake_on_webhooks(webhooks, context.notifier, job.id, is_over.cancel, seen))
