"""Gathers all facts at once and has them checked: the findings of the whole command, in the order they are shown."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rotoscope.cli.clients.entries import is_program
from rotoscope.cli.doctor.bounded import BoundedWork, Unknown
from rotoscope.cli.doctor.client_checks import CommandFacts, check_clients
from rotoscope.cli.doctor.clients import FoundClient, find_clients
from rotoscope.cli.doctor.machine import (
    RefusedSetting,
    gather_home,
    gather_installation,
    gather_settings,
    read_usable_settings,
)
from rotoscope.cli.doctor.machine_checks import (
    check_codecs,
    check_home,
    check_installation,
    check_settings,
)
from rotoscope.cli.doctor.network import NetworkFacts, StoreFacts, describe_proxies, gather_network, gather_store
from rotoscope.cli.doctor.network_checks import (
    check_ledger,
    check_manifests,
    check_network,
    check_proxies,
    check_store,
)
from rotoscope.cli.doctor.records import GROUPS, Finding, Group, problem, warning
from rotoscope.cli.install.launch import read_installation
from rotoscope.composition.parts import add_kept_keys, load_user_catalog, read_proxies
from rotoscope.composition.stdio import stdio_roots
from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.models.catalog import Catalog
from rotoscope.providers.http.proxies import ProxySettings
from rotoscope.settings import Settings
from rotoscope.store.health import LedgerHealth

__all__ = ["Examination", "examine"]

_ALL_SECONDS = 13.0  # for everything together
_PAGE_CHECK_SECONDS = 3.0  # for the ledger's pages
_KEY_STORE_SECONDS = 4.0  # for the keys that are kept
_JUDGE_SECONDS = 1.0  # for what facts mean, which is no work
Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True)
class Examination:
    """What is looked at, and by which clocks.

    Attributes:
        environ: the environment.
        start, home: the working directory, and the user's home directory if there is one.
        offline: ask nobody.
        platform: as `sys.platform` has it.
        clock: Unix seconds.
        monotonic: seconds that always go on.
        seconds: after which what is not found out is given up.
    """

    environ: Mapping[str, str] = field(repr=False)
    start: Path
    home: Path | None
    offline: bool = False
    platform: str = sys.platform
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    seconds: float = _ALL_SECONDS


def examine(asked: Examination) -> tuple[Finding, ...]:
    """Everything that the checks found, by groups.

    Raises:
        InvalidInput: there is neither a home folder nor a working directory.
    """
    settings, refused = read_usable_settings(asked.environ)
    findings = list(_examine(asked, settings, refused))
    order = list(GROUPS)
    return tuple(sorted(findings, key=lambda one: order.index(one.group)))  # stable: in a group as they were found


def _examine(asked: Examination, settings: Settings, refused: tuple[RefusedSetting, ...]) -> Iterator[Finding]:
    roots = stdio_roots(settings, asked.start, asked.home).folders
    installation = BoundedWork(lambda: gather_installation(settings.variables, asked.platform))
    understood = BoundedWork(lambda: gather_settings(asked.environ, settings, refused, roots))
    home = BoundedWork(lambda: gather_home(settings))
    ledger = BoundedWork(lambda: _look_at_ledger(asked, settings))
    outside = BoundedWork(lambda: _ask_others(asked, settings))
    codecs = BoundedWork(lambda: _try_codecs(settings))
    clients = BoundedWork(lambda: _look_at_clients(asked))

    seconds = asked.seconds
    yield from _judge("installation", "installation", installation.wait(seconds), check_installation)
    yield from _judge("settings", "settings", understood.wait(seconds), check_settings)
    others = outside.wait(seconds)
    serves = isinstance(others, Unknown) or bool(others.network.sandbox)
    yield from _judge("home", "home", home.wait(seconds), lambda facts: check_home(facts, sandbox_serves=serves))
    yield from _judge("ledger", "ledger", ledger.wait(seconds), check_ledger)
    yield from _judge("providers", "providers", others, lambda facts: _check_others(facts, offline=asked.offline))
    yield from _judge("media", "codecs", codecs.wait(seconds), check_codecs)
    yield from _judge("clients", "clients", clients.wait(seconds), lambda facts: check_clients(*facts))


def _judge(
    group: Group, name: str, facts: Facts | Unknown, check: Callable[[Facts], Iterator[Finding]]
) -> Iterator[Finding]:
    """What facts mean; or that there are none, which is no proof of anything."""
    found: tuple[Finding, ...] | Unknown
    found = facts if isinstance(facts, Unknown) else BoundedWork(lambda: tuple(check(facts))).wait(_JUDGE_SECONDS)
    if not isinstance(found, Unknown):
        yield from found
    elif found.is_fault:
        yield problem(
            group, name, f"This could not be found out: {found.why}.", "Report this as a defect of rotoscope."
        )
    else:
        yield warning(group, name, f"This could not be found out: {found.why}.", "Look whether a disk or a host hangs.")


@dataclass(frozen=True, slots=True)
class _OutsideFacts:
    catalog: Catalog
    proxies: tuple[str, ...]
    proxy_fault: tuple[str, str] | None
    keys_fault: tuple[str, str] | None
    network: NetworkFacts
    store: StoreFacts | None


def _ask_others(asked: Examination, settings: Settings) -> _OutsideFacts:
    catalog, proxies, fault = load_user_catalog(settings), None, None
    try:
        proxies = read_proxies(settings)
    except InvalidInput as error:
        fault = (error.message, error.hint)
    named = BoundedWork(lambda: _look_at_store(settings, offline=asked.offline))
    keys = _read_kept_keys(settings, catalog)
    network = gather_network(keys.settings, catalog, proxies, asked.clock, offline=asked.offline)
    store = named.wait(asked.seconds / 2)
    if isinstance(store, Unknown):
        store = StoreFacts(settings.network.store_url or "", f"The object store was not reached: {store.why}.")
    return _OutsideFacts(catalog, describe_proxies(proxies or ProxySettings()), fault, keys.fault, network, store)


@dataclass(frozen=True, slots=True)
class _KeptKeys:
    """The settings with the keys that are kept; `fault` says why they could not be read, and what to do."""

    settings: Settings
    fault: tuple[str, str] | None = None


def _read_kept_keys(settings: Settings, catalog: Catalog) -> _KeptKeys:
    """A key store may wait for a person to unlock it: it is not waited for as long as a server would."""

    def read() -> _KeptKeys:
        try:
            return _KeptKeys(add_kept_keys(settings, catalog))
        except RotoscopeError as error:
            return _KeptKeys(settings, (error.message, error.hint))

    found = BoundedWork(read).wait(_KEY_STORE_SECONDS)
    if not isinstance(found, Unknown):
        return found
    return _KeptKeys(settings, (f"The kept keys could not be read: {found.why}.", "Unlock the key store."))


def _look_at_store(settings: Settings, *, offline: bool) -> StoreFacts | None:
    if offline and settings.network.store_url is not None:
        return StoreFacts(settings.network.store_url)
    return gather_store(settings)


def _check_others(facts: _OutsideFacts, *, offline: bool) -> Iterator[Finding]:
    yield from check_manifests(facts.catalog.problems, len(facts.catalog.models))
    yield from check_proxies(facts.proxies, facts.proxy_fault)
    if facts.keys_fault is not None:
        yield problem("providers", "kept_keys", *facts.keys_fault)
    yield from check_network(facts.network)
    yield from check_store(facts.store, is_offline=offline)


def _look_at_ledger(asked: Examination, settings: Settings) -> LedgerHealth:
    if isinstance(settings.database, Path) or settings.database.startswith("sqlite"):
        from rotoscope.store.sqlite_health import read_sqlite_health

        return read_sqlite_health(settings.database, _PAGE_CHECK_SECONDS, asked.clock, asked.monotonic)
    try:
        from rotoscope.store.postgresql_health import read_postgresql_health
    except ImportError:
        return LedgerHealth(
            "", "PostgreSQL", fault="The ledger is in PostgreSQL, and the driver for that is not installed.",
            hint="Run pip install 'rotoscope[server]'.",
        )  # fmt: skip
    return read_postgresql_health(settings.database, asked.clock)


def _try_codecs(settings: Settings) -> dict[str, str]:
    import anyio

    from rotoscope.media.codec_trial import CODECS, try_codecs
    from rotoscope.media.decoders import RESULT_FILM, DecoderPool

    async def try_in_worker() -> dict[str, str]:
        pool = DecoderPool(settings.variables)
        try:
            return await pool.run(try_codecs, limits=RESULT_FILM)
        except RotoscopeError as error:
            return dict.fromkeys(CODECS, error.message)
        finally:
            await pool.aclose()

    return anyio.run(try_in_worker)


def _look_at_clients(asked: Examination) -> tuple[tuple[FoundClient, ...], CommandFacts]:
    found = find_clients(asked.platform, asked.home, asked.environ) if asked.home is not None else ()
    commands = {entry.command for client in found for entry in client.entries if entry.command}
    path = asked.environ.get("PATH")
    missing = {one for one in commands if shutil.which(Path(one).expanduser(), path=path) is None}
    own = _own_folders(asked.environ)
    elsewhere = {one for one in commands - missing if own and not _is_in(one, own)}
    return found, CommandFacts(frozenset(missing), frozenset(elsewhere))


def _own_folders(environ: Mapping[str, str]) -> frozenset[Path]:
    """Where the commands of this installation are; nothing where it is a copy that comes and goes."""
    try:
        installation = read_installation(environ)
    except InvalidInput:
        return frozenset()
    folders = installation.script_folders
    return frozenset() if installation.is_cached else frozenset(folder.resolve() for folder in folders)


def _is_in(command: str, folders: frozenset[Path]) -> bool:
    """Whether a command is one of an installation; a runner such as uvx belongs to every one."""
    path = Path(command).expanduser()
    if not path.is_absolute():
        return True
    if is_program(command):
        return path.resolve().parent in folders
    # An environment's interpreter is a link to another one: the folder that the link is in says whose it is.
    return not path.name.lower().startswith("python") or path.parent.resolve() in folders
