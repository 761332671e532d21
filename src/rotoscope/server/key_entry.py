"""Asking a principal for a provider key of its own: on a page of ours, never in the conversation.

A client that can open an address for its user is given one: on 2026-07-28 by a result that wants input, before that by
a request to it. Any other client gets the address in the answer's hint. Either way the call goes on, or is made again,
once the key is there. What the client says it has done proves nothing: whether there is a key, the ledger knows.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp_types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from rotoscope.errors import MissingKey
from rotoscope.store.provider_keys import KeyTicket, ProviderKeys

__all__ = ["KEYS_PATH", "TICKET_SECONDS", "KeyEntry"]

KEYS_PATH = "/keys"
"""Below it each ticket has its page."""

TICKET_SECONDS = 15 * 60.0
"""How long a ticket is good."""

_QUESTION_KEY = "provider_key"
_LOOK_SECONDS = 0.5  # between two looks for a key that is being entered


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """Asks principals for their keys.

    Attributes:
        keys: the keys and tickets in the ledger.
        titles: the providers' names for people, by their names.
        public_url: the address at which browsers reach this server, without a slash at its end.
        sleep: waits some seconds.
    """

    keys: ProviderKeys
    titles: Mapping[str, str]
    public_url: str
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    async def ask(
        self, missing: MissingKey, context: Context[Any, Any], principal: str, seconds: float
    ) -> InputRequiredResult | None:
        """Ask for a key.

        Args:
            missing: what is missing; it names the providers of which one key would do.
            context: the request's.
            principal: who is asked.
            seconds: how long the call may stay open.

        Returns:
            What to answer, so that the client asks its user and calls again; None where the key is there now.

        Raises:
            MissingKey: it is not, and the hint says where to enter it.
            StorageFailed: no ticket can be made.
        """
        modern = context.request_context.protocol_version in MODERN_PROTOCOL_VERSIONS
        answer = (context.input_responses or {}).get(_QUESTION_KEY) if modern else None
        if isinstance(answer, ElicitResult) and _is_state_of(context.request_state, missing):
            if answer.action == "accept" and await self._wait_for_key(missing, principal, seconds):
                return None
            raise await self._error(
                missing, principal, "The key was not entered yet." if answer.action == "accept" else ""
            )
        if not _can_open_urls(context):
            raise await self._error(missing, principal)
        ticket, url = await self._issue(missing, principal)
        if modern:
            return self._question(missing, principal, url)
        await self._ask_by_request(missing, context, ticket, url, seconds)
        return None

    def _question(self, missing: MissingKey, principal: str, url: str) -> InputRequiredResult:
        params = ElicitRequestURLParams(message=self._words(missing, principal), url=url)
        state = json.dumps({"providers": list(missing.providers)})
        return InputRequiredResult(input_requests={_QUESTION_KEY: ElicitRequest(params=params)}, request_state=state)

    async def _ask_by_request(
        self, missing: MissingKey, context: Context[Any, Any], ticket: KeyTicket, url: str, seconds: float
    ) -> None:
        """Ask in the handshake eras: the call waits for the key as long as it may stay open."""
        session, principal, has_key = context.request_context.session, ticket.principal, False
        with anyio.move_on_after(seconds), suppress(MCPError):
            words = self._words(missing, principal)
            answer = await session.elicit_url(words, url, ticket.id, related_request_id=context.request_id)
            has_key = answer.action == "accept" and await self._wait_for_key(missing, principal, seconds)
            await session.send_elicit_complete(ticket.id, related_request_id=context.request_id)
        if not has_key:
            raise self._error_at(missing, url)

    async def _wait_for_key(self, missing: MissingKey, principal: str, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while not await self._has_key(missing, principal):
                await self.sleep(_LOOK_SECONDS)
            return True
        return await self._has_key(missing, principal)

    async def _has_key(self, missing: MissingKey, principal: str) -> bool:
        return any(one.provider in missing.providers for one in await self.keys.list(principal))

    async def _issue(self, missing: MissingKey, principal: str) -> tuple[KeyTicket, str]:
        found, ticket = await self.keys.issue_ticket(principal, missing.providers, TICKET_SECONDS)
        return found, f"{self.public_url}{KEYS_PATH}/{ticket}"

    def _words(self, missing: MissingKey, principal: str) -> str:
        titles = " or ".join(self.titles.get(name, name) for name in missing.providers)
        return (
            f"This needs your own key for {titles}. Enter it on the page of this server, not in the conversation. "
            f"It is kept encrypted, and used for the runs of {principal} alone."
        )

    async def _error(self, missing: MissingKey, principal: str, what: str = "") -> MissingKey:
        _, url = await self._issue(missing, principal)
        return self._error_at(missing, url, what)

    def _error_at(self, missing: MissingKey, url: str, what: str = "") -> MissingKey:
        minutes = f"{TICKET_SECONDS / 60:.0f} minutes"
        return MissingKey(
            f"{what} {missing.message}".strip(),
            hint=f"The user enters the key at {url} in a browser, within {minutes}, once; then call again with the "
            f"very same arguments. {missing.hint}",
            providers=missing.providers,
        )


def _can_open_urls(context: Context[Any, Any]) -> bool:
    declared = context.client_capabilities.elicitation if context.client_capabilities else None
    return declared is not None and declared.url is not None


def _is_state_of(state: str | None, missing: MissingKey) -> bool:
    """Whether a request answers the question for these providers. The SDK seals the state."""
    try:
        return bool(state) and json.loads(state or "") == {"providers": list(missing.providers)}
    except ValueError:
        return False
