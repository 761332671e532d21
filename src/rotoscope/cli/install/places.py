"""What installing and uninstalling share: the file, what is in it, the change as a person sees it, and the question."""

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rotoscope.cli.clients.edits import Change, EditRefused, Entry, apply_edits
from rotoscope.cli.clients.entries import is_entry_name, starts_rotoscope
from rotoscope.cli.clients.files import ConfigFile, read_config
from rotoscope.cli.clients.surroundings import Surroundings
from rotoscope.cli.clients.table import Client, config_file, find_client
from rotoscope.cli.install.records import InstallRecord, read_records
from rotoscope.contracts.characters import visible_text
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings, user_home, working_folder

__all__ = ["EntryRequest", "Place", "confirm", "find_place", "here", "print_change", "show"]

_MAX_SHOWN_LINE = 1000  # characters
_SECRET = re.compile(
    r"""((?:key|token|secret|password|auth\w*|credential\w*)["']?\s*[:=]\s*)(["']?)[^\s"',}]{4,}(?:\s[^"',}]+)?\2""",
    re.IGNORECASE,
)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class EntryRequest:
    """What the command line says of an entry that is to come or to go.

    Attributes:
        client: the client's name.
        name: of the entry.
        file: the client's file, where it is not the usual one.
        in_project: whether the file of the project in this folder is meant.
        is_dry: whether the change is shown and nothing written.
        is_agreed: whether every question is answered yes.
    """

    client: str
    name: str
    file: Path | None = None
    in_project: bool = False
    is_dry: bool = False
    is_agreed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is, or is to be.

    Attributes:
        client: whose configuration it is.
        name: of the entry.
        asked_path: the file as it is named.
        before: the file as it is.
        record: what we remember of our entry there.
    """

    client: Client
    name: str
    asked_path: Path
    before: ConfigFile
    record: InstallRecord | None

    def guard(self, work: Callable[[], Answer]) -> Answer:
        """What some work on the text gives.

        Raises:
            InvalidInput: the text cannot be read or changed.
        """
        try:
            return work()
        except EditRefused as refusal:
            raise InvalidInput(
                f"{self.asked_path} {refusal}.",
                hint=f"Correct it, or add by hand what rotoscope install --print {self.client.name} shows.",
            ) from None

    def entry(self) -> Entry | None:
        """The entry of that name that is there.

        Raises:
            InvalidInput: the text cannot be read.
        """
        servers = self.guard(lambda: self.client.form.read(self.before.text)).get(self.client.container)
        entry = servers.get(self.name) if isinstance(servers, Mapping) else None
        return {"": entry} if entry is not None and not isinstance(entry, Mapping) else entry

    @property
    def has_container(self) -> bool:
        return self.client.container in self.client.form.read(self.before.text)

    def is_ours(self, entry: Entry) -> bool:
        """Whether an entry that is there starts us, or leads to the address that we wrote."""
        address = self.record.address if self.record is not None else ""
        return starts_rotoscope(entry) or (bool(address) and address in entry.values())


def here(environ: Mapping[str, str]) -> Surroundings:
    """What decides where files are on this machine.

    Raises:
        InvalidInput: there is no home directory.
    """
    home = user_home()
    if home is None:
        raise InvalidInput("There is no home directory.", hint="Name the client's file with --file.")
    return Surroundings(sys.platform, str(home), environ)


def find_place(asked: EntryRequest, settings: Settings) -> Place:
    """Find and read the file that is meant.

    Raises:
        RotoscopeError: there is no such client, or its file cannot be read.
    """
    client, name = find_client(asked.client), asked.name
    if not is_entry_name(name):
        raise InvalidInput("That is no name of a server.", hint="Use letters, digits, - and _.")
    if asked.in_project and not client.project_file:
        raise InvalidInput(f"{client.title} has no file of a project.", hint="Leave --project out.")
    if asked.file is not None:
        path = asked.file.expanduser().absolute()
    elif asked.in_project:
        path = working_folder() / client.project_file
    else:
        path = Path(config_file(client, here(settings.variables)))
    before = read_config(path)
    known = {(one.file, one.name): one for one in read_records(settings.home) if one.client == client.name}
    return Place(client, name, path, before, known.get((str(before.path), name)))


def print_change(place: Place, changes: Sequence[Change]) -> None:
    """Show a change as lines that go and come; what looks like a secret near it is not shown."""
    before, after = place.before.text, apply_edits(place.before.text, changes)
    path = str(place.before.path)
    lines = list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), path, f"{path} (as it will be)", lineterm="")
    )
    if any(len(line) > _MAX_SHOWN_LINE for line in lines):  # all of it stands on one line
        lines = [path, *(f"-{before[one.start : one.end]}" for one in changes if one.end > one.start)]
        lines += [f"+{one.text}" for one in changes if one.text]
    for line in lines:
        show(_SECRET.sub(r"\1\2...\2", line.expandtabs(4)))


def show(text: str) -> None:
    """Print a line, with what is invisible in it made visible."""
    print(visible_text(text))


def confirm(question: str, *, default: bool) -> bool:
    """Ask a person a question that is answered by yes or no.

    Raises:
        InvalidInput: nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise InvalidInput(
            "Nobody can be asked here, so nothing was written.", hint="Add --yes, or --dry-run to see the change alone."
        )
    answer = _read_answer(f"{question} [{'Y/n' if default else 'y/N'}] ")
    return default if not answer else answer in {"y", "yes"}


def _read_answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        print(file=sys.stderr)
        return "n"
