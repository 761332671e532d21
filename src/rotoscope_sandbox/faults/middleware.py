"""Acts the faults out, between the journal and the app: nothing here decides what a fault is or which request it meets.

A request without a fault passes untouched. For one with a fault there are three ways: the app never sees it
(a refusal), the app runs whole and its answer is lost or changed, or its answer is cut while it is sent.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.core import FORCED_OUTCOME
from rotoscope_sandbox.faults import connections
from rotoscope_sandbox.faults.definitions import Fault, UnknownFault, parse_faults
from rotoscope_sandbox.faults.error_responses import HttpReply, error_reply, json_reply, refusal_reply
from rotoscope_sandbox.faults.operations import Action, Operation, prediction_in_reply, with_model_of
from rotoscope_sandbox.faults.rewrite import has_awaited_status, refresh_urls, rewrite_reply
from rotoscope_sandbox.faults.rules import Faults, Rule
from rotoscope_sandbox.predictions import AcceptedRequest, Failure, ForcedOutcome

__all__ = ["HEADER", "OPERATION", "FaultInjection", "combine_outcomes"]

HEADER = b"x-sandbox-fault"
OPERATION = "sandbox.operation"
"""The key of an ASGI scope under which the journal has put the request's `Operation`, or None."""

_NEVER_SECONDS = 1e9
_PROMISED, _SENT = 500, 6  # bytes of a truncated reply
_NO_FILE = b"This is not the file that you paid for."
_BODY_FOR_MODEL = 100 * 1024 * 1024
_FLAGGED = Failure("The input or output was flagged as sensitive by the content checker.", "content_policy_violation")
_UNUSABLE = Failure("The input could not be used.", "value_error")

