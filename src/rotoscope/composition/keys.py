"""The principals' own provider keys: where they are kept, and who may use them."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from rotoscope.composition.parts import load_catalog_and_warn, make_private_folder
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import Access
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.jobs.own_keys import OwnKeys
    from rotoscope.server.key_entry import KeyEntry
    from rotoscope.store.database import Database
    from rotoscope.store.provider_keys import ProviderKeys
    from rotoscope.store.sealing import Sealer

__all__ = ["make_own_keys", "make_sealer", "open_key_entry", "open_key_store", "own_key_titles"]


def make_sealer(settings: Settings) -> "Sealer | None":
    """What encrypts the principals' keys; None where the keys are the operator's.

    Raises:
        InvalidInput: there is nothing to encrypt with.
    """
    from rotoscope.store.sealing import Sealer

    return Sealer(settings.network.encryption_keys) if settings.network.key_owner == "principal" else None


def make_own_keys(
    settings: Settings, access: Access, database: "Database", clock: Callable[[], float]
) -> "OwnKeys | None":
    """The principals' own keys, for a process that drives jobs; None where the keys are the operator's."""
    sealer = make_sealer(settings)
    if sealer is None or access.own_for is None:  # the sandbox takes no key
        return None
    from rotoscope.jobs.own_keys import OwnKeys
    from rotoscope.store.provider_keys import ProviderKeys

    return OwnKeys(access, ProviderKeys(database, sealer, clock))


def own_key_titles(settings: Settings) -> dict[str, str]:
    """The providers that principals may have keys of their own for: their names for people, by their names."""
    catalog = load_catalog_and_warn(settings)
    own = replace(settings, sandbox="never", network=replace(settings.network, key_owner="principal"))
    allowed = resolve_access(own, catalog.providers).own_for or frozenset()
    return {name: catalog.providers[name].title for name in sorted(allowed)}


def open_key_store(settings: Settings, closing: AsyncExitStack) -> "ProviderKeys":
    """The principals' keys, for those who enter and list them.

    Raises:
        InvalidInput: there is nothing to encrypt with, or the home folder is not its owner's alone.
    """
    from rotoscope.store.database import Database
    from rotoscope.store.provider_keys import ProviderKeys
    from rotoscope.store.sealing import Sealer

    sealer = Sealer(settings.network.encryption_keys)
    make_private_folder(settings.home)
    database = Database(settings.database)  # without its vault: no job is read or written through it
    closing.push_async_callback(database.aclose)
    return ProviderKeys(database, sealer, time.time)


def open_key_entry(settings: Settings, public_url: str, closing: AsyncExitStack) -> "KeyEntry | None":
    """What asks principals for their keys; None where the keys are the operator's, or the sandbox takes none.

    Args:
        settings: the operator's decisions.
        public_url: the address at which browsers reach the server, without a slash at its end.
        closing: gets what must be closed at the end.

    Raises:
        InvalidInput: there is nothing to encrypt with.
    """
    if settings.network.key_owner != "principal":
        return None
    store = open_key_store(settings, closing)
    if settings.sandbox not in ("auto", "never"):
        return None
    from rotoscope.server.key_entry import KeyEntry

    return KeyEntry(store, own_key_titles(settings), public_url)
