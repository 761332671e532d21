"""Which providers can be used: those whose key is set, at which base URL, or all of them in the sandbox."""

import re
import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from rotoscope.errors import InvalidInput, MissingKey
from rotoscope.models.catalog import Access
from rotoscope.models.provider import Provider
from rotoscope.providers.http.messages import strip_version
from rotoscope.settings import Settings

__all__ = ["SANDBOX_URL", "check_own_key", "explain_missing_key", "provider_variables", "resolve_access"]

_MAX_KEY_CHARS = 1024

_BASE_URL = re.compile(r"https?://[^/?#@\\]+(?:/[!-~]*)?", re.ASCII | re.IGNORECASE)

SANDBOX_URL = "https://sandbox.invalid"
"""The base URL of the built-in sandbox. RFC 6761 reserves `.invalid`: no name server resolves it."""


def resolve_access(settings: Settings, providers: Mapping[str, Provider]) -> Access:
    """The providers that can be used with these settings.

    With `ROTOSCOPE_SANDBOX=auto` the sandbox serves all providers while no key is set, and none once one is: a user
    with a key never gets a sandbox result by surprise. Where each principal has keys of its own it serves none either,
    and the operator's own keys are not used.

    Raises:
        InvalidInput: a variable holds no key, or no base URL; the message names the variable.
    """
    takes_own = settings.network.key_owner == "principal"
    given = {} if takes_own else _operator_keys(settings, providers)
    secrets = {name: _header_secrets(settings, provider) for name, provider in providers.items()}
    if settings.sandbox == "always" or (settings.sandbox == "auto" and not given and not takes_own):
        return _sandbox_access(SANDBOX_URL, providers, built_in=True)
    if settings.sandbox.startswith("http"):
        return _sandbox_access(settings.sandbox, providers, built_in=False)
    bases = {name: _base_urls_of(settings, provider) for name, provider in providers.items()}
    reachable = {
        name for name, one in providers.items() if _has_required_base(settings, one) and all(secrets[name].values())
    }
    own = {
        name: frozenset({urlsplit(bases[name]["api"]).netloc.lower()})
        for name, provider in providers.items()
        if settings.variable(provider.base_variable) is not None and bases[name] != provider.bases
    }
    return Access(
        sandbox=False,
        is_built_in=False,
        base_urls=bases,
        trusted_hosts=frozenset(),
        keys={name: key for name, key in given.items() if name in reachable},
        own_hosts=own,
        headers={name: _header_values(providers[name], secrets[name]) for name in reachable},
        secrets={name: tuple(secrets[name].values()) for name in reachable},
        own_for=frozenset(reachable) if takes_own else None,
    )


def check_own_key(provider: str, key: str) -> str:
    """A key as a principal has given it, without blanks around it.

    Raises:
        InvalidInput: no key looks like that; the message does not repeat it.
    """
    found = key.strip()
    if not found or len(found) > _MAX_KEY_CHARS or not _is_possible_key(found):
        raise InvalidInput(
            f"That is no key of {provider}: it is empty, too long, or has characters that no key has.",
            hint="Copy it again from the provider's page.",
        )
    return found


def provider_variables(provider: Provider) -> tuple[str, ...]:
    """The variables that a provider's keys and its base URL are read from; its first key's come first."""
    keys = [part for name in provider.key_variables for part in name.split("+")]
    headers = [one.variable for one in provider.headers.values() if one.variable]
    return tuple(dict.fromkeys([*keys, *headers, provider.base_variable]))


def explain_missing_key(
    error: MissingKey, providers: Mapping[str, Provider], access: Access, principal: str
) -> MissingKey:
    """The same error for a principal who may give a key of its own; as it is where the keys are the operator's.

    Args:
        error: names the providers of which a key would do.
        providers: what is known of each.
        access: what the principal can use.
        principal: who has given no key for any of them.
    """
    if access.own_for is None:
        return error
    wanted = tuple(name for name in error.providers if name in access.own_for)
    if not wanted:
        return MissingKey(
            "No provider that offers this can be reached from this server.", hint="Name another model, or none."
        )
    titles = " or ".join(providers[name].title for name in wanted)
    return MissingKey(
        f"This runs with a key of your own for {titles}, and there is none of yours here.",
        hint="Ask the operator to enter it: "
        + " or ".join(f"rotoscope keys set {name} --principal {shlex.quote(principal)}" for name in wanted)
        + ". It is never given as an argument of a tool.",
        providers=wanted,
    )


