"""The studio and all below it, built from the settings."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache, partial
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from rotoscope.composition.driving import Driving, choose_enqueue, has_engine, make_dispatcher, restrict_driver
from rotoscope.composition.keys import make_own_keys, make_sealer
from rotoscope.composition.parts import (
    add_kept_keys,
    load_catalog_and_warn,
    make_database,
    make_decoders,
    make_dialects,
    make_lease_holder,
    make_private_folder,
    make_tracer,
    make_vault,
    make_wire,
    read_proxies,
    start_sandbox_app,
)
from rotoscope.composition.webhooks import make_webhooks
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import Access
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.jobs.context import JobContext
    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.paths import Roots
    from rotoscope.media.vault import Vault
    from rotoscope.providers.http.client import AsgiApp, ReplyTimeouts
    from rotoscope.store.database import Database
    from rotoscope.store.money import ResendPolicy
    from rotoscope.store.timing import Intervals
    from rotoscope.studio.links import JobLinks
    from rotoscope.studio.planning import Planner
    from rotoscope.studio.prices import PublishedPrices
    from rotoscope.studio.studio import Studio

__all__ = ["make_studio_opener", "open_studio"]

_LARGEST_SEED = 2_147_483_647
_DAY = 86_400.0  # seconds
_DRIVES_ALL = Driving()
_log = logging.getLogger(__name__)


def make_studio_opener(
    settings: Settings,
    roots: "Roots",
    sandbox: "AsgiApp | None" = None,
    decoders: "DecodeRunner | None" = None,
    *,
    wrap_vault: "Callable[[Vault], Vault] | None" = None,
    takes_webhooks: bool = False,
    driving: Driving = _DRIVES_ALL,
) -> Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]:
    """A function that opens the studio later, when a `LazyStudio` needs it."""

    def opener(tasks: anyio.abc.TaskGroup, closing: AsyncExitStack) -> "Studio":
        return open_studio(
            settings,
            roots,
            tasks,
            closing,
            sandbox,
            decoders=decoders,
            wrap_vault=wrap_vault,
            takes_webhooks=takes_webhooks,
            driving=driving,
        )

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
    wrap_vault: "Callable[[Vault], Vault] | None" = None,
    takes_webhooks: bool = False,
    driving: Driving = _DRIVES_ALL,
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
        vault: keeps the artifacts in place of the one that the settings name.
        wrap_vault: puts a vault around it that gives other addresses.
        takes_webhooks: whether a process on this ledger serves the public URL: then providers get addresses below it.
        driving: which jobs this process drives.

    Raises:
        InvalidInput: a setting cannot be used; the message names its variable, and nothing was written.
    """
    from rotoscope.jobs.concurrency import JobNotifier
    from rotoscope.jobs.context import JobContext
    from rotoscope.store.ledger import Ledger
    from rotoscope.store.timing import Intervals
    from rotoscope.store.webhook_log import WebhookLog

    # A setting that no request could work with is refused before anything is written or opened.
    proxies, _ = read_proxies(settings), make_sealer(settings)
    make_private_folder(settings.home)
    catalog = load_catalog_and_warn(settings)
    settings = add_kept_keys(settings, catalog)
    access = resolve_access(settings, catalog.providers)
    wire = make_wire(catalog, access, sandbox or start_sandbox_app(settings, catalog, access, closing), times, proxies)
    own_vault, intervals = vault or make_vault(settings), intervals or Intervals()
    vault, database = (wrap_vault or _keep_vault)(own_vault), make_database(settings, own_vault)
    closing.push_async_callback(wire.aclose)
    closing.push_async_callback(database.aclose)
    vault.remove_old_scratch(before=clock() - _DAY)
    dialects, log = make_dialects(catalog, access), WebhookLog(database, clock)
    context = JobContext(
        Ledger(database, clock, intervals.redelivery, choose_enqueue(settings)),
        vault,
        wire,
        catalog,
        dialects,
        JobNotifier(),
        clock,
        sleep,
        decoders or make_decoders(settings, closing),
        intervals,
        resend_policy=_make_resend_policy(settings),
        tracer=make_tracer(settings, closing),
        webhooks=make_webhooks(settings, access, catalog.providers, dialects, log) if takes_webhooks else None,
        own_keys=make_own_keys(settings, access, database, clock),
    )
    return _make_studio(settings, context, database, access, roots, tasks, closing, driving)


