"""`rotoscope keys`: the provider keys that principals of a server have of their own (`ROTOSCOPE_KEYS=principal`)."""

import argparse
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from rotoscope import signals
from rotoscope.cli.tokens import print_columns
from rotoscope.contracts.times import timestamp
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.store.provider_keys import ProviderKeys

__all__ = ["add_parser"]

_MAX_LINE = 4096  # characters
_MAX_PRINCIPAL = 512  # characters
Answer = TypeVar("Answer")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its actions."""
    keys = commands.add_parser(
        "keys", help="for a server: enter, list and remove the provider keys that principals have of their own"
    )
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    enter = actions.add_parser("set", help="enter a key: it is asked for, or read as a line of stdin")
    enter.add_argument("provider", metavar="PROVIDER", help="such as replicate or fal")
    enter.add_argument("--principal", metavar="NAME", required=True, help="whose runs it is for")
    enter.set_defaults(run=_set_key)
    listing = actions.add_parser("list", help="who has a key for which provider, and since when")
    listing.add_argument("--principal", metavar="NAME", help="of one principal only")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_list_keys)
    remove = actions.add_parser("remove", help="remove a key; runs of its principal wait until there is one again")
    remove.add_argument("provider", metavar="PROVIDER")
    remove.add_argument("--principal", metavar="NAME", required=True)
    remove.set_defaults(run=_remove_key)


def _set_key(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.composition.keys import own_key_titles
    from rotoscope.models.access import check_own_key

    titles = own_key_titles(settings)
    provider, principal = _check_provider(asked.provider, titles), _check_principal(asked.principal)
    key = check_own_key(titles[provider], _read_secret(f"Key of {principal} for {titles[provider]}: "))
    _use_keys(settings, lambda keys: keys.set(principal, provider, key))
    print(f"kept the key of {asked.principal} for {asked.provider}")
    if settings.network.key_owner != "principal":
        print("rotoscope: keys of principals are used by a server with ROTOSCOPE_KEYS=principal.", file=sys.stderr)
    return 0


def _list_keys(asked: argparse.Namespace, settings: Settings) -> int:
    found = _use_keys(settings, lambda keys: keys.list(asked.principal))
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    rows = ((one.principal, one.provider, timestamp(one.updated_at), one.account) for one in found)
    print_columns([("principal", "provider", "entered", "fingerprint"), *rows])
    return 0


def _remove_key(asked: argparse.Namespace, settings: Settings) -> int:
    if not _use_keys(settings, lambda keys: keys.remove(asked.principal, asked.provider)):
        raise InvalidInput(
            f"{asked.principal[:80]} has no key for {asked.provider[:80]}.", hint="See rotoscope keys list."
        )
    print(f"removed the key of {asked.principal} for {asked.provider}")
    return 0


def _use_keys(settings: Settings, work: "Callable[[ProviderKeys], Awaitable[Answer]]") -> Answer:
    from rotoscope.composition.keys import open_key_store

    if settings.network.key_owner != "principal" and not settings.network.encryption_keys:
        raise InvalidInput(
            "rotoscope keys is for a server whose users have provider keys of their own (ROTOSCOPE_KEYS=principal); "
            "it needs ROTOSCOPE_ENCRYPTION_KEYS.",
            hint="For keys of yours alone, set them in the environment, or let rotoscope install CLIENT keep them.",
        )

    async def run() -> Answer:
        async with AsyncExitStack() as closing:
            return await work(open_key_store(settings, closing))

    return signals.run_until_signal(run)


def _check_provider(name: str, titles: Mapping[str, str]) -> str:
    if name not in titles:
        raise InvalidInput(f"There is no provider {name[:80]!r} here.", hint=f"Providers: {', '.join(titles)}.")
    return name


def _check_principal(name: str) -> str:
    if not 0 < len(name) <= _MAX_PRINCIPAL or not name.isprintable():
        raise InvalidInput(
            "That is no name of a principal.", hint="It is as rotoscope jobs spend --by principal shows."
        )
    return name


def _read_secret(prompt: str) -> str:
    """What is typed, unseen, or the first line of what is piped in; never an argument, which others can see."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline(_MAX_LINE)
