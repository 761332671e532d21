"""Which providers are given an address to call when a run has ended, and what it takes to receive that."""

from typing import TYPE_CHECKING

from rotoscope.models.catalog import Access
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.routing import BaseRoute

    from rotoscope.jobs.webhook_receiving import WebhookOutcome
    from rotoscope.jobs.webhooks import Webhooks
    from rotoscope.models.provider import Provider
    from rotoscope.providers.dialects import Dialect
    from rotoscope.providers.webhooks import WebhookDelivery
    from rotoscope.store.webhook_log import WebhookLog
    from rotoscope.studio.studio import Studio

__all__ = ["make_webhook_routes", "make_webhooks"]


def make_webhooks(
    settings: Settings,
    access: Access,
    providers: "Mapping[str, Provider]",
    dialects: "Mapping[str, Dialect]",
    log: "WebhookLog",
) -> "Webhooks | None":
    """The webhooks of a process that serves HTTP, or drives jobs beside one that does.

    Returns:
        None without a public address, or where no provider can be given one.
    """
    from rotoscope.jobs.webhooks import Webhooks
    from rotoscope.providers.webhooks import WebhookAddresses

    url = settings.network.public_url
    # Providers call https alone. The sandbox calls nothing but plain http on this machine, whatever is named to it.
    if url is None or url.startswith("https://") == access.sandbox:
        return None
    asked = {
        name
        for name, dialect in dialects.items()
        if name in (access.keys if access.own_for is None else access.own_for)
        and providers[name].webhooks
        and _is_own_base(access, name, providers[name])
        and _can_verify(dialect, has_own_keys=settings.network.key_owner == "principal")
    }
    return Webhooks(WebhookAddresses(url, frozenset(asked)), log) if asked else None


def make_webhook_routes(
    open_studio: "Callable[[], Awaitable[Studio]]", count: "Callable[[str, str], None] | None" = None
) -> "list[BaseRoute]":
    """The route for webhooks, for the HTTP app to list among its own.

    Args:
        open_studio: gives the studio of this process, which was opened with `takes_webhooks`.
        count: called with the provider and the outcome of each webhook, for a metric. What was sent to the name of a
            provider that is given no address is counted as `other`, so that strangers make no new labels.
    """
    from rotoscope.jobs.webhook_receiving import receive_webhook
    from rotoscope.server.http.webhooks import webhook_routes

    async def receive(provider: str, nonce: str, delivery: "WebhookDelivery") -> "WebhookOutcome":
        context = (await open_studio()).context
        outcome = await receive_webhook(context, provider, nonce, delivery)
        if count is not None:
            known = context.webhooks is not None and provider in context.webhooks.addresses.providers
            count(provider if known else "other", outcome)
        return outcome

    return webhook_routes(receive)


def _is_own_base(access: Access, name: str, provider: "Provider") -> bool:
    """Whether the record speaks of the host that is used: what stands behind another base URL is not known."""
    return access.sandbox or provider.base_required or access.base_urls[name] == provider.bases


def _can_verify(dialect: "Dialect", *, has_own_keys: bool) -> bool:
    """Whether a webhook can be verified before it is known whose it is.

    Where each principal has a key of its own, a secret that belongs to an account is one of many.
    """
    from rotoscope.providers.webhooks import WebhookSender

    if not isinstance(dialect, WebhookSender) or not dialect.can_verify_webhooks():
        return False
    return not (has_own_keys and dialect.ask_for_webhook_keys().with_key)
