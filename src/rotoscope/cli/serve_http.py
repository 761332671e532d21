"""`rotoscope serve --http HOST:PORT`: the server that others reach."""

import socket
import sys
from contextlib import AsyncExitStack
from functools import partial

import anyio

from rotoscope import signals
from rotoscope.cli.collector import tune_garbage_collector
from rotoscope.composition.http import HttpServing, build_http_server, check_listening, public_address
from rotoscope.composition.keys import open_key_entry
from rotoscope.composition.sign_in import open_sign_in
from rotoscope.server.http.addresses import ListenAddress, parse_listen_address
from rotoscope.server.http.guard import MCP_PATH
from rotoscope.server.http.serving import bind_listener, serve_app
from rotoscope.settings import Settings, working_folder

__all__ = ["serve_http"]


def serve_http(settings: Settings, address: str, *, drives: bool = True) -> int:
    """Serve until the process is asked to end; the exit code.

    Args:
        settings: the operator's decisions.
        address: where it listens, as HOST:PORT.
        drives: whether it drives jobs as well; otherwise workers do.

    Raises:
        InvalidInput: the address or a setting cannot be used.
        Interrupted: it was asked twice to end.
    """
    wanted = parse_listen_address(address)
    check_listening(settings, wanted)
    with bind_listener(wanted) as listener:
        bound = ListenAddress(wanted.host, listener.getsockname()[1])
        signals.run_until_second_signal(partial(_serve, settings, bound, listener, drives))
    return 0


async def _serve(
    settings: Settings, bound: ListenAddress, listener: socket.socket, drives: bool, asked_to_end: anyio.Event
) -> None:
    async with AsyncExitStack() as closing:
        url = public_address(settings, bound)
        sign_in = open_sign_in(settings, f"{url}{MCP_PATH}", closing)
        keys = open_key_entry(settings, url, closing)
        serving = build_http_server(settings, bound, working_folder(), sign_in=sign_in, key_entry=keys, drives=drives)
        announce = partial(_print_address, serving, settings)

        def on_ready() -> None:
            tune_garbage_collector()
            announce()

        await serve_app(serving.app, listener, serving.limits, serving.drain, asked_to_end, on_ready)


def _print_address(serving: HttpServing, settings: Settings) -> None:
    url = f"{serving.url}{MCP_PATH}"
    who = "whoever is on this machine" if settings.network.sign_in == "none" else settings.network.sign_in
    lines = (
        f"rotoscope: serving MCP at {url} (sign-in: {who})",
        f"rotoscope: connect with: claude mcp add --transport http rotoscope {url}",
        "rotoscope: or add that address as a custom connector, or as an MCP server of the type http",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)