def _operator_keys(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, str]:
    return {name: key for name, provider in providers.items() if (key := _provider_key(settings, provider))}


def _is_possible_key(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def _provider_key(settings: Settings, provider: Provider) -> str | None:
    for name in provider.key_variables:
        if key := _check_key(name, _key_from_variables(settings, name)):
            return key
    return None


def _header_secrets(settings: Settings, provider: Provider) -> dict[str, str]:
    """The secrets of a provider's more headers, by the header's name; empty where the variable is not set."""
    variables = {name: one.variable for name, one in provider.headers.items() if one.variable}
    return {name: _check_key(one, settings.variable(one)) or "" for name, one in variables.items()}


def _header_values(provider: Provider, secrets: Mapping[str, str]) -> dict[str, str]:
    return {name: one.value or f"{one.prefix}{secrets[name]}" for name, one in provider.headers.items()}


def _check_key(variable: str, key: str | None) -> str | None:
    """The key that a variable holds.

    Raises:
        InvalidInput: it holds characters that no header takes; the message names the variable alone.
    """
    if key and not _is_possible_key(key):
        raise InvalidInput(f"{variable} holds characters that no key has.", hint=f"Set {variable} again.")
    return key


def _key_from_variables(settings: Settings, name: str) -> str | None:
    """The value of a variable; of several, joined by `+` in its name, their values joined by colons if all are set."""
    parts = [settings.variable(one) for one in name.split("+")]
    return ":".join(part for part in parts if part) if all(parts) else None


def _has_required_base(settings: Settings, provider: Provider) -> bool:
    return not provider.base_required or settings.variable(provider.base_variable) is not None


def _base_urls_of(settings: Settings, provider: Provider) -> Mapping[str, str]:
    """The base URLs of a provider, by purpose, as the operator has set them.

    A base URL on another host replaces all of the provider's: a gateway or a sandbox has one host. One on the
    provider's own host changes nothing, and its other hosts (uploads, history) stay: clients and guides set
    `https://api.segmind.com/v1`, the official client's own value. Clients of Replicate disagree on whether the base
    includes `/v1`; here it does not, unless the provider's record says where it stands (`version_path`). A provider
    whose base has a path is a gateway: another path on its host is another account, so there the whole URL counts.
    """
    own = settings.variable(provider.base_variable)
    if own is None:
        return provider.bases
    if not _BASE_URL.fullmatch(own) or not _is_base_url(own):
        raise InvalidInput(
            f"{provider.base_variable} is no address such as https://host or http://127.0.0.1:8080/path.",
            hint=f"Correct or unset {provider.base_variable}.",
        )
    base = own.rstrip("/")
    if provider.version_path is None:
        base = base.removesuffix("/v1")
    at = _host_and_port(base)
    has_path = bool(urlsplit(provider.bases["api"]).path.strip("/"))
    if at is not None and not has_path and at in map(_host_and_port, provider.bases.values()):
        return provider.bases
    return dict.fromkeys(provider.bases, base)


def _is_base_url(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False


def _host_and_port(url: str) -> tuple[str, int | None] | None:
    """Host and port of a base URL in one form, the default port as None; None for what is no base URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").removesuffix(".")
    if not host or parts.username is not None:
        return None
    return host, None if port == _DEFAULT_PORTS.get(parts.scheme) else port


_DEFAULT_PORTS = {"https": 443, "http": 80}
_GATEWAY_PATH = "/replicate"  # where the sandbox answers as a reseller does; it knows no other path of a provider


def _sandbox_access(url: str, providers: Mapping[str, Provider], *, built_in: bool) -> Access:
    from rotoscope.providers.dialects import DIALECTS

    def sandbox_urls(provider: Provider) -> dict[str, str]:
        path = urlsplit(strip_version(provider.bases["api"])).path
        return dict.fromkeys(provider.bases, url + path if path == _GATEWAY_PATH else url)

    bases = {name: sandbox_urls(provider) for name, provider in providers.items()}
    # The sandbox speaks the shipped dialects alone. It takes any key; this one cannot be mistaken for a real one.
    keys = {name: "sandbox" for name, provider in providers.items() if provider.dialect in DIALECTS}
    host = urlsplit(url).netloc.lower()
    return Access(sandbox=True, is_built_in=built_in, base_urls=bases, trusted_hosts=frozenset({host}), keys=keys)
