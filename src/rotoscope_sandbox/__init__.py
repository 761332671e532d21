"""The sandbox: an app that speaks the three providers' wires and computes real results, with no key and no network.

It serves users who have no provider key yet, and tests of programs that wait for hosted models: it pretends queues,
progress, logs, refusals and retention as the providers have them. It shares no code with `rotoscope`, so that a mistake
there cannot agree with itself here.

What a provider can do wrong can be asked for (`faults`; `docs/sandbox.md` has the table), and what came in is counted
so that another process can read it: `GET /sandbox/ledger` (`journal`).
"""

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rotoscope_sandbox.own_models import OwnModel
    from rotoscope_sandbox.webhook_post import PostWebhook

__all__ = ["Sandbox", "build_sandbox"]


class Sandbox(Protocol):
    """An ASGI app.

    `state.requests` holds the latest requests (method, path, query, body), `state.accepted` the ids of all
    predictions that a provider would have charged for, `state.counters` the counts of the ledger, `state.core` what the
    wires share; `state.faults` is what goes wrong: `state.faults.add("reset", wire="fal")` (see `faults.rules`).
    """

    @property
    def state(self) -> Any:
        """What tests look at."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""


def build_sandbox(
    folder: Path,
    *,
    pace: float = 1.0,
    clock: Callable[[], float] = time.time,
    public_url: str | None = None,
    faults: Path | None = None,
    stand_ins: bool = False,
    own_models: "Iterable[OwnModel]" = (),
    weights: Path | None = None,
    post_webhook: "PostWebhook | None" = None,
) -> Sandbox:
    """A sandbox over a folder, which several processes may share.

    Args:
        folder: where predictions, outputs and uploads are kept.
        pace: multiplies all pretended waiting; at 0 the next poll finds the prediction done.
        clock: the time in seconds since the epoch.
        public_url: what handed-out URLs start with; without it, the scheme and host of each request.
        faults: a file of rules for what goes wrong, read again when it changes.
        stand_ins: whether files of its own stand in for what lies at addresses that it cannot reach.
        own_models: models that it plays beside those it knows.
        weights: the file of the object net's weights, if there is one or may come to be one (`weights`).
        post_webhook: sends a webhook in place of a connection to this machine; it is called in a thread.
    """
    from rotoscope_sandbox.app import build
    from rotoscope_sandbox.webhook_post import post_by_http

    return build(
        folder,
        pace=pace,
        clock=clock,
        public_url=public_url,
        faults=faults,
        stand_ins=stand_ins,
        own_models=own_models,
        weights=weights,
        post_webhook=post_webhook or post_by_http,
    )