def _make_resend_policy(settings: Settings) -> "ResendPolicy":
    from rotoscope.store.money import ResendPolicy

    for_all = settings.network.max_usd_per_day_for_all
    return ResendPolicy(settings.resend_below_usd, settings.max_usd_per_day, for_all)


def _make_studio(
    settings: Settings,
    context: "JobContext",
    database: "Database",
    access: Access,
    roots: "Roots",
    tasks: anyio.abc.TaskGroup,
    closing: AsyncExitStack,
    driving: Driving,
) -> "Studio":
    from rotoscope.jobs.charges import ChargeReader
    from rotoscope.jobs.review import Review
    from rotoscope.store.charges import Charges
    from rotoscope.store.money import Caps
    from rotoscope.store.price_file import PriceFile
    from rotoscope.store.questions import Questions
    from rotoscope.store.quotes import Quotes
    from rotoscope.store.retention import Retention
    from rotoscope.store.uploads import UploadTickets
    from rotoscope.studio.links import JobLinks
    from rotoscope.studio.prices import PublishedPrices
    from rotoscope.studio.studio import Studio
    from rotoscope.studio.uploads import Uploads

    driver = restrict_driver(make_lease_holder(settings, context.catalog, access), driving)
    review = Review(context, database, driver)
    dispatcher = make_dispatcher(settings, context, database, review, tasks, driving)
    closing.push_async_callback(dispatcher.release_leases)
    links = JobLinks(context.ledger)
    prices = PublishedPrices(context, access, PriceFile(settings.home / "prices.json"), tasks)
    planner = cache(partial(_make_planner, context, access, roots, links, tasks, prices))
    tickets = UploadTickets(database, context.clock)
    return Studio(
        context,
        access,
        planner,
        links,
        dispatcher,
        review,
        Retention(database, context.vault, context.clock, settings.retention_days * _DAY),
        Quotes(database, context.clock, context.intervals.quote_life),
        Questions(database, context.clock, context.intervals.quote_life),
        # An engine chooses who drives a job; and who drives none is no starter that others should leave it to.
        driver.owner if dispatcher.drives and not has_engine(settings) else None,
        Caps(
            settings.max_usd_per_call,
            settings.max_usd_per_day,
            settings.unpriced,
            per_day_for_all=settings.network.max_usd_per_day_for_all,
        ),
        prices,
        ChargeReader(context, Charges(database, context.clock), access),
        Uploads(tickets, context.vault, lambda: planner().intake, context.clock),
    )


def _make_planner(
    context: "JobContext",
    access: Access,
    roots: "Roots",
    links: "JobLinks",
    tasks: anyio.abc.TaskGroup,
    prices: "PublishedPrices",
) -> "Planner":
    from rotoscope.media.intake import FilePreparer, Intake
    from rotoscope.providers.http.egress import check_url
    from rotoscope.studio.planning import PlanCache, Planner

    async def access_of(principal: str) -> Access:
        return await context.access_of(principal, access)

    intake = Intake(
        FilePreparer(context.vault, context.decoders),
        roots,
        context.wire.fetch,
        lambda url: check_url(url).url,
        links.find_input,
        links.can_read_artifact,
    )
    return Planner(context.catalog, access_of, intake, context.ledger, _draw_seed, PlanCache(tasks), prices)


def _keep_vault(vault: "Vault") -> "Vault":
    return vault


def _draw_seed() -> int:
    """A seed that cannot be guessed."""
    return random.SystemRandom().randint(0, _LARGEST_SEED)
