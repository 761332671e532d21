"""Which local files may be read: regular files inside the allowed folders, and nothing hidden."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, UnsafeSource
from rotoscope.media.file_urls import check_path_name, path_of_url
from rotoscope.media.lookalikes import find_lookalike, find_similar

__all__ = ["Roots", "default_roots", "local_path", "open_local_file"]

_WINDOWS = os.name == "nt"
_MAX_PATH_LENGTH = 4096  # characters
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)  # which needs no right to list what is in it


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that files may be read from, and the folder that relative paths start at."""

    folders: tuple[Path, ...]
    start: Path


def default_roots(cwd: Path, home: Path | None) -> Roots:
    """The working directory and the home directory, if there is one; neither where it is the top of the file system.

    Hosts start servers there, and service accounts have it for a home: it would open everything.
    """
    return Roots(tuple(folder for folder in (cwd, home) if folder is not None and not _is_filesystem_root(folder)), cwd)


@dataclass(frozen=True, slots=True)
class _RootedPath:
    """A real path below one of the roots, and that root's own real path."""

    path: Path
    root: Path


def open_local_file(text: str, roots: Roots, limit: int, resolve: Callable[[Path], str] = os.path.realpath) -> BinaryIO:
    """Open a file that a caller named, by path or `file://` URL, for reading; the caller closes it.

    A name that nothing has is taken for the only one in its folder that looks the same.

    Args:
        text: an absolute path, one relative to `roots.start`, or one that begins with `~/`.
        roots: where files may be read from.
        limit: the largest file that is opened, in bytes.
        resolve: gives the real path of a path, with all links followed.

    Raises:
        UnsafeSource: outside the roots, hidden, or on another machine.
        InvalidInput: no such file, no regular file, or no path at all.
        TooLarge: more than `limit` bytes.
    """
    named = roots.start / local_path(text)
    if text.rstrip().endswith(("/", os.sep)):
        raise InvalidInput(
            f"{named.name!r} is named as a folder.", hint="Give the path of a file.", code="path_invalid"
        )
    place = _check_allowed(named, roots.folders, resolve)
    try:
        return _open_regular(place, limit)
    except FileNotFoundError as error:
        alike = find_lookalike(place.path, place.root)
        if alike is None:
            raise _missing_file_error(place.path) from error
    try:
        return _open_regular(_check_allowed(alike, roots.folders, resolve), limit)
    except FileNotFoundError as error:
        raise _missing_file_error(place.path) from error


def local_path(text: str) -> Path:
    """The path that a path or a `file://` URL means, with the home folder in place of `~`; nothing else is looked up.

    Raises:
        InvalidInput: it can be no path.
        UnsafeSource: the URL names another machine.
    """
    try:
        path = path_of_url(text, windows=_WINDOWS) if text.lower().startswith("file://") else text
        os.fsencode(path)
    except ValueError as error:
        raise _unusable_path_error() from error
    if "\x00" in path or len(path) > _MAX_PATH_LENGTH:
        raise _unusable_path_error()
    check_path_name(path, windows=_WINDOWS)
    return _expand_home(Path(path)) if path.startswith("~") else Path(path)


def _expand_home(path: Path) -> Path:
    """`~/a` with the home folder. Another user's is not looked up: the answer would tell whether there is one."""
    if path.parts[0] != "~":
        raise InvalidInput(
            "Only ~/ stands for a folder, that of the user whom the server runs for.",
            hint="Give an absolute path.",
            code="path_invalid",
        )
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InvalidInput(
            "The home folder is not known.", hint="Give an absolute path.", code="path_invalid"
        ) from error


def _unusable_path_error() -> InvalidInput:
    return InvalidInput("The path is not usable.", hint="Give a path or an https URL.", code="path_invalid")


def _is_filesystem_root(folder: Path) -> bool:
    real = Path(os.path.realpath(folder))
    return real == real.parent


