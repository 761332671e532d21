"""`rotoscope install`: decide the entry and the change, show it, ask, write it, and keep the provider keys."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rotoscope.cli.clients.edits import Change, Entry, apply_edits, invert_changes, put_and_check
from rotoscope.cli.clients.files import check_writable, write_config
from rotoscope.cli.clients.reading import find_unreadable_part
from rotoscope.cli.clients.table import Client, find_client, install_marks
from rotoscope.cli.install.key_prompts import offer_keys
from rotoscope.cli.install.launch import find_launch, read_installation
from rotoscope.cli.install.places import EntryRequest, Place, confirm, find_place, here, print_change, show
from rotoscope.cli.install.records import InstallRecord, digest_of, read_records, write_records
from rotoscope.composition import make_private_folder
from rotoscope.environment import read_home
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

__all__ = ["InstallRequest", "install_client"]

_PASSED_ON = ("LOCALAPPDATA",)  # what of the home folder's own variables every client leaves in a server's environment
_MAX_URL = 2000


@dataclass(frozen=True, slots=True)
class InstallRequest(EntryRequest):
    """What the command line asks for.

    Attributes:
        url: of a server over HTTP; None for one that the client starts.
        prints_only: whether the entry is printed and nothing read or written.
        asks_keys: whether provider keys are kept.
        is_forced: whether a client that is not installed gets its file.
    """

    url: str | None = None
    prints_only: bool = False
    asks_keys: bool = True
    is_forced: bool = False


def install_client(asked: InstallRequest, settings: Settings) -> None:
    """Register the server with a client, as the command line asks.

    Raises:
        RotoscopeError: it cannot be, and nothing was written.
    """
    client = find_client(asked.client)
    entry = _make_entry(client, asked.url, settings)
    if asked.prints_only:
        text = apply_edits("", put_and_check(client.form, "", client.container, asked.name, entry))
        print(text, end="")
        return
    place = find_place(asked, settings)
    _check_installed(asked, place, settings)
    changes = _plan(place, entry)
    if changes:
        check_writable(place.before.path)
        print_change(place, changes)
        _show_obstacle(place, changes)
        if asked.is_dry:
            return
        if not (asked.is_agreed or confirm("Write this?", default=False)):
            show("Nothing was written.")
            return
        _write(place, changes, settings, asked.url or "")
    else:
        show(f"{place.asked_path} says this already; it was left as it is.")
        _show_obstacle(place, ())
    if asked.is_dry:
        return
    if asked.url is None and asked.asks_keys:
        offer_keys(settings, is_agreed=asked.is_agreed)
    show(client.next_step)


def _show_obstacle(place: Place, changes: Sequence[Change]) -> None:
    """Say what in the file, as it will be, keeps the client from reading it."""
    obstacle = find_unreadable_part(place.client, place.before, apply_edits(place.before.text, changes))
    if obstacle is not None:
        title = place.client.title
        show(f"{title} does not read this file as long as there is {obstacle.words}. {obstacle.remedy}")


def _make_entry(client: Client, url: str | None, settings: Settings) -> Entry:
    if url is None:
        launch = find_launch(read_installation(settings.variables), _server_variables(settings), Path.is_file)
        return client.start_entry(launch)
    if client.url_entry is None:
        raise InvalidInput(client.no_url_reason, hint=f"Or leave --http out: {client.title} then starts the server.")
    is_address = url.startswith(("https://", "http://")) and url.isprintable() and " " not in url
    if not is_address or "@" in url.partition("://")[2].partition("/")[0] or len(url) > _MAX_URL:
        raise InvalidInput(
            "--http needs the address of a server, without a name or password in it.",
            hint="Write --http http://127.0.0.1:8000/mcp.",
        )
    return client.url_entry(url)


def _server_variables(settings: Settings) -> Mapping[str, str]:
    """What a server must be given to use this home folder, where it would not find it by itself."""
    left = {name: value for name in _PASSED_ON if (value := settings.variable(name))}
    return {} if settings.home == Path(read_home(left)) else {"ROTOSCOPE_HOME": str(settings.home)}


def _check_installed(asked: InstallRequest, place: Place, settings: Settings) -> None:
    if asked.is_forced or asked.file is not None or asked.in_project:
        return
    marks = install_marks(place.client, here(settings.variables))
    if not any(Path(mark).exists() for mark in marks):
        raise InvalidInput(
            f"{place.client.title} does not seem to be installed: there is no {marks[-1]}.",
            hint="Start it once and try again, name its file with --file, or add --force to write the file anyway.",
        )


def _plan(place: Place, entry: Entry) -> Sequence[Change]:
    """The changes that put the entry in place; none where it is there already."""
    client, former = place.client, place.entry()
    if former is not None:
        if not place.is_ours(former):
            raise InvalidInput(
                f"{place.asked_path} has another server of the name {place.name}.",
                hint="Choose a name of ours with --name NAME, or take that server out first.",
            )
        kept = {key: value for key, value in former.items() if key not in _replaced_keys(former, entry)}
        entry = {**kept, **entry, **_merged_tables(former, entry)}
        if json.dumps(former, sort_keys=True) == json.dumps(entry, sort_keys=True):
            return ()
    return place.guard(lambda: put_and_check(client.form, place.before.text, client.container, place.name, entry))


def _replaced_keys(former: Entry, entry: Entry) -> set[str]:
    """What of an entry of ours says how the server is reached; all else in it is its owner's."""
    ways = {"command", "args", "cmd", "type", "url", "httpUrl", "serverUrl", "uri"}
    return (ways & former.keys()) | entry.keys()


def _merged_tables(former: Entry, entry: Entry) -> Entry:
    """The variables that its owner has added to an entry, with ours."""
    merged: dict[str, object] = {}
    for key in ("env", "envs"):
        old, new = former.get(key), entry.get(key, {})
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old:
            merged[key] = {**old, **new}
    return merged


def _write(place: Place, changes: Sequence[Change], settings: Settings, address: str) -> None:
    make_private_folder(settings.home)
    before, record = place.before, place.record
    text = apply_edits(before.text, changes)
    is_new = place.entry() is None
    undo = invert_changes(before.text, changes) if is_new else ()
    copy = write_config(before, text, datetime.now(UTC))
    known = read_records(settings.home)
    mine = InstallRecord(
        client=place.client.name,
        file=str(before.path),
        name=place.name,
        address=address,
        digest=digest_of(before.encode(text)),
        undo=tuple((one.start, one.end, one.text) for one in undo),
        made_file=before.raw is None if is_new else bool(record and record.made_file),
        made_container=not place.has_container if is_new else bool(record and record.made_container),
    )
    others = [one for one in known if (one.file, one.name) != (mine.file, mine.name)]
    write_records(settings.home, [*others, mine])
    show(f"wrote {before.path}" + ("" if copy is None else f"; what was there is in {os.fspath(copy)}"))
