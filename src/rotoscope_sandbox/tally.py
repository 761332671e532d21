"""What came in, counted, for whoever watches from another process: `GET /sandbox/ledger`.

    {"accepted": [ids], "paid": 3, "posts": {"replicate": 2, "fal": 1}, "cancels": 0,
     "predictions": [{"id", "wire", "model", "created", "stage"}, the latest first]}

`accepted`, `posts` (paying POSTs as they arrived, refused and lost ones too; a gateway's count as `gateway`) and
`cancels` are those of this process since it started; `predictions` are read from the folder, so they are those of
every process that shares it. `paid` counts what a provider would have charged for: the accepted predictions but
those that never ran (aborted, or expired in the queue).
"""

from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rotoscope_sandbox.faults.deeds import What, deed_of
from rotoscope_sandbox.predictions import Stage
from rotoscope_sandbox.site import Site

__all__ = ["Tally", "ledger_routes"]

_NEVER_RAN = (Stage.ABORTED, Stage.EXPIRED)


@dataclass(slots=True)
class Tally:
    """Requests that cost money, by wire, and requests that cancel."""

    posts: Counter[str] = field(default_factory=Counter)
    cancels: int = 0

    def note(self, method: str, path: str) -> None:
        """Counts a request as it comes in."""
        deed = deed_of(method, path)
        if deed is not None and deed.what is What.SUBMIT:
            self.posts[deed.wire] += 1
        elif deed is not None and deed.what is What.CANCEL:
            self.cancels += 1


def ledger_routes(site: Site, tally: Tally) -> list[Route]:
    """The one route; it needs no key."""

    async def ledger(_: Request) -> Response:
        now, accepted = site.clock(), list(site.accepted)
        known = list(site.store.newest_first())
        unpaid = {one.order.id for one in known if one.stage(now) in _NEVER_RAN}
        rows = [
            {
                "id": one.order.id,
                "wire": one.order.wire,
                "model": one.order.model,
                "created": one.order.created,
                "stage": one.stage(now),
            }
            for one in known
        ]
        paid = sum(id_ not in unpaid for id_ in accepted)
        told = {"accepted": accepted, "paid": paid, "posts": dict(tally.posts), "cancels": tally.cancels}
        return JSONResponse(told | {"predictions": rows})

    return [Route("/sandbox/ledger", ledger, methods=["GET"])]
