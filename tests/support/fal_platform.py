"""fal's platform API beside its queue: prices and billing events from a script, everything else from another app."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import anyio

__all__ = ["FAL", "FalPlatform"]

FAL = {"FAL_KEY": "id:none-of-yours", "FAL_BASE_URL": "https://sandbox.invalid"}
"""A key, and a base URL that leads to the app which stands in for the providers: as real as a run gets in a test."""


class FalPlatform:
    """An ASGI app; a test sets what it answers, and reads what it was asked.

    Attributes:
        prices: the unit price, unit and currency of each endpoint that has any.
        unknown: endpoints for which a whole request is refused with 404.
        events: the billing events, whatever is asked for.
        status: of every reply of the platform.
        billed: the header `x-fal-billable-units` of every reply of the queue; None for none.
        hold: where it is set, the platform waits for it.
        asked: path and query of every request to the platform.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.prices: dict[str, tuple[Any, str, str]] = {}
        self.unknown: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.status = 200
        self.billed: str | None = None
        self.hold: anyio.Event | None = None
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

    def asked_for(self, name: str, what: str) -> Sequence[list[str]]:
        """The values of a query's name in every request for `pricing` or `billing-events`."""
        return [query.get(name, []) for path, query in self.asked if path.endswith(what)]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/v1/models/"):
            await self.app(scope, receive, self.with_header(send))
            return
        assert scope["method"] == "GET"
        assert dict(scope["headers"])[b"authorization"] == b"Key id:none-of-yours"
        query = parse_qs(scope["query_string"].decode())
        self.asked.append((scope["path"], query))
        if self.hold is not None:
            await self.hold.wait()
        status, body = self.answer(scope["path"], query)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    def with_header(self, send: Any) -> Any:
        async def replace_header(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0].lower() != b"x-fal-billable-units"]
                more = [] if self.billed is None else [(b"x-fal-billable-units", self.billed.encode())]
                message = {**message, "headers": [*kept, *more]}
            await send(message)

        return replace_header

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {"error": {"type": "authorization_error", "message": "not for this key"}}
        if path.endswith("/billing-events"):
            return 200, {"billing_events": self.events, "next_cursor": None, "has_more": False}
        names = query["endpoint_id"]
        if self.unknown & set(names):
            return 404, {"error": {"type": "not_found", "message": "no such endpoint"}}
        rows = [
            {"endpoint_id": name, "unit_price": price, "unit": unit, "currency": currency}
            for name, (price, unit, currency) in self.prices.items()
            if name in names
        ]
        return 200, {"prices": rows, "next_cursor": None, "has_more": False}
