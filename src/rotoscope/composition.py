"""The composition root: builds the whole program from the settings. Only the command line and tests stand above it."""

import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import Access, Catalog, load_catalog, manifest_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from rotoscope.jobs.context import JobContext, LeaseGuard
    from rotoscope.jobs.dispatcher import Dispatcher
    from rotoscope.jobs.review import Review
    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.paths import Roots
    from rotoscope.media.vault import Vault
    from rotoscope.providers.dialects import Dialect
    from rotoscope.providers.http.client import AsgiApp, ReplyTimeouts, Wire
    from rotoscope.providers.http.proxies import ProxySettings
    from rotoscope.sandbox_process import SandboxProcess
    from rotoscope.server.lazy_studio import LazyStudio
    from rotoscope.store.database import Database
    from rotoscope.store.leases import JobDriver
    from rotoscope.store.records import Job
    from rotoscope.store.timing import Intervals
    from rotoscope.studio.links import JobLinks
    from rotoscope.studio.planning import Planner
    from rotoscope.studio.prices import PublishedPrices
    from rotoscope.studio.studio import Studio

__all__ = [
    "build_stdio_server",
    "load_user_catalog",
    "make_private_folder",
    "make_studio_opener",
    "open_reading_wire",
    "open_studio",
    "stdio_roots",
]

_LARGEST_SEED = 2_147_483_647
_DAY = 86_400.0  # seconds
_log = logging.getLogger(__name__)


def load_user_catalog(settings: Settings) -> Catalog:
    """The shipped manifests and the user's own, in `ROTOSCOPE_HOME/models`."""
    return load_catalog(manifest_folder(), settings.home / "models")


def make_studio_opener(
    settings: Settings, roots: "Roots", sandbox: "AsgiApp | None" = None, decoders: "DecodeRunner | None" = None
) -> Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]:
    """A function that opens the studio later, when a `LazyStudio` needs it."""

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
    intervals: "Intervals | None" = None,
    times: "ReplyTimeouts | None" = None,
    clock: Callable[[], float] = time.time,
    *,
    decoders: "DecodeRunner | None" = None,
    vault: "Vault | None" = None,
) -> "Studio":
    """Build the studio and all below it. It may be built in a thread; `start_background` needs the event loop.

    Args:
        settings: the operator's decisions.
        roots: where local files may be read.
        tasks: where jobs run.
        closing: gets what must be closed at the end.
        sandbox: an app that answers for the trusted hosts in place of the built-in sandbox.
        sleep: waits some seconds before something free is tried again.
        intervals: the spans of time that the job engine lives by.
        times: how long providers' replies are waited for.
        clock: the time in Unix seconds.
        decoders: decodes media in place of worker processes.
        vault: keeps the artifacts in place of a folder in the home.

    Raises:
        InvalidInput: a setting cannot be used; the message names its variable, and nothing was written.
    """
    from rotoscope.jobs.concurrency import JobNotifier
    from rotoscope.jobs.context import JobContext
    from rotoscope.media.vault import FolderVault
    from rotoscope.store.ledger import Ledger
    from rotoscope.store.money import ResendPolicy
    from rotoscope.store.timing import Intervals

    # A setting that no request could work with is refused before anything is written or opened.
    proxies = _read_proxies(settings)
    make_private_folder(settings.home)
    catalog = _load_catalog_and_warn(settings)
    access = resolve_access(settings, catalog.providers)
    wire = _make_wire(catalog, access, sandbox or _sandbox_app(settings, catalog, access, closing), times, proxies)
    vault, intervals = vault or FolderVault(settings.home / "vault"), intervals or Intervals()
    database = _make_database(settings, vault)
    closing.push_async_callback(wire.aclose)
    closing.push_async_callback(database.aclose)
    vault.remove_old_scratch(before=clock() - _DAY)
    context = JobContext(
        Ledger(database, clock, intervals.redelivery),
        vault,
        wire,
        catalog,
        _make_dialects(catalog, access),
        JobNotifier(),
        clock,
        sleep,
        decoders or _make_decoders(settings, closing),
        intervals,
        resend_policy=ResendPolicy(settings.resend_below_usd, settings.max_usd_per_day),
    )
    return _make_studio(settings, context, database, access, roots, tasks, closing)


