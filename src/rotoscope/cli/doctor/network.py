"""The facts that others must be asked for: one free request to each provider, and one to the object store.

A provider whose key is set is asked with it; where none is set they are asked without, which shows whether they can be
reached. Every request goes out as the others do: through the environment's proxy, by the one client, with its rules.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

import anyio

from rotoscope.composition.parts import make_dialects, make_wire
from rotoscope.contracts.characters import one_line, visible_text
from rotoscope.errors import InvalidInput, RotoscopeError, Unreachable
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import Access, Catalog
from rotoscope.models.provider import Provider
from rotoscope.providers.dialects import Dialect
from rotoscope.providers.dialects.failures import is_out_of_credit
from rotoscope.providers.dialects.provider_text import reply_message
from rotoscope.providers.http.client import ReplyTimeouts, Wire
from rotoscope.providers.http.messages import HttpCall, Reply, http_date
from rotoscope.providers.http.proxies import ProxySettings
from rotoscope.providers.states import Call, Waiting
from rotoscope.settings import Settings

__all__ = [
    "NetworkFacts",
    "ProviderFacts",
    "Question",
    "StoreFacts",
    "describe_proxies",
    "gather_network",
    "gather_store",
]

_REPLY_SECONDS = 5.0  # for a reply
_PROVIDER_SECONDS = 8.0  # for one provider, with its name, its connection and its reply
_NO_RUN = "rotoscope-doctor"  # the id of a run that nobody has
_MAX_WORDS = 200  # characters of a provider's words

Question = Literal["not asked", "list", "run", "reach"]
"""What a provider was asked: for the list of its runs or for a run that is not there, both with the key; or without."""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What one provider answered.

    Attributes:
        name, title: as in `providers.toml`.
        variable: what its key is set by.
        host: where it was asked.
        has_key: whether its key is set.
        missing: the variables without which its key is of no use.
        unexpanded: the variables of its key that hold a name in place of a value, as `${NAME}`.
        question: what it was asked.
        status: of the reply; None without one.
        words: the provider's own, where it refused; without any key.
        is_out_of_credit: whether these say that its account has no money.
        location: the host that a redirect named; it was not followed.
        failure: why there is no reply.
        clock_skew: the provider's clock minus ours in seconds; None where its reply names no time.
    """

    name: str
    title: str
    variable: str
    host: str
    has_key: bool = False
    missing: tuple[str, ...] = ()
    unexpanded: tuple[str, ...] = ()
    question: Question = "not asked"
    status: int | None = None
    words: str = ""
    is_out_of_credit: bool = False
    location: str = ""
    failure: str = ""
    clock_skew: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What is known of the providers.

    Attributes:
        providers: each of them.
        sandbox: `built-in` or the URL of the one that serves all providers; empty where none does.
        uses_own_keys: each principal has keys of its own.
        faults: variables that cannot be used, each in a sentence with what to do.
        is_offline: nobody was asked, because that was not wanted.
    """

    providers: tuple[ProviderFacts, ...]
    sandbox: str = ""
    uses_own_keys: bool = False
    faults: tuple[tuple[str, str], ...] = ()
    is_offline: bool = False


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Whether the object store can be used: its address, and why not, with what to do."""

    url: str
    fault: str = ""
    hint: str = ""


def gather_network(
    settings: Settings,
    catalog: Catalog,
    proxies: ProxySettings | None,
    clock: Callable[[], float] = time.time,
    *,
    offline: bool = False,
    reply_seconds: float = _REPLY_SECONDS,
) -> NetworkFacts:
    """Ask every provider that is to be asked, all at once. It blocks for some seconds at most.

    Args:
        settings: the operator's decisions.
        catalog: the providers, and models to name in the request.
        proxies: of the environment; None where they cannot be used, so that nobody is asked.
        clock: Unix seconds.
        offline: ask nobody.
        reply_seconds: how long a reply is waited for; names and connections have their own times.
    """
    known = {name: _describe_provider(name, one, settings) for name, one in catalog.providers.items()}
    try:
        access = resolve_access(settings, catalog.providers)
        real = resolve_access(replace(settings, sandbox="never"), catalog.providers)
    except InvalidInput as error:
        return NetworkFacts(tuple(known.values()), faults=((error.message, error.hint),), is_offline=offline)
    serving = "built-in" if access.is_built_in else settings.sandbox if access.sandbox else ""
    facts = NetworkFacts(tuple(known.values()), serving, settings.network.key_owner == "principal", (), offline)
    if offline or proxies is None:
        return facts
    used = access if serving not in ("", "built-in") else real
    wanted = _choose_asked(known, access, settings.sandbox)
    wire = make_wire(catalog, _with_empty_keys(used, wanted), None, ReplyTimeouts(ask=reply_seconds), proxies)
    asked = anyio.run(_ask_all, wire, catalog, used, {name: known[name] for name in wanted}, wanted, clock)
    return replace(facts, providers=tuple({**known, **asked}.values()))


