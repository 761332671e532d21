"""Where webhooks of providers come in. Whoever calls learns nothing: not which jobs there are, nor whose a nonce is."""

from collections.abc import Awaitable, Callable, Mapping

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rotoscope.jobs.webhook_receiving import WebhookOutcome
from rotoscope.providers.webhooks import MAX_WEBHOOK_BYTES, WebhookDelivery

__all__ = ["WEBHOOK_PATH", "ReceiveWebhook", "webhook_routes"]

WEBHOOK_PATH = "/webhooks/{provider}/{nonce}"

_BODY_SECONDS = 10.0  # fal gives up after 15 s, Replicate wants an answer within some seconds
_RETRY_SECONDS = 30
_TOO_LARGE, _INCOMPLETE = 413, 408
_STATUSES: Mapping[WebhookOutcome, int] = {
    "taken": 202,
    "ignored": 202,
    "malformed": 401,
    "stale": 401,
    "forged": 401,
    "unverifiable": 503,
    "unstored": 503,
}


ReceiveWebhook = Callable[[str, str, WebhookDelivery], Awaitable[WebhookOutcome]]
"""Verifies and takes a webhook, given the provider and the nonce of its address."""


def webhook_routes(receive: ReceiveWebhook) -> list[BaseRoute]:
    """The route for webhooks. It needs no sign-in: a webhook's signature is its proof.

    It answers 202 to everything that is truly signed, whether or not its nonce is known; 401 to everything else, 413 to
    more than 1 MiB, and 503 where it cannot be decided now, so that the provider sends it again.

    Args:
        receive: takes what came in.
    """

    async def answer(request: Request) -> Response:
        provider, nonce = request.path_params["provider"], request.path_params["nonce"]
        body = await _read_body(request)
        if isinstance(body, int):
            return Response(status_code=body)
        headers = {name.lower(): value for name, value in request.headers.items()}
        outcome = await receive(provider, nonce, WebhookDelivery(headers, body))
        status = _STATUSES[outcome]
        again = {"retry-after": str(_RETRY_SECONDS)} if status == _STATUSES["unverifiable"] else {}
        return Response(status_code=status, headers=again)

    return [Route(WEBHOOK_PATH, answer, methods=["POST"])]


async def _read_body(request: Request) -> bytes | int:
    """The body; or the status to answer with, where it is too large, too slow or cut off."""
    content = bytearray()
    with anyio.move_on_after(_BODY_SECONDS):
        try:
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_WEBHOOK_BYTES:
                    return _TOO_LARGE
        except ClientDisconnect:
            return _INCOMPLETE
        return bytes(content)
    return _INCOMPLETE
