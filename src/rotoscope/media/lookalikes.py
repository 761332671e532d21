"""File names that look alike: what a person, or a model, reads and writes again is not always what the disk has.

Screenshots of macOS have a narrow no-break space before AM, French ones a no-break space, phones put invisible marks
in front, and an accent may be one character or two.
"""

import os
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

__all__ = ["find_lookalike", "find_similar"]

_MAX_NAMES = 20_000  # in a folder
_QUOTE_VARIANTS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u2032`\u00b4", "'") | dict.fromkeys("\u201c\u201d", '"')
)


def find_lookalike(path: Path, top: Path) -> Path | None:
    """The path whose every name looks the same and is the only such name in its folder; None where there is none.

    Names look the same when they differ only in how accented letters are composed, in the kind of their blanks, and in
    characters that cannot be seen.

    Args:
        path: below `top`; it need not exist.
        top: a folder that exists.
    """
    found = top
    for part in path.relative_to(top).parts:
        if not os.path.lexists(found / part):
            names = [name for name in _names_in_folder(found) if _visible_form(name) == _visible_form(part)]
            if len(names) != 1:
                return None
            found /= names[0]
        else:
            found /= part
    return found


def find_similar(path: Path) -> str | None:
    """The only name in the folder that differs from the path's in case, quotes and hyphens at most, or None."""
    names = [name for name in _names_in_folder(path.parent) if _loose_form(name) == _loose_form(path.name)]
    return names[0] if len(names) == 1 else None


def _names_in_folder(folder: Path) -> Iterator[str]:
    """The names in a folder that is not hidden away; of too many, or where they cannot be read, none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MAX_NAMES + 1) if not entry.name.startswith(".")]
    except OSError:
        return iter(())
    return iter(names if len(names) <= _MAX_NAMES else ())


def _visible_form(name: str) -> str:
    """How a name looks."""
    kinds = ((character, unicodedata.category(character)) for character in unicodedata.normalize("NFC", name))
    return "".join(" " if kind == "Zs" else character for character, kind in kinds if kind != "Cf").strip()


def _loose_form(name: str) -> str:
    """How a name sounds."""
    plain = unicodedata.normalize("NFKC", _visible_form(name)).translate(_QUOTE_VARIANTS).casefold()
    return "".join("-" if unicodedata.category(character) == "Pd" else character for character in plain)
