"""`rotoscope people`: who may sign in to a server that has no identity provider, and which apps they have let in."""

import argparse
import getpass
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from rotoscope import signals
from rotoscope.contracts.characters import one_line
from rotoscope.contracts.times import timestamp
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.store.database import Database
    from rotoscope.store.grants import OpenGrant

__all__ = ["add_parser"]

_LINK_HOURS, _MAX_LINK_HOURS = 24.0, 24.0 * 7
_HOUR = 3600.0  # seconds
_SHOWN_ID_CHARS = 10
_NO_PERSON = "Nobody who may sign in is called"
Answer = TypeVar("Answer")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its actions."""
    people = commands.add_parser("people", help="add, list and remove the people who may sign in to a server over HTTP")
    actions = people.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add somebody; they sign in with a passphrase, or by a link")
    add.add_argument("name", metavar="NAME", help="who it is: letters, digits and @._-; their jobs are kept by it")
    way = add.add_mutually_exclusive_group(required=True)
    way.add_argument("--passphrase", action="store_true", help="ask for a passphrase (or read a line of stdin)")
    way.add_argument("--link", action="store_true", help="print a link that signs them in once")
    add.add_argument("--restore", action="store_true", help="let the same person in again who was removed")
    _add_hours(add)
    add.set_defaults(run=_add_person)
    link = actions.add_parser("link", help="print a link that signs somebody in once")
    link.add_argument("name", metavar="NAME")
    _add_hours(link)
    link.set_defaults(run=_print_link)
    change = actions.add_parser("passphrase", help="give somebody another passphrase")
    change.add_argument("name", metavar="NAME")
    change.set_defaults(run=_set_passphrase)
    listing = actions.add_parser("list", help="who may sign in, and how many apps they have let in")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    listing.set_defaults(run=_list_people)
    remove = actions.add_parser("remove", help="remove somebody, and end at once what their apps may do")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=_remove_person)
    sessions = actions.add_parser("sessions", help="which apps people have let in, and when each was last used")
    sessions.add_argument("name", metavar="NAME", nargs="?")
    sessions.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sessions.set_defaults(run=_list_sessions)
    revoke = actions.add_parser("revoke", help="end what one app of somebody may do, or all of theirs")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("id", metavar="ID", nargs="?", help="of the session, as sessions prints it; all without it")
    revoke.set_defaults(run=_revoke_sessions)


def _add_hours(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hours", type=float, default=_LINK_HOURS, metavar="N", help=f"how long the link is good ({_LINK_HOURS:g})"
    )


def _add_person(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.people import People, check_person_name

    check_person_name(asked.name)
    address = _link_address(settings, asked.hours) if asked.link else ""
    passphrase = _read_passphrase(asked.name) if asked.passphrase else None

    async def work(database: "Database") -> str:
        kept = None if passphrase is None else await _hash(passphrase)
        await People(database, time.time).add(asked.name, kept, restore=asked.restore)
        return await _make_link(database, asked.name, address, asked.hours) if asked.link else ""

    link = _with_database(settings, work)
    print(f"rotoscope: {asked.name} may sign in.", file=sys.stderr)
    if asked.link:
        _show_link(link, asked.name, asked.hours)
    _warn_of_other_sign_in(settings)
    return 0


def _print_link(asked: argparse.Namespace, settings: Settings) -> int:
    address = _link_address(settings, asked.hours)

    async def work(database: "Database") -> str:
        return await _make_link(database, asked.name, address, asked.hours)

    _show_link(_with_database(settings, work), asked.name, asked.hours)
    _warn_of_other_sign_in(settings)
    return 0


def _set_passphrase(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.people import People

    passphrase = _read_passphrase(asked.name)

    async def work(database: "Database") -> bool:
        return await People(database, time.time).set_passphrase(asked.name, await _hash(passphrase))

    if not _with_database(settings, work):
        raise _unknown(asked.name)
    print(f"rotoscope: {asked.name} has another passphrase. Apps that they have let in stay so.", file=sys.stderr)
    return 0


def _list_people(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.people import People

    known = _with_database(settings, lambda database: People(database, time.time).list_all())
    ways = {True: "passphrase", False: "links"}
    if asked.json:
        rows = [
            {
                "name": one.name,
                "signs_in_by": ways[one.passphrase_hash is not None],
                "created_at": one.created_at,
                "apps": one.grants,
            }
            for one in known
        ]
        print(json.dumps(rows, indent=2))
        return 0
    table = [
        (one.name, ways[one.passphrase_hash is not None], timestamp(one.created_at), str(one.grants)) for one in known
    ]
    _print_columns([("name", "signs in by", "added", "apps"), *table])
    return 0


def _remove_person(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.people import People

    if not _with_database(settings, lambda database: People(database, time.time).remove(asked.name)):
        raise _unknown(asked.name)
    print(f"removed {asked.name} and their provider keys; their browsers and apps are signed out, their jobs are kept")
    return 0


def _list_sessions(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.grants import Grants

    known = _with_database(settings, lambda database: Grants(database, time.time).list_open(asked.name))
    if asked.json:
        print(json.dumps([asdict(one) for one in known], indent=2))
        return 0
    _print_columns([("id", "name", "app", "let in", "last renewed"), *map(_session_row, known)])
    return 0


def _session_row(one: "OpenGrant") -> Sequence[str]:
    name = one_line(one.client_name, 40)
    return one.id[:_SHOWN_ID_CHARS], one.person, name, timestamp(one.created_at), timestamp(one.used_at)


def _revoke_sessions(asked: argparse.Namespace, settings: Settings) -> int:
    from rotoscope.store.grants import Grants

    ended = _with_database(settings, lambda database: Grants(database, time.time).end(asked.name, asked.id))
    if not ended:
        raise InvalidInput("There is no such session.", hint="See rotoscope people sessions.")
    print(f"ended {ended} of {asked.name}")
    return 0


def _with_database(settings: Settings, work: "Callable[[Database], Awaitable[Answer]]") -> Answer:
    """Do some work on the ledger, and close it."""
    from rotoscope.composition.sign_in import open_people_database

    async def run() -> Answer:
        async with AsyncExitStack() as closing:
            return await work(open_people_database(settings, closing))

    return signals.run_until_signal(run)


async def _hash(passphrase: str) -> str:
    from rotoscope.server.sign_in.people.passphrases import Passphrases

    return await Passphrases().hash(passphrase)


def _read_passphrase(name: str) -> str:
    """A passphrase that is typed twice, or a line of stdin where that is no terminal."""
    from rotoscope.server.sign_in.people.passphrases import check_length

    if not sys.stdin.isatty():
        passphrase = sys.stdin.readline(4096).rstrip("\r\n")
    else:
        passphrase = getpass.getpass(f"Passphrase of {name}: ")
        if passphrase != getpass.getpass("Once more: "):
            raise InvalidInput("The two are not the same.", hint="Try again.")
    check_length(passphrase)
    return passphrase


def _link_address(settings: Settings, hours: float) -> str:
    """What a link begins with."""
    if not 0 < hours <= _MAX_LINK_HOURS:
        raise InvalidInput(f"A link is good for at most {_MAX_LINK_HOURS:g} hours.", hint="Correct --hours.")
    if settings.network.public_url is None:
        raise InvalidInput(
            "A link needs the address of the server.",
            hint="Set ROTOSCOPE_PUBLIC_URL as the server has it, such as https://rotoscope.example.",
        )
    return f"{settings.network.public_url}/sign-in/links/"


async def _make_link(database: "Database", name: str, address: str, hours: float) -> str:
    from rotoscope.server.sign_in.people.tokens import hash_secret, make_secret
    from rotoscope.store.people import People

    secret = make_secret()
    if not await People(database, time.time).add_link(name, hash_secret(secret), time.time() + hours * _HOUR):
        raise _unknown(name)
    return address + secret


def _show_link(link: str, name: str, hours: float) -> None:
    print(link, flush=True)
    print(
        f"rotoscope: this link signs {name} in once, within {hours:g} hours. Whoever has it is {name}: "
        "send it by a way that you trust.",
        file=sys.stderr,
    )


def _warn_of_other_sign_in(settings: Settings) -> None:
    if settings.network.sign_in != "people":
        print("rotoscope: people sign in at a server with ROTOSCOPE_SIGN_IN=people.", file=sys.stderr)


def _unknown(name: str) -> InvalidInput:
    return InvalidInput(f"{_NO_PERSON} {name[:80]!r}.", hint="See rotoscope people list.")


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
