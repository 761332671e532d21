"""Changes of a text that leave all else as it is, byte for byte: pure functions from text to text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "Change",
    "Data",
    "EditRefused",
    "Entry",
    "Format",
    "apply_edits",
    "find_newline",
    "invert_changes",
    "put_and_check",
    "remove_and_check",
]

Entry = Mapping[str, object]
"""What a client is to know of one server: text, numbers, booleans, lists of them, and tables of text."""
Data = dict[str, object]


class EditRefused(Exception):
    """A text cannot be read or changed; the message completes a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Change:
    """`text` takes the place of what stands from `start` to `end`, in characters of the text before."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Format:
    """How the files of one format are read and changed. A container is the top-level table that holds the servers.

    Attributes:
        read: a text's data; raises `EditRefused` where it is not of this format. An empty text has none.
        put: the changes that put an entry into a container of a text, in place of one of its name.
        remove: the changes that take an entry out; where the flag is set, its container too, if nothing else is in it.
    """

    read: Callable[[str], Data]
    put: Callable[[str, str, str, Entry], Sequence[Change]]
    remove: Callable[[str, str, str, bool], Sequence[Change]]


def apply_edits(text: str, changes: Sequence[Change]) -> str:
    """The text with its changes, which do not overlap; those at one place stand in the order given."""
    parts, position = [], 0
    for change in sorted(changes, key=lambda one: (one.start, one.end)):
        parts += [text[position : change.start], change.text]
        position = change.end
    return "".join([*parts, text[position:]])


def invert_changes(text: str, changes: Sequence[Change]) -> tuple[Change, ...]:
    """The changes that make the text of what `apply_edits` has made of it."""
    inverse, shift = [], 0
    for change in sorted(changes, key=lambda one: (one.start, one.end)):
        start = change.start + shift
        inverse.append(Change(start, start + len(change.text), text[change.start : change.end]))
        shift += len(change.text) - (change.end - change.start)
    return tuple(inverse)


def find_newline(text: str) -> str:
    """How the lines of a text end."""
    return "\r\n" if "\r\n" in text else "\n"


def put_and_check(form: Format, text: str, container: str, name: str, entry: Entry) -> tuple[Change, ...]:
    """The changes that put an entry into a text, after a look that the result says just that and nothing else.

    Raises:
        EditRefused: the text is not of its format, or cannot be changed like this.
    """
    before = form.read(text)
    servers = _servers_in(before, container)
    changes = tuple(form.put(text, container, name, entry))
    expected = {**before, container: {**servers, name: _as_data(entry)}}
    if _read_result(form, text, changes) != expected:
        raise EditRefused("is written in a way that cannot be added to without touching the rest of it")
    return changes


def remove_and_check(form: Format, text: str, container: str, name: str, *, with_container: bool) -> tuple[Change, ...]:
    """The changes that take an entry out of a text, after a look that the result lacks just that.

    Args:
        form: of the text.
        text: holds the entry.
        container: the table that the entry is in.
        name: of the entry.
        with_container: whether its container goes too, where nothing else is in it.

    Raises:
        EditRefused: the text is not of its format, or cannot be changed like this.
    """
    before = form.read(text)
    rest = {key: value for key, value in _servers_in(before, container).items() if key != name}
    changes = tuple(form.remove(text, container, name, with_container))
    after = _read_result(form, text, changes)
    # A container without a server may be empty, null or gone: each says the same.
    left = _servers_in(after, container)
    if left != rest or {**after, container: rest} != {**before, container: rest}:
        raise EditRefused("is written in a way that cannot be taken apart without touching the rest of it")
    return changes


def _servers_in(data: Data, container: str) -> Data:
    servers = data.get(container)
    if servers is None:
        return {}
    if not isinstance(servers, dict):
        raise EditRefused(f"holds something else than servers under {container}")
    return servers


def _read_result(form: Format, text: str, changes: Sequence[Change]) -> Data:
    try:
        return form.read(apply_edits(text, changes))
    except EditRefused:
        raise EditRefused("is written in a way that cannot be changed without touching the rest of it") from None


def _as_data(value: object) -> object:
    """Plain dicts and lists, as a parser gives them."""
    if isinstance(value, Mapping):
        return {key: _as_data(one) for key, one in value.items()}
    return [_as_data(one) for one in value] if isinstance(value, list | tuple) else value
