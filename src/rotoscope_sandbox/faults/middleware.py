"""Acts the faults out, between the journal and the app: nothing here decides what a fault is or whom it meets.

A request without a fault passes untouched. For one with a fault there are three ways: the app never sees it
(a refusal), the app runs whole and its answer is lost or changed, or its answer is cut while it is sent.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.faults import connections
from rotoscope_sandbox.faults.deeds import Deed, What, deed_of, id_told, naming_model
from rotoscope_sandbox.faults.files import send_spoiled, send_zeros
from rotoscope_sandbox.faults.mangling import is_final, is_running, reworded, with_fresh_urls
from rotoscope_sandbox.faults.refusals import Reply, as_json, problem, refusal
from rotoscope_sandbox.faults.rules import Faults, Rule
from rotoscope_sandbox.faults.scenarios import Fault, UnknownFault, parse_faults
from rotoscope_sandbox.predictions import Failure, Fate, Order
from rotoscope_sandbox.site import FATE

__all__ = ["HEADER", "FaultInjection", "fate_from"]

HEADER = b"x-sandbox-fault"
_NEVER_SECONDS = 1e9
_BODY_FOR_MODEL = 100 * 1024 * 1024
_FLAGGED = Failure("The input or output was flagged as sensitive by the content checker.", "content_policy_violation")
_UNUSABLE = Failure("The input could not be used.", "value_error")

_Find: TypeAlias = Callable[[str], Order | None]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request with what it needs to be answered."""

    scope: Scope
    receive: Receive
    send: Send
    deed: Deed

    @property
    def transport(self) -> asyncio.Transport | None:
        found: asyncio.Transport | None = (self.scope.get("extensions") or {}).get(connections.CONNECTION)
        return found

    async def answer(self, reply: Reply) -> None:
        headers = {**reply.headers, "content-length": str(len(reply.body))}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": reply.body})


