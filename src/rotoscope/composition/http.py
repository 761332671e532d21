"""The server that others reach, over HTTP."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rotoscope.composition.driving import Driving, has_engine
from rotoscope.composition.parts import find_media_origins, make_private_folder, make_vault
from rotoscope.composition.studio import make_studio_opener
from rotoscope.composition.uploads import make_upload_routes
from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import Settings
from rotoscope.signing import Signer

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.file_addresses import FileAddresses
    from rotoscope.media.paths import Roots
    from rotoscope.media.vault import Vault
    from rotoscope.providers.http.client import AsgiApp
    from rotoscope.server.app import StudioServer
    from rotoscope.server.http.addresses import AccessRules, ListenAddress
    from rotoscope.server.http.app import HttpApp
    from rotoscope.server.http.drain import Drain
    from rotoscope.server.http.limits import HttpLimits
    from rotoscope.server.http.metrics import Metrics
    from rotoscope.server.key_entry import KeyEntry
    from rotoscope.server.lazy_studio import OpenStudio
    from rotoscope.server.sign_in.contract import SignIn

__all__ = ["HttpServing", "build_http_server", "check_listening", "http_roots", "public_address", "read_signer"]

_DAY = 86_400.0  # seconds
_SECRET_BYTES = 32
_REQUEST_STATE = "request state"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class HttpServing:
    """The app and what runs it.

    Attributes:
        app: serves while its `running` is entered.
        drain: begun when the process is asked to end.
        limits: what is taken.
        url: the address at which clients reach it, without a slash at its end.
    """

    app: "HttpApp"
    drain: "Drain"
    limits: "HttpLimits"
    url: str


def check_listening(settings: Settings, address: "ListenAddress") -> None:
    """Refuse to be reached by others who need not sign in, or by a name that nobody set.

    Raises:
        InvalidInput: says which setting is missing.
    """
    public, sign_in = settings.network.public_url, settings.network.sign_in
    how = "Set ROTOSCOPE_SIGN_IN to tokens, issuer or people, or serve this machine alone: --http 127.0.0.1:8000."
    if sign_in == "none" and not address.is_loopback:
        raise InvalidInput(
            f"Whoever reaches {address.host} could spend your providers' money: ROTOSCOPE_SIGN_IN is none.", hint=how
        )
    if sign_in == "none" and public is not None and urlsplit(public).hostname not in _LOOPBACK:
        raise InvalidInput(
            f"Whoever reaches {public} could spend your providers' money: ROTOSCOPE_SIGN_IN is none.",
            hint=f"{how[:-1]} without ROTOSCOPE_PUBLIC_URL.",
        )
    if public is None and not address.is_loopback:
        raise InvalidInput(
            f"--http {address.host}:{address.port} is reached by a name that only you know.",
            hint="Set ROTOSCOPE_PUBLIC_URL to the address at which clients reach it, such as "
            "https://rotoscope.example.",
        )


def public_address(settings: Settings, bound: "ListenAddress") -> str:
    """The address at which clients reach the server, without a slash at its end."""
    return settings.network.public_url or bound.url


def http_roots(settings: Settings, start: Path) -> "Roots":
    """Where paths may lead over HTTP: nowhere, until the operator names folders of the server's machine."""
    from rotoscope.media.paths import Roots

    return Roots(settings.roots or (), start, is_remote=True)


def read_signer(settings: Settings) -> Signer:
    """What signs addresses and the state of questions: the operator's secrets, or one that is made once at home.

    Raises:
        InvalidInput: the home folder is not its owner's alone.
        StorageFailed: the secret can be neither read nor written.
    """
    if settings.network.secrets:
        return Signer(settings.network.secrets)
    make_private_folder(settings.home)
    file = settings.home / "secret"
    try:
        return Signer((_read_secret(file) or _make_secret(file),))
    except OSError as error:
        raise StorageFailed(
            f"The secret {file} can be neither read nor written.", hint="Set ROTOSCOPE_SECRETS, or correct its rights."
        ) from error


