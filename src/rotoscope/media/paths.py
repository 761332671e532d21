"""Which local files may be read: regular files inside the allowed folders, and nothing hidden."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, UnsafeSource
from rotoscope.media.file_urls import judge_path, path_of_url

__all__ = ["Roots", "default_roots", "local_path", "open_file"]

_WINDOWS = os.name == "nt"
_LONGEST_PATH = 4096  # characters


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that files may be read from, and the folder that relative paths start at."""

    folders: tuple[Path, ...]
    start: Path


def default_roots(cwd: Path, home: Path | None) -> Roots:
    """The working directory and the home directory, if there is one; neither where it is the top of the file system.

    Hosts start servers there, and service accounts have it for a home: it would open everything.
    """
    return Roots(tuple(folder for folder in (cwd, home) if folder is not None and not _is_top(folder)), cwd)


def open_file(text: str, roots: Roots, limit: int) -> BinaryIO:
    """Open a file that a caller named, by path or `file://` URL, for reading; the caller closes it.

    Args:
        text: an absolute path, one relative to `roots.start`, or one that begins with `~`.
        roots: where files may be read from.
        limit: the largest file that is opened, in bytes.

    Raises:
        UnsafeSource: outside the roots, hidden, or on another machine.
        InvalidInput: no such file, no regular file, or no path at all.
        TooLarge: more than `limit` bytes.
    """
    return _open_regular(_allowed(_named(text, roots.start), roots.folders), limit)


def local_path(text: str) -> Path:
    """The path that a path or a `file://` URL means; nothing is looked up.

    Raises:
        InvalidInput: it can be no path.
        UnsafeSource: the URL names another machine.
    """
    try:
        path = path_of_url(text, windows=_WINDOWS) if text.lower().startswith("file://") else text
        os.fsencode(path)
    except ValueError as error:
        raise _unusable() from error
    if "\x00" in path or len(path) > _LONGEST_PATH:
        raise _unusable()
    judge_path(path, windows=_WINDOWS)
    return Path(path)


def _unusable() -> InvalidInput:
    return InvalidInput("The path is not usable.", hint="Give a path or an https URL.", code="path_invalid")


def _is_top(folder: Path) -> bool:
    real = Path(os.path.realpath(folder))
    return real == real.parent


def _named(text: str, start: Path) -> Path:
    try:
        return start / local_path(text).expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            "The path names an unknown user.", hint="Give an absolute path.", code="path_invalid"
        ) from error


def _allowed(path: Path, folders: Sequence[Path]) -> Path:
    """The real path, judged before anything says whether it exists."""
    real = Path(os.path.realpath(path))
    for folder in folders:
        below = _below(real, Path(os.path.realpath(folder)))
        if below is not None and not any(part.startswith(".") for part in below.parts):
            return real
    hidden = any(_below(real, Path(os.path.realpath(folder))) is not None for folder in folders)
    places = ", ".join(str(folder) for folder in folders) or "none"
    raise UnsafeSource(
        "Hidden files and folders are not read." if hidden else "The path is outside the folders that may be read.",
        hint=f"Copy the file into one of: {places}; or let the operator set ROTOSCOPE_ROOTS.",
        code="path_denied",
    )


def _below(real: Path, folder: Path) -> Path | None:
    return real.relative_to(folder) if real.is_relative_to(folder) else None


def _open_regular(real: Path, limit: int) -> BinaryIO:
    """Open without following a link that was put there meanwhile, and without waiting for a pipe's other end."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        opened = os.open(real, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(
            f"There is no file {real.name!r} at that path.",
            hint="Give an absolute path to an existing file, or an https URL.",
            code="path_missing",
        ) from error
    except OSError as error:
        raise InvalidInput(
            f"The file {real.name!r} cannot be opened.", hint="Check its permissions.", code="path_invalid"
        ) from error
    try:
        _check_regular(real.name, os.fstat(opened), limit)
    except RotoscopeError:
        os.close(opened)
        raise
    return os.fdopen(opened, "rb")


def _check_regular(name: str, facts: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        raise InvalidInput(f"{name!r} is {kind}.", hint="Give the path of a file.", code="path_invalid")
    if facts.st_size > limit:
        raise TooLarge(
            f"The file has {facts.st_size / 1e6:.1f} MB; at most {limit / 1e6:g} MB are read.",
            hint="Use a smaller file.",
        )
