"""`rotoscope uninstall`: take out what install wrote, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rotoscope.cli.clients.edits import Change, apply_edits, remove_and_check
from rotoscope.cli.clients.files import check_writable, remove_config, write_config
from rotoscope.cli.install.places import EntryRequest, Place, confirm, find_place, print_change, show
from rotoscope.cli.install.records import digest_of, read_records, write_records
from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.key_store import KeyStoreFailed
from rotoscope.settings import Settings
from rotoscope.stored_keys import find_key_names, forget_keys

__all__ = ["RemovalRequest", "uninstall_client"]


@dataclass(frozen=True, slots=True)
class RemovalRequest(EntryRequest):
    """What the command line asks for, and whether the kept provider keys go too."""

    forgets_keys: bool = False


def uninstall_client(asked: RemovalRequest, settings: Settings) -> None:
    """Take the entry out of a client's file.

    Raises:
        RotoscopeError: it cannot be, and nothing was written.
    """
    place = find_place(asked, settings)
    entry = place.entry()
    if entry is None:
        show(f"{place.asked_path} has no server of the name {place.name}; it was left as it is.")
    elif not place.is_ours(entry):
        raise InvalidInput(
            f"The server {place.name} in {place.asked_path} was not written by rotoscope install.",
            hint="Take it out by hand if it is to go.",
        )
    elif not _remove(place, asked, settings):
        return
    if not asked.is_dry:
        _settle_keys(asked, settings)


def _remove(place: Place, asked: RemovalRequest, settings: Settings) -> bool:
    """Show the change, ask and write it; whether the command goes on."""
    changes = _plan(place)
    check_writable(place.before.path)
    print_change(place, changes)
    if asked.is_dry:
        return True
    if not (asked.is_agreed or confirm("Write this?", default=False)):
        show("Nothing was written.")
        return False
    text = apply_edits(place.before.text, changes)
    if place.record is not None and place.record.made_file and not text.strip():
        remove_config(place.before)
        show(f"removed {place.before.path}")
    else:
        copy = write_config(place.before, text, datetime.now(UTC))
        show(f"wrote {place.before.path}; what was there is in {copy}")
    if place.record is not None:
        write_records(settings.home, [one for one in read_records(settings.home) if one != place.record])
    return True


def _plan(place: Place) -> Sequence[Change]:
    """The changes that make the very bytes that were there, where the file is as we left it; else those that take the
    entry out.
    """
    record, before = place.record, place.before
    if record is not None and record.undo and before.raw is not None and record.digest == digest_of(before.raw):
        return record.changes
    with_container = record is not None and record.made_container
    form, container = place.client.form, place.client.container
    return place.guard(
        lambda: remove_and_check(form, before.text, container, place.name, with_container=with_container)
    )


def _settle_keys(asked: RemovalRequest, settings: Settings) -> None:
    names = find_key_names(settings.home)
    if not names.in_file | names.in_store:
        return
    listed = ", ".join(sorted(names.in_file | names.in_store))
    if not asked.forgets_keys:
        show(f"{listed} stays kept for other clients; rotoscope uninstall {asked.client} --keys forgets it.")
        return
    if not (asked.is_agreed or confirm(f"Forget {listed}?", default=False)):
        return
    try:
        forget_keys(settings.home, settings.variables)
    except KeyStoreFailed as error:
        raise StorageFailed(
            f"The key store of this system {error}, so {listed} was not removed.", hint="Unlock it and try again."
        ) from None
    show(f"forgot {listed}")