def _make_studio(
    settings: Settings,
    context: "JobContext",
    database: "Database",
    access: Access,
    roots: "Roots",
    tasks: anyio.abc.TaskGroup,
    closing: AsyncExitStack,
) -> "Studio":
    from rotoscope.jobs.charges import ChargeReader
    from rotoscope.jobs.review import Review
    from rotoscope.store.charges import Charges
    from rotoscope.store.money import Caps
    from rotoscope.store.price_file import PriceFile
    from rotoscope.store.quotes import Quotes
    from rotoscope.store.retention import Retention
    from rotoscope.studio.links import JobLinks
    from rotoscope.studio.prices import PublishedPrices
    from rotoscope.studio.studio import Studio

    review = Review(context, database, _make_lease_holder(settings, context.catalog, access))
    dispatcher = _make_dispatcher(context, database, review, tasks)
    closing.push_async_callback(dispatcher.release_leases)
    links = JobLinks(context.ledger)
    prices = PublishedPrices(context, access, PriceFile(settings.home / "prices.json"), tasks)
    return Studio(
        context,
        access,
        cache(partial(_make_planner, context, access, roots, links, tasks, prices)),
        links,
        dispatcher,
        review,
        Retention(database, context.vault, context.clock, settings.retention_days * _DAY),
        Quotes(database, context.clock, context.intervals.quote_life),
        review.holder.owner,
        Caps(settings.max_usd_per_call, settings.max_usd_per_day, settings.unpriced),
        prices,
        ChargeReader(context, Charges(database, context.clock), access),
    )


def _make_dispatcher(
    context: "JobContext", database: "Database", review: "Review", tasks: anyio.abc.TaskGroup
) -> "Dispatcher":
    from rotoscope.jobs.dispatcher import Dispatcher
    from rotoscope.store.leases import Leases

    async def run(job: "Job", lease: "LeaseGuard") -> None:
        from rotoscope.jobs.lifecycle import run_job  # only a process that drives a job needs the stages

        await run_job(context, job, lease)

    leases = Leases(database, context.clock, review.holder, context.intervals)
    return Dispatcher(tasks, run, leases, context.notifier, context.intervals, review.look_at_due)


def _make_planner(
    context: "JobContext",
    access: Access,
    roots: "Roots",
    links: "JobLinks",
    tasks: anyio.abc.TaskGroup,
    prices: "PublishedPrices",
) -> "Planner":
    from rotoscope.media.intake import Intake
    from rotoscope.providers.http.egress import check_url
    from rotoscope.studio.planning import PlanCache, Planner

    intake = Intake(
        context.vault,
        roots,
        context.wire.fetch,
        lambda url: check_url(url).url,
        links.output_link,
        links.can_read_artifact,
        context.decoders,
    )
    return Planner(context.catalog, access, intake, context.ledger, _draw_seed, PlanCache(tasks), prices)


def _draw_seed() -> int:
    """A seed that cannot be guessed."""
    return random.SystemRandom().randint(0, _LARGEST_SEED)


def _make_decoders(settings: Settings, closing: AsyncExitStack) -> "DecodeRunner":
    from rotoscope.media.decoders import DecoderPool

    decoders = DecoderPool(settings.variables)
    closing.push_async_callback(decoders.aclose)
    return decoders


def _load_catalog_and_warn(settings: Settings) -> Catalog:
    catalog = load_user_catalog(settings)
    for problem in catalog.problems:
        _log.warning("a manifest was left out: %s", problem)
    return catalog


def _make_dialects(catalog: Catalog, access: Access) -> "dict[str, Dialect]":
    from rotoscope.providers.dialects import make_dialect

    # The sandbox has its own paths, whatever a gateway's are.
    versions = {name: None if access.sandbox else one.version_path for name, one in catalog.providers.items()}
    return {
        name: make_dialect(one.dialect, access.base_urls[name], version_path=versions[name])
        for name, one in catalog.providers.items()
    }


def _make_database(settings: Settings, vault: "Vault") -> "Database":
    from rotoscope.store.database import Database
    from rotoscope.store.sqlite import database_file
    from rotoscope.store.vault_mark import VaultBinding

    file = database_file(settings.database)
    at_home = file is not None and file.parent.resolve() == settings.home.resolve()
    return Database(settings.database, binding=VaultBinding(vault, at_home))