class FaultInjection:
    """The middleware.

    Args:
        app: what answers when nothing goes wrong.
        faults: the rules.
        find: the order of a prediction by its id.
        clock: the time in seconds since the epoch.
    """

    def __init__(self, app: ASGIApp, faults: Faults, find: _Find, clock: Callable[[], float]) -> None:
        self._app = app
        self._faults = faults
        self._find = find
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deed = _deed(scope)
        rules = self._faults.about(deed) if deed is not None else ()
        header = _header(scope)
        if deed is None or not (rules or header):
            await self._app(scope, receive, send)
            return
        call = _Call(scope, receive, send, deed)
        try:
            own = tuple(Rule(fault) for fault in parse_faults(header))
        except UnknownFault as unknown:
            await call.answer(as_json({"detail": str(unknown)}, 400))
            return
        await self._perform(await self._known(call, rules), rules, own)

    async def _known(self, call: _Call, rules: Iterable[Rule]) -> _Call:
        """The call with its model and wire, as far as rules ask for them."""
        deed = call.deed
        if deed.prediction and (not deed.wire or any(rule.model for rule in rules)):
            order = self._find(deed.prediction)
            if order is not None:
                return replace(call, deed=replace(deed, wire=deed.wire or order.wire, model=order.model))
        if deed.what is What.SUBMIT and not deed.model and any(rule.model for rule in rules):
            body, receive = await _read_ahead(call.receive)
            return replace(call, receive=receive, deed=naming_model(deed, body))
        return call

    async def _perform(self, call: _Call, rules: tuple[Rule, ...], own: tuple[Rule, ...]) -> None:
        meeting = [rule for rule in (*own, *rules) if rule.meets(call.deed) and self._faults.left(rule)]
        later = tuple(rule for rule in own if call.deed.what is What.SUBMIT and _concerns_later(rule))
        acting = self._acting(call.deed, meeting)
        if acting is None or _reaches_the_app(acting.fault):
            fates = [rule.fault for rule in meeting if rule.fault.kind == "fate" and self._spend(rule, call.deed)]
            call.scope[FATE] = fate_from(fates)
        if acting is not None:
            await self._act(call, acting, later)
            return
        rewriters = [rule for rule in meeting if _rewrites(rule, call.deed)]
        if not rewriters and not later:
            await self._app(call.scope, call.receive, call.send)
            return
        reply = await self._inner(call, later)
        await call.answer(self._rewritten(call.deed, reply, rewriters))

    def _spend(self, rule: Rule, deed: Deed) -> bool:
        # A header comes with each request: its faults for this request are not counted.
        if rule.number < 0:
            self._faults.acted.append((rule.fault.name, deed))
            return True
        return self._faults.spend(rule, deed)

    def _acting(self, deed: Deed, meeting: Iterable[Rule]) -> Rule | None:
        """The first rule that takes the answer into its own hands."""
        for rule in meeting:
            if rule.fault.kind in ("fate", "reword") or _rewrites(rule, deed):
                continue
            if rule.fault.name == "F23" and rule.fault.said("fresh") == "yes":
                if "fresh=" in deed.query:
                    continue
                self._faults.mark(rule, deed.prediction)
            if self._spend(rule, deed):
                return rule
        return None

    async def _act(self, call: _Call, rule: Rule, later: tuple[Rule, ...]) -> None:
        fault = rule.fault
        match fault.kind:
            case "raw":
                await self._on_the_connection(call, rule, later)
            case "cancel":
                await self._cancel(call, rule)
            case "file":
                await self._file(call, rule)
            case _:
                await self._lost(call, rule, later)
                await call.answer(refusal(fault, call.deed, self._clock()))

    async def _lost(self, call: _Call, rule: Rule, later: tuple[Rule, ...]) -> Reply:
        """The reply that the client will not get: the app's, or a made-up one where the app is not to see the call."""
        if _reaches_the_app(rule.fault):
            return await self._inner(call, later)
        await connections.drained(call.receive)
        return Reply(201, {"content-type": "application/json"}, b'{"id": ')

    async def _on_the_connection(self, call: _Call, rule: Rule, later: tuple[Rule, ...]) -> None:
        fault, transport = rule.fault, call.transport
        if transport is None and fault.name != "F5":
            await call.answer(_no_connection(fault.name))
            return
        reply = await self._lost(call, rule, later)
        if transport is None or fault.name == "F5":
            await connections.hang(call.receive)
        elif fault.name == "F2":
            await connections.reset(transport, call.receive)
        elif fault.name == "F3":
            await connections.close(transport, call.receive)
        elif fault.name == "F4":
            await connections.truncate(transport, call.receive, reply)
        elif fault.said("kind") == "headers":
            await connections.slow_headers(transport, call.receive, reply, float(fault.said("interval")))
        else:
            await connections.slow_body(transport, call.receive, reply, float(fault.said("interval")))

    async def _file(self, call: _Call, rule: Rule) -> None:
        kind = rule.fault.said("kind")
        if call.transport is None and kind not in ("type", "broken"):
            await call.answer(_no_connection(rule.fault.name))
        elif kind in ("declared", "endless"):
            await self._inner(call, ())
            size = rule.fault.number("bytes")
            await send_zeros(call.scope["path"], call.receive, call.send, size, declared=kind == "declared")
        else:
            await send_spoiled(self._app, call.scope, call.receive, call.send, kind, call.transport)

    async def _cancel(self, call: _Call, rule: Rule) -> None:
        deed = call.deed
        match rule.fault.said("kind"), deed.family:
            case "missing", "fal":
                await call.answer(as_json({"status": "NOT_FOUND"}, 404))
            case "missing", _:
                await call.answer(problem(deed.family, 404, "The requested resource could not be found."))
            case "twice", _:
                await self._inner(call, ())
                await self._app(call.scope, call.receive, call.send)
            case _, "fal":
                await call.answer(as_json({"status": "CANCELLATION_REQUESTED"}, 202))
            case _:
                # Replicate answers a cancel with the prediction as it is at that moment.
                path = call.scope["path"].removesuffix("/cancel")
                asking = {**call.scope, "method": "GET", "path": path, "raw_path": path.encode()}
                await self._app(asking, call.receive, call.send)

    async def _inner(self, call: _Call, later: tuple[Rule, ...]) -> Reply:
        """The app's own reply; the faults for later stick to the prediction that it tells of."""
        reply = await _captured(self._app, call)
        if later and reply.status // 100 == 2 and (id_ := id_told(call.deed, dict(reply.headers), reply.body)):  # noqa: PLR2004 - any success
            for rule in later:
                fault = replace(rule.fault, on=tuple(what for what in rule.fault.on if what is not What.SUBMIT))
                self._faults.stick(replace(rule, fault=fault, prediction=id_))
        return reply

    def _rewritten(self, deed: Deed, reply: Reply, rewriters: Iterable[Rule]) -> Reply:
        """The reply after the first rule that has something to change in it and is not used up."""
        for rule in rewriters:
            if rule.fault.name == "F23":
                if self._faults.marked(rule, deed.prediction):
                    return with_fresh_urls(reply)
                continue
            seen = self._faults.marked(rule, deed.prediction)
            changed = reworded(rule.fault, deed, reply, seen=seen)
            if rule.fault.name == "F18" and _turns(rule, deed, reply):
                self._faults.mark(rule, deed.prediction)
            if changed is not None and self._spend(rule, deed):
                return changed
        return reply