def _describe_provider(name: str, provider: Provider, settings: Settings) -> ProviderFacts:
    variables = [variable for one in provider.key_variables for variable in one.split("+")]
    more = [header.variable for header in provider.headers.values() if header.variable]
    more += [provider.base_variable] if provider.base_required else []
    given = next((one for one in provider.key_variables if all(map(settings.variable, one.split("+")))), None)
    return ProviderFacts(
        name,
        provider.title,
        given or provider.key_variables[0],
        urlsplit(settings.variable(provider.base_variable) or provider.bases["api"]).netloc.rpartition("@")[2],
        has_key=given is not None,
        missing=tuple(one for one in more if settings.variable(one) is None),
        unexpanded=tuple(
            one for one in variables if settings.variables.get(one, "").strip() and settings.variable(one) is None
        ),
    )


def _choose_asked(known: Mapping[str, ProviderFacts], access: Access, sandbox: str) -> dict[str, bool]:
    """Which providers are asked, and whether with their key."""
    if access.sandbox and not access.is_built_in:
        return {next(name for name in known if name in access.keys): True}  # one sandbox stands for all of them
    if sandbox == "always":
        return {}
    usable = [name for name in known if name in access.keys] if not access.sandbox else []
    return dict.fromkeys(usable, True) or {name: False for name, one in known.items() if not one.missing}


def _with_empty_keys(access: Access, names: Iterable[str]) -> Access:
    """The same, with an empty key where there is none: such a one is asked without."""
    return replace(access, keys={**dict.fromkeys(names, ""), **access.keys})


async def _ask_all(
    wire: Wire,
    catalog: Catalog,
    access: Access,
    known: Mapping[str, ProviderFacts],
    with_key: Mapping[str, bool],
    clock: Callable[[], float],
) -> dict[str, ProviderFacts]:
    found: dict[str, ProviderFacts] = {}
    dialects = make_dialects(catalog, access)

    async def ask_one(name: str) -> None:
        call, question = _make_call(catalog, dialects[name], name, clock(), with_key=with_key[name])
        facts = replace(known[name], question=question)
        found[name] = facts if call is None else await _ask(wire, name, call, facts, clock)

    async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
        closing.push_async_callback(wire.aclose)
        for name in with_key:
            tasks.start_soon(ask_one, name)
    return found


def _make_call(
    catalog: Catalog, dialect: Dialect, name: str, now: float, *, with_key: bool
) -> tuple[HttpCall | None, Question]:
    """A free request, and what it asks: a list where the provider has one, else a run that is not there."""
    routes = [route for model in catalog.models.values() for route in model.routes if route.provider == name]
    if not routes:
        return None, "not asked"
    form = catalog.providers[name].form_of(routes[0].form)
    call = Call(name, min(routes[0].endpoints), {}, routes[0].version, form)
    asking = dialect.list_recent(call, now) if catalog.providers[name].can_list else None
    question: Question = "run" if asking is None else "list"
    if asking is None:
        asking = dialect.ask(Waiting(dialect.ticket(replace(call, form="v2"), _NO_RUN)))
    return replace(asking, with_key=with_key), question if with_key else "reach"


async def _ask(
    wire: Wire, name: str, call: HttpCall, facts: ProviderFacts, clock: Callable[[], float]
) -> ProviderFacts:
    facts = replace(facts, host=urlsplit(call.url).netloc)
    with anyio.move_on_after(_PROVIDER_SECONDS):
        try:
            reply = await wire.send(name, call)
        except Unreachable:
            return replace(facts, failure="It could not be reached.")
        except RotoscopeError as error:
            return replace(facts, failure=error.message)
        return _read_reply(facts, reply, clock())
    return replace(facts, failure=f"It did not answer within {_PROVIDER_SECONDS:g} seconds.")


def _read_reply(facts: ProviderFacts, reply: Reply, now: float) -> ProviderFacts:
    at = http_date(reply.headers.get("date", ""))
    words = "" if reply.is_success else one_line(visible_text(reply_message(reply) or ""), _MAX_WORDS)
    return replace(
        facts,
        status=reply.status,
        words=words,
        is_out_of_credit=not reply.is_success and is_out_of_credit(words),
        location=urlsplit(reply.headers.get("location", "")).netloc.rpartition("@")[2],
        clock_skew=None if at is None else at.timestamp() - now,
    )


def describe_proxies(proxies: ProxySettings) -> tuple[str, ...]:
    """The proxies by scheme, without user and password: `https through http://proxy.example:3128`."""
    found = {}
    for scheme, url in proxies.proxies.items():
        parts = urlsplit(url)
        address = re.sub(r"^.*@", "", parts.netloc)
        found[scheme] = f"{scheme} through {parts.scheme}://{address}"
    return tuple(found.values())


def gather_store(settings: Settings) -> StoreFacts | None:
    """Whether the object store answers and lets us list; None where results are kept in the home folder. It blocks."""
    network = settings.network
    if network.store_url is None:
        return None
    from rotoscope.media.store_client import StorePatience, connect_store
    from rotoscope.media.store_place import read_store_place

    try:
        place = read_store_place(network.store_url, settings.variable, network.store_public_url)
        client = connect_store(place, StorePatience(connect=3.0, request=5.0, retries=0, retrying=1.0))
        next(client.list_objects("id"), ())
    except RotoscopeError as error:
        return StoreFacts(network.store_url, error.message, error.hint)
    return StoreFacts(network.store_url)
