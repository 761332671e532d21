"""What came in: the latest requests, and counts that another process can read: `GET /sandbox/ledger`.

    {"accepted": [ids], "paid": 3, "posts": {"replicate": 2, "fal": 1}, "cancels": 0,
     "predictions": [{"id", "wire", "model", "created", "stage", "charged_usd"}, the latest first]}

`accepted`, `posts` (paying POSTs as they arrived, refused and lost ones too; a gateway's count as `gateway`) and
`cancels` are those of this process since it started; `predictions` are read from the folder, so they are those of
every process that shares it. `paid` counts what a provider would have charged for: the accepted predictions but
those that never ran (aborted, or expired in the queue).
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.core import Core
from rotoscope_sandbox.faults.middleware import OPERATION
from rotoscope_sandbox.faults.operations import Action, find_operation
from rotoscope_sandbox.predictions import RunStatus

__all__ = ["Counters", "Journal", "JournalEntry", "ledger_response"]

_LATEST = 1000  # requests
_BODY_BYTES = 64 * 1024
_NEVER_RAN = (RunStatus.ABORTED, RunStatus.EXPIRED)


@dataclass(slots=True)
class JournalEntry:
    """One request as it came in: no headers, so no key; of the body the first 64 KiB."""

    method: str
    path: str
    query: str
    body: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Counters:
    """The latest requests, how many cost money, by wire, and how many canceled."""

    requests: deque[JournalEntry] = field(default_factory=lambda: deque(maxlen=_LATEST))
    posts: Counter[str] = field(default_factory=Counter)
    cancels: int = 0


class Journal:
    """The outermost middleware: finds out what each request does, and writes it down before it is answered."""

    def __init__(self, app: ASGIApp, counters: Counters, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._counters = counters
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = JournalEntry(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        self._counters.requests.append(entry)
        operation = scope[OPERATION] = find_operation(scope, self._routes)
        if operation is not None and operation.action is Action.SUBMIT:
            self._counters.posts[operation.wire] += 1
        elif operation is not None and operation.action is Action.CANCEL:
            self._counters.cancels += 1

        async def receive_and_note() -> Message:
            message = await receive()
            entry.body.extend(message.get("body", b"")[: _BODY_BYTES - len(entry.body)])
            return message

        await self._app(scope, receive_and_note, send)


async def ledger_response(counters: Counters, core: Core, _: Request) -> Response:
    """The answer of `GET /sandbox/ledger`, which needs no key."""
    now, accepted = core.clock(), list(core.accepted)
    known = list(core.store.newest_first())
    unpaid = {one.request.id for one in known if one.status(now) in _NEVER_RAN}
    rows = [
        {
            "id": one.request.id,
            "wire": one.request.wire,
            "model": one.request.model,
            "created": one.request.created,
            "stage": one.status(now),
            "charged_usd": round(core.bill(one).usd, 9) if one.status(now).is_final else None,
        }
        for one in known
    ]
    body = {
        "accepted": accepted,
        "paid": sum(id_ not in unpaid for id_ in accepted),
        "posts": dict(counters.posts),
        "cancels": counters.cancels,
        "predictions": rows,
    }
    return JSONResponse(body)