def _read_secret(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def _make_secret(file: Path) -> str:
    """Make the secret, unless another process does so at the same moment: then theirs is used."""
    made = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(secrets.token_urlsafe(_SECRET_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(made, file)  # a whole file, or none
    finally:
        made.unlink()
    return file.read_text(encoding="ascii").strip()


def build_http_server(
    settings: Settings,
    bound: "ListenAddress",
    start: Path,
    *,
    sign_in: "SignIn | None" = None,
    key_entry: "KeyEntry | None" = None,
    routes: Callable[["StudioServer"], "Sequence[BaseRoute]"] = lambda _: (),
    sandbox: "AsgiApp | None" = None,
    decoders: "DecodeRunner | None" = None,
    limits: "HttpLimits | None" = None,
    clock: Callable[[], float] = time.time,
    drives: bool = True,
) -> HttpServing:
    """The server that others reach.

    Args:
        settings: the operator's decisions.
        bound: where it listens, with the real port.
        start: the working directory.
        sign_in: how callers prove who they are; None: every request is the local principal's.
        key_entry: asks principals for provider keys of their own; None: the keys are the operator's.
        routes: what is served beside the MCP endpoint, made with the server.
        sandbox: an app that answers for the trusted hosts in place of the built-in sandbox.
        decoders: decodes media in place of worker processes.
        limits: what is taken.
        clock: the time in Unix seconds.
        drives: whether this process drives jobs as well; otherwise workers do.

    Raises:
        InvalidInput: a setting cannot be used.
        StorageFailed: there is no secret to sign with.
    """
    from rotoscope.media.file_addresses import FileAddresses
    from rotoscope.server.http.app import HttpParts, build_http_app
    from rotoscope.server.http.drain import Drain
    from rotoscope.server.http.limits import HttpLimits

    if sign_in is None and settings.network.sign_in != "none":
        raise InvalidInput(
            f"ROTOSCOPE_SIGN_IN={settings.network.sign_in} cannot be served here.", hint="Set it to none on loopback."
        )
    make_vault(settings)  # a store that no request could use is refused before anybody calls; nothing is sent to it
    url, drain, limits = public_address(settings, bound), Drain(), limits or HttpLimits()
    signer = read_signer(settings)
    addresses = FileAddresses(url, signer, clock)
    opener = make_studio_opener(
        settings,
        http_roots(settings, start),
        sandbox,
        decoders,
        wrap_vault=partial(_address_files, addresses),
        takes_webhooks=True,
        driving=Driving() if drives else Driving(most_jobs=0),
    )
    metrics = _make_metrics()
    server = _build_mcp_server(settings, opener, signer, sign_in, metrics, key_entry, url)
    drain.on_begin(server.lazy_studio.end_waits)
    drain.on_begin(server.end_streams)
    own = [*_file_and_health_routes(server, addresses, drain, limits), *_metrics_routes(settings, server, metrics)]
    own += [*make_upload_routes(server.lazy_studio, url), *_webhook_routes(settings, server, metrics)]
    rules = _access_rules(settings, bound, sign_in)
    meter = partial(_meter, metrics)
    app = build_http_app(
        HttpParts(
            server, rules, limits, drain, sign_in, [*own, *_key_routes(key_entry, sign_in), *routes(server)], meter
        )
    )
    return HttpServing(app, drain, limits, url)


def _key_routes(key_entry: "KeyEntry | None", sign_in: "SignIn | None") -> "list[BaseRoute]":
    """The page on which principals enter provider keys of their own."""
    if key_entry is None:
        return []
    from rotoscope.server.key_pages import key_routes

    return key_routes(key_entry, None if sign_in is None else sign_in.browser_principal)


def _webhook_routes(settings: Settings, server: "StudioServer", metrics: "Metrics | None") -> "list[BaseRoute]":
    """Where providers call when a run has ended: only a server that they can reach names it to them."""
    if settings.network.public_url is None:
        return []
    from rotoscope.composition.webhooks import make_webhook_routes

    return make_webhook_routes(server.lazy_studio.studio, None if metrics is None else metrics.count_webhook)


def _address_files(addresses: "FileAddresses", vault: "Vault") -> "Vault":
    from rotoscope.media.addressed_vault import AddressedVault

    return AddressedVault(vault, addresses)


def _access_rules(settings: Settings, bound: "ListenAddress", sign_in: "SignIn | None") -> "AccessRules":
    from rotoscope.media.file_addresses import FILES_PATH
    from rotoscope.server.http.addresses import build_access_rules
    from rotoscope.server.http.health import HEALTH_PATH, METRICS_PATH, READY_PATH

    return build_access_rules(
        bound,
        settings.network.public_url,
        settings.network.allowed_origins,
        open_paths=(FILES_PATH, *(sign_in.open_paths if sign_in is not None else ())),
        probe_paths=frozenset({HEALTH_PATH, READY_PATH, METRICS_PATH}),
    )


def _file_and_health_routes(
    server: "StudioServer", addresses: "FileAddresses", drain: "Drain", limits: "HttpLimits"
) -> "list[BaseRoute]":
    """Files and health, from the studio."""
    from rotoscope.server.http.files import FileServing, file_routes
    from rotoscope.server.http.health import Health, health_routes
    from rotoscope.studio.serving import check_storage, open_file

    @asynccontextmanager
    async def open_stored(sha256: str) -> AsyncIterator[Path | None]:
        async with open_file(await server.lazy_studio.studio(), sha256) as path:
            yield path

    async def check() -> None:
        await check_storage(await server.lazy_studio.studio())

    return [
        *file_routes(FileServing(addresses, open_stored, limits.downloads)),
        *health_routes(Health(drain, check)),
    ]


def _make_metrics() -> "Metrics | None":
    """The numbers of this process; None where the package that writes them is not installed."""
    try:
        from rotoscope.server.http.metrics import Metrics
    except ModuleNotFoundError:
        return None
    return Metrics()


def _meter(metrics: "Metrics | None", app: "ASGIApp") -> "ASGIApp":
    if metrics is None:
        return app
    from rotoscope.server.http.metrics import RequestMeter

    return RequestMeter(app, metrics)


def _metrics_routes(settings: Settings, server: "StudioServer", metrics: "Metrics | None") -> "list[BaseRoute]":
    if metrics is None:
        from rotoscope.server.http.health import missing_metrics_route

        return [missing_metrics_route()]
    from rotoscope.server.http.metrics import MetricsAccess, metrics_routes
    from rotoscope.studio.serving import Load, read_load

    async def read() -> Load:
        return await read_load(await server.lazy_studio.studio())

    network = settings.network
    return metrics_routes(metrics, MetricsAccess(network.metrics_token, network.public_url is not None), read)


def _build_mcp_server(
    settings: Settings,
    open_studio: "OpenStudio",
    signer: Signer,
    sign_in: "SignIn | None",
    metrics: "Metrics | None",
    key_entry: "KeyEntry | None",
    url: str,
) -> "StudioServer":
    from mcp.server.request_state import RequestStateSecurity

    from rotoscope.server.app import REMOTE_INSTRUCTIONS, build_server, principal_of
    from rotoscope.server.clients.profiles import read_client_profiles
    from rotoscope.store.sqlite_probe import has_open_jobs

    return build_server(
        open_studio,
        read_client_profiles(manifest_folder() / "clients.toml"),
        settings.inline_seconds,
        ask_above_usd=settings.ask_above_usd,
        # With an engine a server takes part in the driving from its start, whoever has opened the jobs.
        has_open_jobs=(lambda: True) if has_engine(settings) else partial(has_open_jobs, settings.database),
        retention_seconds=settings.retention_days * _DAY,
        uploads_url=url,
        media_origins=find_media_origins(settings),
        find_principal=principal_of if sign_in is None else sign_in.principal_of,
        key_entry=key_entry,
        instructions=REMOTE_INSTRUCTIONS,
        middleware=() if metrics is None else (metrics.observe_call,),
        request_state=RequestStateSecurity(keys=signer.keys(_REQUEST_STATE)),
    )
