"""The provider keys that a server needs that a desktop starts: asked for, and kept where no other user reads them."""

import getpass
import sys
from collections.abc import Mapping

from rotoscope import key_store
from rotoscope.cli.install.places import confirm, show
from rotoscope.composition import load_user_catalog, make_private_folder
from rotoscope.errors import InvalidInput
from rotoscope.key_store import KeyStoreFailed
from rotoscope.models.access import check_own_key, provider_variables
from rotoscope.models.provider import Provider
from rotoscope.settings import Settings
from rotoscope.stored_keys import FILE, find_key_names, keep_in_file, keep_in_store

__all__ = ["offer_keys"]

_MAX_KEYS = 10


def offer_keys(settings: Settings, *, is_agreed: bool) -> None:
    """Keep the keys that are set in this environment, or one that is typed, as a person agrees.

    Raises:
        RotoscopeError: they cannot be kept.
    """
    providers = load_user_catalog(settings).providers
    kept = find_key_names(settings.home)
    values = _set_values(settings, providers)
    if not values and not kept.in_file | kept.in_store and not is_agreed and sys.stdin.isatty():
        values = _ask_for_keys(providers)
    elif values and not (is_agreed or confirm(_question(values), default=True)):
        values = {}
    if values:
        _keep(settings, values)
    elif not kept.in_file | kept.in_store:
        show("No provider key is kept: the sandbox serves every model until one is.")


def _set_values(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, str]:
    """The providers' variables that are set here, checked; a base URL only beside its provider's key."""
    values: dict[str, str] = {}
    for provider in providers.values():
        *keys, _ = provider_variables(provider)
        found = {name: value for name in keys if (value := settings.variable(name))}
        if found and (base := settings.variable(provider.base_variable)):
            found[provider.base_variable] = base
        values |= {name: check_own_key(name, value) for name, value in found.items()}
    return values


def _question(values: Mapping[str, str]) -> str:
    return f"{', '.join(values)} is set here, but not for programs that the desktop starts. Keep it for the server?"


def _ask_for_keys(providers: Mapping[str, Provider]) -> dict[str, str]:
    """The keys that a person types, unseen."""
    names = [name for name, one in providers.items() if not one.base_required and "+" not in one.key_variables[0]]
    values: dict[str, str] = {}
    show("No provider key is set. Without one the built-in sandbox serves every model.")
    while len(values) < _MAX_KEYS:
        name = _read_line(f"Enter a key of which provider ({', '.join(names)}; Enter for none)? ")
        if not name:
            break
        if name not in names:
            show(f"There is no provider {name[:40]!r} here.")
            continue
        provider = providers[name]
        try:
            values[provider.key_variables[0]] = check_own_key(
                provider.title, getpass.getpass(f"{provider.title} key: ")
            )
        except InvalidInput as error:
            show(f"{error.message} {error.hint}")
    return values


def _read_line(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        print(file=sys.stderr)
        return ""


def _keep(settings: Settings, values: Mapping[str, str]) -> None:
    make_private_folder(settings.home)
    listed, store = ", ".join(sorted(values)), key_store.find_store(settings.variables)
    if store is None:
        _keep_in_file(settings, values, "there is no key store that the server could use")
        return
    try:
        keep_in_store(settings.home, values, settings.variables)
    except KeyStoreFailed as error:
        _keep_in_file(settings, values, f"the key store of this system {error}")
    else:
        show(f"kept {listed} in the key store of this system ({store.title})")


def _keep_in_file(settings: Settings, values: Mapping[str, str], reason: str) -> None:
    file = keep_in_file(settings.home, values)
    assert file.name == FILE
    show(f"kept {', '.join(sorted(values))} in {file}, which only you can read: {reason}")
