"""Which providers can be used: whose keys are set, where they are spoken to, and whether the sandbox stands in."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rotoscope.errors import InvalidInput
from rotoscope.models.manifest import Provider
from rotoscope.settings import Settings

__all__ = ["SANDBOX_URL", "Access", "access_of"]

_BASE = re.compile(r"https?://[^/?#@\\]+(?:/[!-~]*)?", re.ASCII | re.IGNORECASE)

SANDBOX_URL = "https://sandbox.invalid"
"""Where the built-in sandbox pretends to be. RFC 6761 reserves `.invalid`: the name can never be dialled."""


@dataclass(frozen=True, slots=True)
class Access:
    """What may be spoken to.

    Attributes:
        sandbox: the sandbox serves every provider.
        built_in: that sandbox is the one inside this process.
        keys: the key of each provider that has one; never shown.
        bases: the base URLs of each provider, by purpose.
        trusted: hosts that stand in for every provider: they may be http and private, and serve their own outputs.
        own_hosts: the hosts that the operator named for a provider, trusted alike, and for that provider alone.
    """

    sandbox: bool
    built_in: bool
    bases: Mapping[str, Mapping[str, str]]
    trusted: frozenset[str]
    keys: Mapping[str, str] = field(repr=False)
    own_hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def usable(self, provider: str) -> bool:
        """Whether a provider can be used now."""
        return self.sandbox or provider in self.keys

    def driver_of(self, provider: str) -> str:
        """What a process must hold to drive a job of a provider: a job for one host is never sent to another."""
        return f"{provider}@{urlsplit(self.bases[provider]['api']).netloc.lower()}"

    def account_of(self, provider: str) -> str:
        """Tells one key of a provider from another, as 32 bits of a hash: no key can be made of it."""
        return hashlib.sha256(f"{provider}:{self.keys.get(provider, '')}".encode()).hexdigest()[:8]


def access_of(settings: Settings, providers: Mapping[str, Provider]) -> Access:
    """Work out what the settings allow.

    With `ROTOSCOPE_SANDBOX=auto` the sandbox serves all while no provider key is set, and nothing once one is:
    nobody who pays gets a sandbox result by surprise.

    Raises:
        InvalidInput: a key cannot be one; the message names the variable.
    """
    given = {name: key for name, provider in providers.items() if (key := _key(settings, provider))}
    if settings.sandbox == "always" or (settings.sandbox == "auto" and not given):
        return _sandbox_access(SANDBOX_URL, providers, built_in=True)
    if settings.sandbox.startswith("http"):
        return _sandbox_access(settings.sandbox, providers, built_in=False)
    bases = {name: _bases(settings, provider) for name, provider in providers.items()}
    keys = {name: key for name, key in given.items() if _has_base(settings, providers[name])}
    own = {
        name: frozenset({urlsplit(bases[name]["api"]).netloc.lower()})
        for name, provider in providers.items()
        if settings.variable(provider.base_variable) is not None
    }
    return Access(sandbox=False, built_in=False, bases=bases, trusted=frozenset(), keys=keys, own_hosts=own)


def _key(settings: Settings, provider: Provider) -> str | None:
    for name in provider.key_variables:
        key = settings.variable(name)
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise InvalidInput(f"{name} holds characters that no key has.", hint=f"Set {name} again.")
        if key:
            return key
    return None


def _has_base(settings: Settings, provider: Provider) -> bool:
    return not provider.base_required or settings.variable(provider.base_variable) is not None


def _bases(settings: Settings, provider: Provider) -> Mapping[str, str]:
    """A base URL of the operator's replaces all of the provider's: a gateway or a sandbox has one host.

    Clients of Replicate disagree whether the base includes `/v1`; ours does not.
    """
    own = settings.variable(provider.base_variable)
    if own is None:
        return provider.bases
    if not _BASE.fullmatch(own) or not _is_address(own):
        raise InvalidInput(
            f"{provider.base_variable} is no address such as https://host or http://127.0.0.1:8080/path.",
            hint=f"Correct or unset {provider.base_variable}.",
        )
    base = own.rstrip("/").removesuffix("/v1")
    return dict.fromkeys(provider.bases, base)


def _is_address(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False


def _sandbox_access(url: str, providers: Mapping[str, Provider], *, built_in: bool) -> Access:
    def at(provider: Provider) -> dict[str, str]:
        path = urlsplit(provider.bases["api"]).path.rstrip("/")
        return dict.fromkeys(provider.bases, url + path)

    bases = {name: at(provider) for name, provider in providers.items()}
    # The sandbox takes any key; it gets one that is plainly none.
    keys = dict.fromkeys(providers, "sandbox")
    host = urlsplit(url).netloc.lower()
    return Access(sandbox=True, built_in=built_in, bases=bases, trusted=frozenset({host}), keys=keys)
