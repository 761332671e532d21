"""Labels and names that every format can hold: cleaned, bounded, and still apart where they were. Pure."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field

from rotoscope.contracts.characters import one_line, replace_surrogates_in_text, visible_text

__all__ = ["UNNAMED", "LabelTable", "clean_label", "make_file_name", "make_slug", "replace_extension"]

UNNAMED = "mask"
"""The label of a mask that has none."""
_MAX_LABEL = 200  # characters
_MAX_SLUG_BYTES, _MAX_NAME_BYTES = 60, 120  # bytes of UTF-8, far below the 255 of a file system
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)  # names of devices on Windows
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*]')
_NOT_IN_SLUGS = re.compile(r"[^\w]+")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}$")


def clean_label(text: str) -> str:
    """A label as one line of visible characters, in composed form; `mask` where nothing is left of it."""
    return one_line(_composed_text(text), _MAX_LABEL) or UNNAMED


def _composed_text(text: str) -> str:
    """The visible characters of a text in composed form, without unassigned ones: U+FFFE is in no XML."""
    seen = visible_text(replace_surrogates_in_text(text))
    return unicodedata.normalize("NFC", "".join(one for one in seen if unicodedata.category(one) != "Cn"))


@dataclass(slots=True)
class LabelTable:
    """The labels of a format with a limit on their length: numbered as they come, from 0 on; different ones stay so.

    Attributes:
        limit: how many characters a label has at most.
        names: all labels as the format has them, in the order of their numbers.
    """

    limit: int = _MAX_LABEL
    names: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def number(self, label: str) -> int:
        """The place of a label in `names`."""
        if label not in self._numbers:
            name = _make_distinct(label, self.limit, self._taken)
            self._numbers[label] = len(self.names)
            self._taken.add(name)
            self.names.append(name)
        return self._numbers[label]

    def name(self, label: str) -> str:
        """The label as the format has it."""
        return self.names[self.number(label)]


def _make_distinct(label: str, limit: int, taken: Collection[str]) -> str:
    name, number = label[:limit].rstrip(), 2
    while name in taken:
        ending = f" {number}"
        name, number = label[: limit - len(ending)].rstrip() + ending, number + 1
    return name


def make_slug(label: str) -> str:
    """A label as a part of a file's name: letters and digits of any script, and hyphens."""
    slug = _NOT_IN_SLUGS.sub("-", unicodedata.normalize("NFC", label)).strip("-_")
    return _cut_to_bytes(slug, _MAX_SLUG_BYTES).rstrip("-_") or UNNAMED


def make_file_name(name: str, extension: str | None = None) -> str:
    """A name that every file system takes, and that leads into no other folder.

    Args:
        name: as who gave the picture calls it.
        extension: with its dot; None: the one that it has.
    """
    last = one_line(_composed_text(name), 4 * _MAX_NAME_BYTES)
    last = _NOT_IN_NAMES.sub("-", last.replace("\\", "/").rpartition("/")[2]).strip(". ")
    found = _EXTENSION.search(last)
    stem, own = (last[: found.start()], found.group()) if found else (last, "")
    stem = _cut_to_bytes(stem, _MAX_NAME_BYTES).strip(". -") or "picture"
    if _RESERVED.match(stem):
        stem = f"_{stem}"
    return stem + (own if extension is None else extension)


def replace_extension(name: str, extension: str) -> str:
    """A file's name with another extension, which has its dot."""
    return _EXTENSION.sub("", name) + extension


def _cut_to_bytes(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