def _make_lease_holder(settings: Settings, catalog: Catalog, access: Access) -> "JobDriver":
    from rotoscope.store.leases import JobDriver
    from rotoscope.store.openings import SANDBOX_KEY

    usual = settings.at_once.get("")
    limits = {name: settings.at_once.get(name, usual or one.at_once) for name, one in catalog.providers.items()}
    return JobDriver(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        # A job of a ledger that an older version has written names its provider alone.
        keys=frozenset({SANDBOX_KEY} if access.sandbox else {*access.keys, *map(access.driver_key, access.keys)}),
        accounts=frozenset(map(access.account_fingerprint, access.keys)),
        models=frozenset(catalog.models),
        limits={name: limit for name, limit in limits.items() if limit is not None},
    )


def _read_proxies(settings: Settings) -> "ProxySettings":
    from rotoscope.providers.http.proxies import read_proxy_settings

    # Some hosts pass `$NAME` for what was never set.
    return read_proxy_settings({name: settings.variable(name) or "" for name in settings.variables})


def _make_wire(
    catalog: Catalog,
    access: Access,
    sandbox: "AsgiApp | None",
    times: "ReplyTimeouts | None",
    proxies: "ProxySettings",
) -> "Wire":
    from rotoscope.providers.http.client import ProviderAccess, Wire
    from rotoscope.providers.http.guard import origin_of

    accesses = {
        name: ProviderAccess(
            provider.auth.header,
            provider.auth.prefix,
            access.keys[name],
            provider.output_hosts,
            provider.upload_hosts,
            frozenset(map(origin_of, access.base_urls[name].values())),
            access.own_hosts.get(name, frozenset()),
            access.headers.get(name, {}),
            access.secrets.get(name, ()),
        )
        for name, provider in catalog.providers.items()
        if name in access.keys
    }
    return Wire(accesses, access.trusted_hosts, sandbox, timeouts=times, proxies=proxies)


def open_reading_wire(settings: Settings, catalog: Catalog, access: Access, closing: AsyncExitStack) -> "Wire":
    """A wire to the providers' own hosts, to read what they publish; one without a key is spoken to without."""
    anyone = replace(access, keys={**dict.fromkeys(catalog.providers, ""), **access.keys})
    wire = _make_wire(catalog, anyone, None, None, _read_proxies(settings))
    closing.push_async_callback(wire.aclose)
    return wire


def _sandbox_app(
    settings: Settings, catalog: Catalog, access: Access, closing: AsyncExitStack
) -> "SandboxProcess | None":
    """The built-in sandbox, where it serves the providers."""
    if not access.is_built_in:
        return None
    from rotoscope.sandbox_process import SandboxProcess

    return SandboxProcess(settings, catalog, closing)


def make_private_folder(home: Path) -> None:
    """Make a folder that is its owner's alone: jobs hold prompts and pictures, and manifests say where keys go.

    Raises:
        InvalidInput: others may write in it.
        StorageFailed: it cannot be made.
    """
    from rotoscope.ownership import find_fault, make_private

    try:
        make_private(home)
        fault = find_fault(home)
    except OSError as error:
        raise _folder_error(home) from error
    if fault is not None:
        raise InvalidInput(
            f"The folder {home} {fault}, so nothing is kept in it.",
            hint="Set ROTOSCOPE_HOME to a folder that is yours alone, or take the right to write from all others "
            "(chmod go-w).",
        )


def _folder_error(folder: Path) -> StorageFailed:
    return StorageFailed(
        f"The folder {folder} cannot be used.", hint="Set ROTOSCOPE_HOME to a folder that can be written."
    )


def stdio_roots(settings: Settings, start: Path, home: Path | None) -> "Roots":
    """Where an assistant's paths may lead over stdio."""
    from rotoscope.media.paths import Roots, default_roots

    return Roots(settings.roots, start) if settings.roots is not None else default_roots(start, home)


def build_stdio_server(settings: Settings, start: Path, home: Path | None) -> "MCPServer[LazyStudio]":
    """The server of a stdio session.

    Args:
        settings: the operator's decisions.
        start: the working directory.
        home: the user's home directory, if there is one.
    """
    from rotoscope.server.app import build_server
    from rotoscope.server.clients.profiles import read_client_profiles
    from rotoscope.store.sqlite_probe import has_open_jobs

    clients = read_client_profiles(manifest_folder() / "clients.toml")
    return build_server(
        make_studio_opener(settings, stdio_roots(settings, start, home)),
        clients,
        settings.inline_seconds,
        ask_above_usd=settings.ask_above_usd,
        has_open_jobs=partial(has_open_jobs, settings.database),
        retention_seconds=settings.retention_days * _DAY,
    )
