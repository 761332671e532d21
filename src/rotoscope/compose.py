"""The composition root: builds the house from the settings. Only the command line and tests stand above it."""

import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import Access, access_of
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from rotoscope.jobs.database import Database
    from rotoscope.jobs.leases import Holder
    from rotoscope.jobs.tempo import Tempo
    from rotoscope.media.decoders import Decodes
    from rotoscope.media.paths import Roots
    from rotoscope.media.vault import Vault
    from rotoscope.predictions.dialects import Dialect
    from rotoscope.sandbox_process import SandboxProcess
    from rotoscope.server.door import StudioDoor
    from rotoscope.studio import Studio
    from rotoscope.wire.client import AsgiApp, Times, Wire
    from rotoscope.wire.proxies import ProxySettings

__all__ = ["catalog_of", "open_roots", "open_studio", "stdio_server", "studio_opener"]

_LARGEST_SEED = 2_147_483_647
_DAY = 86_400.0  # seconds
_log = logging.getLogger(__name__)


def catalog_of(settings: Settings) -> Catalog:
    """The shipped manifests and the user's own, in `ROTOSCOPE_HOME/models`."""
    return load_catalog(manifest_folder(), settings.home / "models")


def studio_opener(
    settings: Settings, roots: "Roots", sandbox: "AsgiApp | None" = None, decoders: "Decodes | None" = None
) -> Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]:
    """What a door needs to open the studio later."""

    def opener(tasks: anyio.abc.TaskGroup, closing: AsyncExitStack) -> "Studio":
        return open_studio(settings, roots, tasks, closing, sandbox, decoders=decoders)

    return opener


def open_studio(
    settings: Settings,
    roots: "Roots",
    tasks: anyio.abc.TaskGroup,
    closing: AsyncExitStack,
    sandbox: "AsgiApp | None" = None,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    tempo: "Tempo | None" = None,
    times: "Times | None" = None,
    clock: Callable[[], float] = time.time,
    *,
    decoders: "Decodes | None" = None,
) -> "Studio":
    """Build every room and the studio on top of them. It may be built in a thread; then `begin` it in the event loop.

    Args:
        settings: the operator's decisions.
        roots: where local files may be read.
        tasks: where jobs run.
        closing: gets what must be closed at the end.
        sandbox: an app that answers for the trusted hosts in place of the built-in sandbox.
        sleep: waits some seconds before something free is tried again.
        tempo: the spans of time that the job engine lives by.
        times: how long providers' replies are waited for.
        clock: the time in Unix seconds.
        decoders: decodes media in place of worker processes.

    Raises:
        InvalidInput: a setting cannot be used; the message names its variable, and nothing was written.
    """
    from rotoscope.checking import Checks
    from rotoscope.jobs.budget import Caps, Resending
    from rotoscope.jobs.dispatcher import Dispatcher
    from rotoscope.jobs.feed import Feed
    from rotoscope.jobs.leases import Leases
    from rotoscope.jobs.ledger import Ledger
    from rotoscope.jobs.machine import drive
    from rotoscope.jobs.quotes import Quotes
    from rotoscope.jobs.retention import Retention
    from rotoscope.jobs.review import Review
    from rotoscope.jobs.rooms import Rooms
    from rotoscope.jobs.tempo import Tempo
    from rotoscope.media.intake import Intake
    from rotoscope.media.vault import Vault
    from rotoscope.studio import Studio, job_output
    from rotoscope.wire.egress import check_url

    # What no request could go by is refused before anything is written or opened.
    proxies = _proxies(settings)
    _make_home(settings.home)
    catalog = _load_and_warn(settings)
    access = access_of(settings, catalog.providers)
    wire = _wire(catalog, access, sandbox or _built_in(settings, catalog, access, closing), times, proxies)
    vault, tempo = Vault(settings.home / "vault"), tempo or Tempo()
    database = _database(settings, vault)
    closing.push_async_callback(wire.aclose)
    closing.push_async_callback(database.aclose)
    decoders = decoders or _decoders(settings, closing)
    vault.sweep(before=clock() - _DAY)
    dialects, resending = _dialects(catalog, access), Resending(settings.resend_below_usd, settings.max_usd_per_day)
    ledger = Ledger(database, clock, tempo.tell_again)
    rooms = Rooms(ledger, vault, wire, catalog, dialects, Feed(), clock, sleep, decoders, tempo, resending=resending)
    intake = Intake(vault, roots, wire.fetch, lambda url: check_url(url).url, partial(job_output, rooms), decoders)
    leases = Leases(database, clock, _holder(settings, catalog, access), tempo)
    review = Review(rooms, database, leases.holder)
    dispatcher = Dispatcher(tasks, partial(drive, rooms), leases, rooms.feed, tempo, review.look_at_due)
    closing.push_async_callback(dispatcher.give_back)
    retention = Retention(database, vault, clock, settings.retention_days * _DAY)
    caps = Caps(settings.max_usd_per_call, settings.max_usd_per_day, settings.unpriced)
    quotes, owner = Quotes(database, clock, tempo.quote), leases.holder.owner
    return Studio(rooms, intake, access, dispatcher, review, retention, quotes, owner, caps, _draw, Checks(tasks))


