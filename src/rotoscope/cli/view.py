"""`rotoscope view JOB`: the viewer of a job in the browser of this machine, until its page is closed."""

import argparse
import sys
import webbrowser
from functools import partial
from typing import TYPE_CHECKING

import anyio

from rotoscope import signals
from rotoscope.errors import RotoscopeError
from rotoscope.settings import Settings, user_home, working_folder

if TYPE_CHECKING:
    import socket

    from rotoscope.server.http.addresses import ListenAddress

__all__ = ["add_parser"]

_FIRST_SECONDS = 600.0  # in which somebody opens the page
_GRACE_SECONDS = 30.0  # after the last page was closed


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    view = commands.add_parser("view", help="show a job in the browser: its masks, its film or its progress")
    view.add_argument("job_id", metavar="JOB")
    view.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    view.add_argument("--port", type=int, default=0, metavar="N", help="the port on 127.0.0.1 (default: a free one)")
    view.set_defaults(run=_view_job)


def _view_job(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.server.http.addresses import ListenAddress
    from rotoscope.server.http.serving import bind_listener
    from rotoscope.studio.links import parse_job_id

    job_id = parse_job_id(asked.job_id)
    with bind_listener(ListenAddress("127.0.0.1", asked.port)) as listener:
        bound = ListenAddress("127.0.0.1", listener.getsockname()[1])
        show = partial(_announce, opens_browser=not asked.no_browser)
        signals.run_until_second_signal(partial(_serve, settings, job_id, bound, listener, show))
    return 0


async def _serve(
    settings: Settings,
    job_id: str,
    bound: "ListenAddress",
    listener: "socket.socket",
    show: "partial[None]",
    asked_to_end: anyio.Event,
) -> None:
    from rotoscope.composition.viewer import build_page_server
    from rotoscope.server.http.drain import Drain
    from rotoscope.server.http.limits import HttpLimits
    from rotoscope.server.http.serving import serve_app

    limits, drain = HttpLimits(), Drain()
    page = build_page_server(settings, bound, working_folder(), user_home(), job_id, limits=limits)
    drain.on_begin(page.pages.end)

    async def end_when_left() -> None:
        await page.pages.wait_until_left(_FIRST_SECONDS, _GRACE_SECONDS)
        print("rotoscope: the page was closed.", file=sys.stderr)
        asked_to_end.set()

    refusal: RotoscopeError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_when_left)
        try:
            on_ready = partial(show, f"{bound.url}{page.key.path}")
            await serve_app(page, listener, limits, drain, asked_to_end, on_ready)
        except RotoscopeError as error:
            refusal = error  # raised inside a task group it would come out wrapped
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal


def _announce(url: str, *, opens_browser: bool) -> None:
    """Print the address, and open it."""
    print(url, flush=True)
    print("rotoscope: this address opens once. Ctrl-C or closing the page ends it.", file=sys.stderr, flush=True)
    if opens_browser:
        webbrowser.open(url)
