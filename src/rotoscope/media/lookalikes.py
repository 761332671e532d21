"""File names that look alike: a name that a person or a model has read and typed again may differ from the disk's.

Screenshots of macOS have a narrow no-break space before AM, French ones a no-break space, phones put invisible marks
in front, and an accented letter may be one character or two.
"""

import os
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

__all__ = ["find_lookalike", "find_similar"]

_MAX_NAMES = 20_000  # names in a folder; to compare more takes too long while somebody waits
_QUOTE_VARIANTS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u2032`\u00b4", "'") | dict.fromkeys("\u201c\u201d", '"')
)


def find_lookalike(path: Path, top: Path) -> Path | None:
    """The existing path that looks the same, name by name; None where a name has no lookalike, or several.

    Names look the same when they differ only in how accented letters are composed, in the kind of their blanks, and in
    invisible characters.

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
    """The only name in the path's folder that differs at most in case, quotes and hyphens; None: none, or several."""
    names = [name for name in _names_in_folder(path.parent) if _loose_form(name) == _loose_form(path.name)]
    return names[0] if len(names) == 1 else None


def _names_in_folder(folder: Path) -> Iterator[str]:
    """The names in a folder that are not hidden; none where there are too many, or where they cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MAX_NAMES + 1) if not entry.name.startswith(".")]
    except OSError:
        return iter(())
    return iter(names if len(names) <= _MAX_NAMES else ())


def _visible_form(name: str) -> str:
    """A name without invisible characters, composed, with plain blanks (Unicode: Zs to space, Cf removed, NFC)."""
    kinds = ((character, unicodedata.category(character)) for character in unicodedata.normalize("NFC", name))
    return "".join(" " if kind == "Zs" else character for character, kind in kinds if kind != "Cf").strip()


def _loose_form(name: str) -> str:
    """A name with plain quotes and hyphens, in lower case (Unicode: NFKC, casefold, Pd to hyphen)."""
    plain = unicodedata.normalize("NFKC", _visible_form(name)).translate(_QUOTE_VARIANTS).casefold()
    return "".join("-" if unicodedata.category(character) == "Pd" else character for character in plain)