def _draw() -> int:
    """A seed that nobody can guess."""
    return random.SystemRandom().randint(0, _LARGEST_SEED)


def _decoders(settings: Settings, closing: AsyncExitStack) -> "Decodes":
    from rotoscope.media.decoders import Decoders

    decoders = Decoders(settings.variables)
    closing.push_async_callback(decoders.aclose)
    return decoders


def _load_and_warn(settings: Settings) -> Catalog:
    catalog = catalog_of(settings)
    for problem in catalog.problems:
        _log.warning("a manifest was left out: %s", problem)
    return catalog


def _dialects(catalog: Catalog, access: Access) -> "dict[str, Dialect]":
    from rotoscope.predictions.dialects import DIALECTS

    return {name: DIALECTS[p.dialect](access.bases[name]) for name, p in catalog.providers.items()}


def _database(settings: Settings, vault: "Vault") -> "Database":
    from rotoscope.jobs.database import Database
    from rotoscope.jobs.engines import file_of
    from rotoscope.jobs.vault_mark import VaultMark

    file = file_of(settings.database)
    at_home = file is not None and file.parent.resolve() == settings.home.resolve()
    return Database(settings.database, mark=VaultMark(vault, at_home))


def _holder(settings: Settings, catalog: Catalog, access: Access) -> "Holder":
    from rotoscope.jobs.leases import Holder
    from rotoscope.jobs.openings import SANDBOX_KEY

    usual = settings.at_once.get("")
    limits = {name: settings.at_once.get(name, usual or one.at_once) for name, one in catalog.providers.items()}
    return Holder(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        # A job of a ledger that an older version has written names its provider alone.
        keys=frozenset({SANDBOX_KEY} if access.sandbox else {*access.keys, *map(access.driver_of, access.keys)}),
        accounts=frozenset(map(access.account_of, access.keys)),
        models=frozenset(catalog.models),
        limits={name: limit for name, limit in limits.items() if limit is not None},
    )


def _proxies(settings: Settings) -> "ProxySettings":
    from rotoscope.wire.proxies import read_proxy_settings

    # Some hosts pass `$NAME` for what was never set.
    return read_proxy_settings({name: settings.variable(name) or "" for name in settings.variables})


def _wire(
    catalog: Catalog,
    access: Access,
    sandbox: "AsgiApp | None",
    times: "Times | None",
    proxies: "ProxySettings",
) -> "Wire":
    from rotoscope.wire.client import Door, Wire
    from rotoscope.wire.guard import origin_of

    doors = {
        name: Door(
            provider.auth.header,
            provider.auth.prefix,
            access.keys[name],
            provider.output_hosts,
            provider.upload_hosts,
            frozenset(map(origin_of, access.bases[name].values())),
            access.own_hosts.get(name, frozenset()),
        )
        for name, provider in catalog.providers.items()
        if name in access.keys
    }
    return Wire(doors, access.trusted, sandbox, times=times, proxies=proxies)


def _built_in(settings: Settings, catalog: Catalog, access: Access, closing: AsyncExitStack) -> "SandboxProcess | None":
    if not access.built_in:
        return None
    from rotoscope.sandbox_process import SandboxProcess

    return SandboxProcess(settings, catalog, closing)


def _make_home(home: Path) -> None:
    """Jobs hold prompts and pictures, and manifests say where keys go: the folder is its owner's alone."""
    from rotoscope.ownership import find_fault, make_private

    try:
        make_private(home)
        fault = find_fault(home)
    except OSError as error:
        raise _unwritable(home) from error
    if fault is not None:
        raise InvalidInput(
            f"The folder {home} {fault}, so nothing is kept in it.",
            hint="Set ROTOSCOPE_HOME to a folder that is yours alone, or take the right to write from all others "
            "(chmod go-w).",
        )


def _unwritable(folder: Path) -> StorageFailed:
    return StorageFailed(
        f"The folder {folder} cannot be used.", hint="Set ROTOSCOPE_HOME to a folder that can be written."
    )


def open_roots(settings: Settings, start: Path, home: Path | None) -> "Roots":
    """Where an assistant's paths may lead over stdio."""
    from rotoscope.media.paths import Roots, default_roots

    return Roots(settings.roots, start) if settings.roots is not None else default_roots(start, home)


def stdio_server(settings: Settings, start: Path, home: Path | None) -> "MCPServer[StudioDoor]":
    """The server of a stdio session.

    Args:
        settings: the operator's decisions.
        start: the working directory.
        home: the user's home directory, if there is one.
    """
    from rotoscope.jobs.glance import has_open_jobs
    from rotoscope.server.app import build_server
    from rotoscope.server.patience import read_clients

    clients = read_clients(manifest_folder() / "clients.toml")
    opener = studio_opener(settings, open_roots(settings, start, home))
    glance = partial(has_open_jobs, settings.database)
    return build_server(
        opener,
        clients,
        settings.inline_seconds,
        ask_above_usd=settings.ask_above_usd,
        has_open_jobs=glance,
        retention_seconds=settings.retention_days * _DAY,
    )