def _check_allowed(path: Path, folders: Sequence[Path], resolve: Callable[[Path], str]) -> _RootedPath:
    """The real path, judged before anything says whether it exists."""
    try:
        real, tops = Path(resolve(path)), [Path(resolve(folder)) for folder in folders]
    except (OSError, ValueError) as error:  # a folder was exchanged meanwhile, or names that no file system has
        raise _path_changed_error() from error
    inside = [top for top in tops if real.is_relative_to(top)]
    for top in inside:
        if not any(part.startswith(".") for part in real.relative_to(top).parts):
            return _RootedPath(real, top)
    places = ", ".join(str(folder) for folder in folders) or "none"
    raise UnsafeSource(
        "Hidden files and folders are not read." if inside else "The path is outside the folders that may be read.",
        hint=f"Copy the file into one of: {places}; or let the operator set ROTOSCOPE_ROOTS.",
        code="path_denied",
    )


def _open_regular(place: _RootedPath, limit: int) -> BinaryIO:
    """Open what the path was judged as, without following a link and without waiting for a pipe's other end.

    Raises:
        FileNotFoundError: there is nothing.
    """
    name = place.path.name
    try:
        opened = _open_below_root(place) if os.open in os.supports_dir_fd else _open_and_compare(place)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError from error
    except PermissionError as error:
        raise InvalidInput(
            f"The file {name!r} cannot be opened.", hint="Check its permissions.", code="path_invalid"
        ) from error
    except OSError as error:
        raise _path_changed_error() from error
    try:
        _check_regular(name, os.fstat(opened), limit)
    except RotoscopeError:
        os.close(opened)
        raise
    return os.fdopen(opened, "rb")


def _open_below_root(place: _RootedPath) -> int:
    """Open by every folder in turn, from the root on, and follow no link.

    The path was real when it was judged. Whoever puts a link in the place of one of its folders since then gets an
    error, and who moves a folder away is still read below the root: what is opened was there.
    """
    *folders, name = place.path.relative_to(place.root).parts or (".",)
    with ExitStack() as closing:
        above = closing.enter_context(_open_folder(place.root, None))
        for folder in folders:
            above = closing.enter_context(_open_folder(folder, above))
        return os.open(name, _OPEN_FLAGS, dir_fd=above)


@contextmanager
def _open_folder(name: str | Path, above: int | None) -> Iterator[int]:
    opened = os.open(name, _OPEN_FLAGS | _FOLDER_FLAGS, dir_fd=above)
    try:
        yield opened
    finally:
        os.close(opened)


def _open_and_compare(place: _RootedPath) -> int:
    """Open by the whole path, for systems without the other way, and see that it still leads to the same file."""
    opened = os.open(place.path, _OPEN_FLAGS)
    try:
        same = (
            os.path.samestat(os.fstat(opened), os.lstat(place.path))
            and Path(os.path.realpath(place.path)) == place.path
        )
    except OSError:
        same = False
    if not same:
        os.close(opened)
        raise _path_changed_error()
    return opened


def _check_regular(name: str, facts: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "no regular file"
        raise InvalidInput(f"{name!r} is {kind}.", hint="Give the path of a file.", code="path_invalid")
    if facts.st_size > limit:
        raise TooLarge(
            f"The file has {facts.st_size / 1e6:.1f} MB; at most {limit / 1e6:g} MB are read.",
            hint="Use a smaller file.",
        )


def _missing_file_error(path: Path) -> InvalidInput:
    similar = find_similar(path)
    return InvalidInput(
        f"There is no file {path.name!r} at that path.",
        hint=f"Did you mean {similar!r}?"
        if similar is not None
        else "Give an absolute path to an existing file, or an https URL.",
        code="path_missing",
    )


def _path_changed_error() -> InvalidInput:
    return InvalidInput(
        "The path cannot be followed: one of its names is too long, or was changed while it was read.",
        hint="Give the path of a file that stays where it is.",
        code="path_invalid",
    )
