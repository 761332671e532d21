"""The parts that the studio is built from, each made from the settings."""

import logging
import os
import secrets
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from rotoscope import __version__
from rotoscope.composition.driving import bind_queue
from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import provider_variables
from rotoscope.models.catalog import Access, Catalog, load_catalog, manifest_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.jobs.tracing import JobTracer
    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.vault import Vault
    from rotoscope.providers.dialects import Dialect
    from rotoscope.providers.http.client import AsgiApp, ReplyTimeouts, Wire
    from rotoscope.providers.http.proxies import ProxySettings
    from rotoscope.sandbox_process import SandboxProcess
    from rotoscope.store.database import Database
    from rotoscope.store.leases import JobDriver

__all__ = [
    "add_kept_keys",
    "find_media_origins",
    "load_catalog_and_warn",
    "load_user_catalog",
    "make_database",
    "make_decoders",
    "make_dialects",
    "make_lease_holder",
    "make_private_folder",
    "make_tracer",
    "make_vault",
    "make_wire",
    "open_reading_wire",
    "read_proxies",
    "start_sandbox_app",
]

_COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_log = logging.getLogger(__name__)


def load_user_catalog(settings: Settings) -> Catalog:
    """The shipped manifests and the user's own, in `ROTOSCOPE_HOME/models`."""
    return load_catalog(manifest_folder(), settings.home / "models")


def add_kept_keys(settings: Settings, catalog: Catalog) -> Settings:
    """The settings with the provider keys that are kept in the key store or at home and not set in the environment.

    It may take as long as a person needs to unlock the key store, within a bound.

    Raises:
        RotoscopeError: keys are kept and cannot be read; nobody gets a sandbox result in place of a model's.
    """
    from rotoscope.stored_keys import add_stored_keys

    wanted = {name for provider in catalog.providers.values() for name in provider_variables(provider)}
    return add_stored_keys(settings, wanted)


def make_tracer(settings: Settings, closing: AsyncExitStack) -> "JobTracer":
    """What takes the traces of jobs: an OpenTelemetry collector, where one is named by its usual variables."""
    from rotoscope.jobs.tracing import NoTracer, OpenTelemetryTracer, make_tracer_provider

    if not any(settings.variable(name) for name in _COLLECTOR_VARIABLES):
        return NoTracer()
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise InvalidInput(
            "A collector of traces is configured, and the packages that speak to it are not installed.",
            hint="Run pip install 'rotoscope[server]', or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from None
    # The exporter reads the variables of its own standard (endpoint, headers, certificates) itself.
    provider = make_tracer_provider(BatchSpanProcessor(OTLPSpanExporter()), __version__)
    closing.push_async_callback(anyio.to_thread.run_sync, provider.shutdown)
    trace.set_tracer_provider(provider)  # the SDK's own spans of requests go there too
    return OpenTelemetryTracer(provider)


def make_decoders(settings: Settings, closing: AsyncExitStack) -> "DecodeRunner":
    from rotoscope.media.decoders import DecoderPool

    decoders = DecoderPool(settings.variables)
    closing.push_async_callback(decoders.aclose)
    return decoders


def load_catalog_and_warn(settings: Settings) -> Catalog:
    catalog = load_user_catalog(settings)
    for problem in catalog.problems:
        _log.warning("a manifest was left out: %s", problem)
    return catalog


def make_dialects(catalog: Catalog, access: Access) -> "dict[str, Dialect]":
    from rotoscope.providers.dialects import make_dialect

    # The sandbox has its own paths, whatever a gateway's are.
    versions = {name: None if access.sandbox else one.version_path for name, one in catalog.providers.items()}
    return {
        name: make_dialect(one.dialect, access.base_urls[name], version_path=versions[name])
        for name, one in catalog.providers.items()
    }


def make_vault(settings: Settings) -> "Vault":
    """The vault that keeps results: a folder in the home, or the object store that the operator has named.

    Raises:
        InvalidInput: the store cannot be used with these settings; the message names the variable.
    """
    from rotoscope.media.vault import FolderVault

    network = settings.network
    if network.store_url is None:
        return FolderVault(settings.home / "vault")
    from rotoscope.media.object_vault import ObjectVault
    from rotoscope.media.store_client import QUICK, connect_store
    from rotoscope.media.store_place import read_store_place

    place = read_store_place(network.store_url, settings.variable, network.store_public_url)
    return ObjectVault(connect_store(place), connect_store(place, QUICK), settings.home / "objects")


def find_media_origins(settings: Settings) -> tuple[str, ...]:
    """The origins, beside ours, at which files of results open: that of the object store that signs its addresses.

    Raises:
        InvalidInput: the store cannot be used with these settings; the message names the variable.
    """
    network = settings.network
    if network.store_url is None:
        return ()
    from rotoscope.media.store_place import read_store_place

    origin = read_store_place(network.store_url, settings.variable, network.store_public_url).media_origin
    return () if origin is None else (origin,)


def make_database(settings: Settings, vault: "Vault") -> "Database":
    from rotoscope.store.database import Database
    from rotoscope.store.sqlite import database_file
    from rotoscope.store.vault_mark import VaultBinding

    file = database_file(settings.database)
    at_home = vault.is_local and file is not None and file.parent.resolve() == settings.home.resolve()
    return Database(settings.database, binding=bind_queue(settings, VaultBinding(vault, at_home)))


def make_lease_holder(settings: Settings, catalog: Catalog, access: Access) -> "JobDriver":
    from rotoscope.store.leases import JobDriver
    from rotoscope.store.openings import SANDBOX_KEY
    from rotoscope.store.run_limits import RunLimits

    held = access.keys if access.own_for is None else access.own_for
    usual = settings.at_once.get("")
    limits = {name: settings.at_once.get(name, usual or one.at_once) for name, one in catalog.providers.items()}
    return JobDriver(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        # A job of a ledger that an older version has written names its provider alone.
        keys=frozenset({SANDBOX_KEY} if access.sandbox else {*access.keys, *map(access.driver_key, held)}),
        accounts=frozenset(map(access.account_fingerprint, access.keys)),
        uses_own_keys=access.own_for is not None,
        models=frozenset(catalog.models),
        limits=RunLimits(
            {name: limit for name, limit in limits.items() if limit is not None},
            settings.network.at_once_per_principal,
        ),
    )


def read_proxies(settings: Settings) -> "ProxySettings":
    from rotoscope.providers.http.proxies import read_proxy_settings

    # Some hosts pass `$NAME` for what was never set.
    return read_proxy_settings({name: settings.variable(name) or "" for name in settings.variables})


def make_wire(
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
            access.keys.get(name, ""),
            provider.output_hosts,
            provider.upload_hosts,
            frozenset(map(origin_of, access.base_urls[name].values())),
            access.own_hosts.get(name, frozenset()),
            access.headers.get(name, {}),
            access.secrets.get(name, ()),
        )
        for name, provider in catalog.providers.items()
        if name in access.keys or name in (access.own_for or ())
    }
    return Wire(accesses, access.trusted_hosts, sandbox, timeouts=times, proxies=proxies)


def open_reading_wire(settings: Settings, catalog: Catalog, access: Access, closing: AsyncExitStack) -> "Wire":
    """A wire to the providers' own hosts, to read what they publish; one without a key is spoken to without."""
    anyone = replace(access, keys={**dict.fromkeys(catalog.providers, ""), **access.keys})
    wire = make_wire(catalog, anyone, None, None, read_proxies(settings))
    closing.push_async_callback(wire.aclose)
    return wire


def start_sandbox_app(
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