_Find: TypeAlias = Callable[[str], AcceptedRequest | None]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request with what it needs to be answered."""

    scope: Scope
    receive: Receive
    send: Send
    operation: Operation

    @property
    def transport(self) -> asyncio.Transport | None:
        found: asyncio.Transport | None = (self.scope.get("extensions") or {}).get(connections.CONNECTION)
        return found

    async def answer(self, reply: HttpReply) -> None:
        headers = {**reply.headers, "content-length": str(len(reply.body))}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": reply.body})


class FaultInjection:
    """The middleware.

    Args:
        app: what answers when nothing goes wrong.
        faults: the rules.
        find: what was asked for in a prediction, by its id.
        clock: the time in seconds since the epoch.
    """

    def __init__(self, app: ASGIApp, faults: Faults, find: _Find, clock: Callable[[], float]) -> None:
        self._app = app
        self._faults = faults
        self._find = find
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation: Operation | None = scope.get(OPERATION)
        rules = self._faults.rules_about(operation) if operation is not None else ()
        header = b",".join(value for name, value in scope.get("headers", ()) if name == HEADER).decode("latin-1")
        if operation is None or not (rules or header):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, operation)
        try:
            own = tuple(Rule(fault) for fault in parse_faults(header))
        except UnknownFault as unknown:
            await exchange.answer(json_reply({"detail": str(unknown)}, 400))
            return
        await self._perform(await self._complete(exchange, rules), rules, own)

    async def _complete(self, exchange: _Exchange, rules: Iterable[Rule]) -> _Exchange:
        """The exchange with the model and the wire of its operation, as far as rules ask for them."""
        operation, names_model = exchange.operation, any(rule.model for rule in rules)
        if operation.prediction and (not operation.wire or names_model):
            asked = self._find(operation.prediction)
            if asked is not None:
                operation = replace(operation, wire=operation.wire or asked.wire, model=asked.model)
                return replace(exchange, operation=operation)
        if operation.action is Action.SUBMIT and not operation.model and names_model:
            body, receive = await _read_ahead(exchange.receive)
            return replace(exchange, receive=receive, operation=with_model_of(operation, body))
        return exchange

    async def _perform(self, exchange: _Exchange, rules: tuple[Rule, ...], own: tuple[Rule, ...]) -> None:
        operation = exchange.operation
        rules_here = [rule for rule in (*own, *rules) if rule.is_for(operation) and self._faults.is_left(rule)]
        later = tuple(rule for rule in own if operation.action is Action.SUBMIT and _is_for_later(rule))
        acting = self._find_acting(operation, rules_here)
        if acting is None or _reaches_the_app(acting.fault):
            forcing = [rule for rule in rules_here if rule.fault.actor == "outcome"]
            faults = [rule.fault for rule in forcing if self._faults.spend(rule, operation)]
            exchange.scope[FORCED_OUTCOME] = combine_outcomes(faults)
        if acting is not None:
            await self._act(exchange, acting, later)
            return
        rewriting = [rule for rule in rules_here if _is_rewrite(rule, operation)]
        if not rewriting and not later:
            await self._app(exchange.scope, exchange.receive, exchange.send)
            return
        reply = await self._call_app(exchange, later)
        await exchange.answer(self._rewrite(operation, reply, rewriting))

    def _find_acting(self, operation: Operation, rules: Iterable[Rule]) -> Rule | None:
        """The first rule that answers in place of the app."""
        for rule in rules:
            if rule.fault.actor in ("outcome", "rewrite") or _is_rewrite(rule, operation):
                continue
            if rule.fault.name == "output-gone" and rule.fault.text("fresh") == "yes":
                if "fresh=" in operation.query:
                    continue
                self._faults.mark(rule, operation.prediction)
            if self._faults.spend(rule, operation):
                return rule
        return None

    async def _act(self, exchange: _Exchange, rule: Rule, later: tuple[Rule, ...]) -> None:
        match rule.fault.actor:
            case "connection":
                await self._act_on_connection(exchange, rule.fault, later)
            case "cancel":
                await self._act_on_cancel(exchange, rule.fault.text("kind"))
            case "file":
                await self._act_on_file(exchange, rule.fault)
            case _:
                await self._reply_to_lose(exchange, rule.fault, later)
                await exchange.answer(refusal_reply(rule.fault, exchange.operation, self._clock()))

    async def _reply_to_lose(self, exchange: _Exchange, fault: Fault, later: tuple[Rule, ...]) -> HttpReply:
        """The reply that the client will not get: the app's, or a made-up one where the app is not to see the call."""
        if _reaches_the_app(fault):
            return await self._call_app(exchange, later)
        await connections.drain(exchange.receive)
        return HttpReply(201, {"content-type": "application/json"}, b'{"id": ')

    async def _act_on_connection(self, exchange: _Exchange, fault: Fault, later: tuple[Rule, ...]) -> None:
        transport, receive = exchange.transport, exchange.receive
        if transport is None and fault.name != "hang":
            await exchange.answer(_needs_connection(fault.name))
            return
        reply = await self._reply_to_lose(exchange, fault, later)
        if transport is None or fault.name == "hang":
            await connections.hang(receive)
        elif fault.name == "reset":
            await connections.reset(transport, receive)
        elif fault.name == "close":
            await connections.close(transport, receive)
        elif fault.name == "truncated-reply":
            await connections.truncate(transport, receive, reply, _PROMISED, _SENT, is_reset=False)
        else:
            interval, is_head_slow = float(fault.text("interval")), fault.text("kind") == "headers"
            await connections.trickle(transport, receive, reply, interval, is_head_slow=is_head_slow)

    async def _act_on_file(self, exchange: _Exchange, fault: Fault) -> None:
        kind, transport, receive = fault.text("kind"), exchange.transport, exchange.receive
        if transport is None and kind not in ("type", "broken"):
            await exchange.answer(_needs_connection(fault.name))
            return
        reply = await self._call_app(exchange, ())
        size = len(reply.body)
        if not reply.is_success:
            await exchange.answer(reply)
        elif kind in ("declared", "endless"):
            is_declared, most = kind == "declared", fault.integer("bytes")
            await connections.send_zeros(exchange.scope, receive, exchange.send, most, is_declared=is_declared)
        elif kind in ("type", "broken"):
            await exchange.answer(replace(reply, body=_NO_FILE if kind == "type" else reply.body[: size // 2]))
        elif transport is not None:
            await connections.truncate(transport, receive, reply, size, size // 2, is_reset=kind == "reset")

    async def _act_on_cancel(self, exchange: _Exchange, kind: str) -> None:
        family = exchange.operation.family
        match kind, family:
            case "missing", "fal":
                await exchange.answer(json_reply({"status": "NOT_FOUND"}, 404))
            case "missing", _:
                await exchange.answer(error_reply(family, 404, "The requested resource could not be found."))
            case "twice", _:
                await self._call_app(exchange, ())
                await self._app(exchange.scope, exchange.receive, exchange.send)
            case _, "fal":
                await exchange.answer(json_reply({"status": "CANCELLATION_REQUESTED"}, 202))
            case _:
                # Replicate answers a cancel with the prediction as it is at that moment.
                path = exchange.scope["path"].removesuffix("/cancel")
                asking = {**exchange.scope, "method": "GET", "path": path, "raw_path": path.encode()}
                await self._app(asking, exchange.receive, exchange.send)

    async def _call_app(self, exchange: _Exchange, later: tuple[Rule, ...]) -> HttpReply:
        """The app's own reply; the faults for later are bound to the prediction in it."""
        reply = await _reply_of(self._app, exchange)
        id_ = prediction_in_reply(exchange.operation, reply.headers, reply.body) if reply.is_success else ""
        for rule in later if id_ else ():
            on = tuple(action for action in rule.fault.on if action is not Action.SUBMIT)
            self._faults.append(replace(rule, fault=replace(rule.fault, on=on), prediction=id_))
        return reply

    def _rewrite(self, operation: Operation, reply: HttpReply, rules: Iterable[Rule]) -> HttpReply:
        """The reply after the first rule that has something to change in it and is not used up."""
        for rule in rules:
            is_marked = self._faults.is_marked(rule, operation.prediction)
            if rule.fault.name == "output-gone":
                if is_marked:
                    return refresh_urls(reply)
                continue
            changed = rewrite_reply(rule.fault, operation, reply, was_shown=is_marked)
            if rule.fault.name == "status-goes-back" and has_awaited_status(rule.fault, operation, reply):
                self._faults.mark(rule, operation.prediction)
            if changed is not None and self._faults.spend(rule, operation):
                return changed
        return reply


def _is_for_later(rule: Rule) -> bool:
    return rule.fault.actor != "outcome" and any(action is not Action.SUBMIT for action in rule.fault.on)


def _reaches_the_app(fault: Fault) -> bool:
    """Whether the app is called although a fault answers in its place."""
    return fault.is_accepted and (fault.actor != "refusal" or fault.name == "server-error")


def _is_rewrite(rule: Rule, operation: Operation) -> bool:
    """Whether a rule changes the app's answer; `output-gone` does where output URLs are shown, not where read."""
    is_refresh = rule.fault.name == "output-gone" and operation.action is not Action.OUTPUT
    return rule.fault.actor == "rewrite" or is_refresh


def _needs_connection(name: str) -> HttpReply:
    return json_reply({"detail": f"{name} needs a real connection: serve the sandbox over a socket."}, 501)


def combine_outcomes(faults: Iterable[Fault]) -> ForcedOutcome:
    """What several faults together make of a prediction; where two disagree, the later one decides."""
    outcome = ForcedOutcome()
    for fault in faults:
        match fault.name, fault.parameters.get("kind"):
            case "never-ends", _:
                outcome = replace(outcome, run_seconds=_NEVER_SECONDS)
            case "slow-run", _:
                outcome = replace(outcome, run_seconds=float(fault.integer("seconds")))
            case "provider-cancels", kind:
                outcome = replace(outcome, ends="aborted" if kind == "abort" else "canceled")
            case "odd-webhook", kind:
                outcome = replace(outcome, webhook=kind or "")
            case _, kind:
                outcome = replace(outcome, failure=_FLAGGED if kind == "policy" else _UNUSABLE)
    return outcome


async def _read_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """A request's body, and a `receive` that gives it once more."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False) or size > _BODY_FOR_MODEL:
            break
    waiting = iter(messages)

    async def receive_again() -> Message:
        return next(waiting, None) or await receive()

    return b"".join(one.get("body", b"") for one in messages), receive_again


async def _reply_of(app: ASGIApp, exchange: _Exchange) -> HttpReply:
    """The whole answer that the app would send."""
    status, headers, body = 500, dict[str, str](), bytearray()

    async def collect(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            for name, value in message["headers"]:
                headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        else:
            body.extend(message.get("body", b""))

    await app(exchange.scope, exchange.receive, collect)
    headers.pop("content-length", None)
    return HttpReply(status, headers, bytes(body))