def _deed(scope: Scope) -> Deed | None:
    if scope["type"] != "http":
        return None
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    return deed_of(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), host)


def _header(scope: Scope) -> str:
    if scope["type"] != "http":
        return ""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == HEADER)


def _concerns_later(rule: Rule) -> bool:
    return rule.fault.kind != "fate" and any(what is not What.SUBMIT for what in rule.fault.on)


def _reaches_the_app(fault: Fault) -> bool:
    """Whether the app is asked although a fault takes the answer into its own hands."""
    return fault.accepted and (fault.kind != "refuse" or fault.name == "F10")


def _rewrites(rule: Rule, deed: Deed) -> bool:
    """Whether a rule changes the app's answer to a deed; F23 does where output URLs are told, not where read."""
    mends = rule.fault.name == "F23" and deed.what is not What.OUTPUT
    return rule.fault.kind == "reword" or mends


def _turns(rule: Rule, deed: Deed, reply: Reply) -> bool:
    return is_final(deed, reply) if rule.fault.said("after") == "final" else is_running(deed, reply)


def _no_connection(name: str) -> Reply:
    return as_json({"detail": f"{name} needs a real connection: serve the sandbox over a socket."}, 501)


def fate_from(faults: Iterable[Fault]) -> Fate:
    """What several faults together make of a prediction; where two disagree, the later one has its way."""
    fate = Fate()
    for fault in faults:
        match fault.name, fault.parameters.get("kind"):
            case "F19", _:
                fate = replace(fate, run_seconds=_NEVER_SECONDS)
            case "F33", _:
                fate = replace(fate, run_seconds=float(fault.number("seconds")))
            case "F20", kind:
                fate = replace(fate, ends="aborted" if kind == "abort" else "canceled")
            case "F26", kind:
                fate = replace(fate, webhook=kind or "")
            case _, kind:
                fate = replace(fate, failure=_FLAGGED if kind == "policy" else _UNUSABLE)
    return fate


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

    async def again() -> Message:
        return next(waiting, None) or await receive()

    return b"".join(one.get("body", b"") for one in messages), again


async def _captured(app: ASGIApp, call: _Call) -> Reply:
    """The whole answer that the app would send."""
    status, headers, body = 500, dict[str, str](), bytearray()

    async def kept(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.update(
                {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
            )
        else:
            body.extend(message.get("body", b""))

    await app(call.scope, call.receive, kept)
    headers.pop("content-length", None)
    return Reply(status, headers, bytes(body))
