r"""Which local files may be read: regular files inside the allowed folders, and nothing hidden.

First a path or a `file://` URL is checked by its text alone. On Windows it may name another machine (`\\server\share`),
a device (`CON`, `\\.\pipe\x`) or a second stream of a file (`a.png:x`); even to look whether such a path exists
connects to the machine and sends it the user's password hash. RFC 8089 says how `file:` URLs are written, with drive
letters in its appendix E. Then the real path must be below one of the roots, and is opened without following links.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge, UnsafeSource
from rotoscope.media.lookalikes import find_lookalike, find_similar

__all__ = ["Roots", "check_path_name", "default_roots", "local_path", "open_local_file", "path_of_url"]

_WINDOWS = os.name == "nt"
_MAX_PATH_LENGTH = 4096  # characters; no system takes longer ones
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER_FLAGS = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)  # O_PATH needs no right to list the folder


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that files may be read from, and the folder that relative paths start at.

    Attributes:
        is_remote: whether those who name paths are on other machines, where the same path is another file.
    """

    folders: tuple[Path, ...]
    start: Path
    is_remote: bool = False


def default_roots(cwd: Path, home: Path | None) -> Roots:
    """The working directory and the home directory, as far as each exists and is not the top of the file system.

    Hosts start servers with `/` as working directory and service accounts have it as home: it would allow every file.
    """
    return Roots(tuple(folder for folder in (cwd, home) if folder is not None and not _is_filesystem_root(folder)), cwd)


@dataclass(frozen=True, slots=True)
class _RootedPath:
    """A real path below one of the roots, and that root's own real path."""

    path: Path
    root: Path


def open_local_file(text: str, roots: Roots, limit: int, resolve: Callable[[Path], str] = os.path.realpath) -> BinaryIO:
    """Open a file that a caller named, by path or `file://` URL, for reading; the caller closes it.

    Where no file has the name, the only one in the folder that looks the same is opened: see `media.lookalikes`.

    Args:
        text: an absolute path, one relative to `roots.start`, or one that begins with `~/`.
        roots: where files may be read from.
        limit: the largest file that is opened, in bytes.
        resolve: gives the real path of a path, with all links followed.

    Raises:
        UnsafeSource: it is outside the roots, hidden, or on another machine.
        InvalidInput: there is no such file, it is no regular file, or the text is no path.
        TooLarge: it has more than `limit` bytes.
    """
    named = roots.start / local_path(text)
    if text.rstrip().endswith(("/", os.sep)):
        raise InvalidInput(
            f"{named.name!r} is named as a folder.", hint="Give the path of a file.", code="path_invalid"
        )
    place = _check_allowed(named, roots, resolve)
    try:
        return _open_regular(place, limit)
    except FileNotFoundError as error:
        alike = find_lookalike(place.path, place.root)
        if alike is None:
            raise _missing_file_error(place.path) from error
    try:
        return _open_regular(_check_allowed(alike, roots, resolve), limit)
    except FileNotFoundError as error:
        raise _missing_file_error(place.path) from error


def local_path(text: str) -> Path:
    """A path or a `file://` URL as a path, with the home folder in place of `~`. The disk is not read.

    Raises:
        InvalidInput: it cannot be a path.
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
    """`~/a` with the home folder; `~user` is refused, because the answer would tell whether there is such a user."""
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


def _check_allowed(path: Path, roots: Roots, resolve: Callable[[Path], str]) -> _RootedPath:
    """The real path, if it is below a root and no part of it is hidden. Nothing tells yet whether it exists."""
    if roots.is_remote and not roots.folders:
        raise _remote_path_error(roots)
    try:
        real, tops = Path(resolve(path)), [Path(resolve(folder)) for folder in roots.folders]
    except (OSError, ValueError) as error:  # a folder was replaced meanwhile, or no file system has such names
        raise _path_changed_error() from error
    inside = [top for top in tops if real.is_relative_to(top)]
    for top in inside:
        if not any(part.startswith(".") for part in real.relative_to(top).parts):
            return _RootedPath(real, top)
    if roots.is_remote and not inside:
        raise _remote_path_error(roots)
    places = ", ".join(map(str, roots.folders)) or "none"
    raise UnsafeSource(
        "Hidden files and folders are not read." if inside else "The path is outside the folders that may be read.",
        hint=f"Copy the file into one of: {places}; or let the operator set ROTOSCOPE_ROOTS.",
        code="path_denied",
    )


def _remote_path_error(roots: Roots) -> UnsafeSource:
    places = ", ".join(map(str, roots.folders))
    own = f" Of the server's own files those in {places} are read." if places else ""
    return UnsafeSource(
        "This server is on another machine, and does not read the files of yours.",
        hint=f"Call upload_media to bring the file here, or give an https URL.{own}",
        code="path_denied",
    )


def _open_regular(place: _RootedPath, limit: int) -> BinaryIO:
    """Open the file that was checked, without following a link and without waiting for the other end of a pipe.

    Raises:
        FileNotFoundError: there is no such file.
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
    """Open every folder of the path in turn, from the root on, and follow no link.

    The path was real when it was checked. If a link has replaced one of its folders since then, opening fails; if a
    folder was moved away, the file that is opened was below the root at the time of the check.
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
    """Open by the whole path, on systems without `dir_fd`, and check that it still leads to the same file."""
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


_DRIVE = re.compile(r"/+(?P<drive>[A-Za-z])[:|](?=[/\\]|$)")
_DRIVE_HOST = re.compile(r"[A-Za-z][:|]")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?", re.IGNORECASE)


def path_of_url(text: str, *, windows: bool) -> str:
    """The path of a `file://` URL.

    Raises:
        UnsafeSource: it names another machine.
        ValueError: it is not a URL.
    """
    parts = urlsplit(text)
    host, path = parts.netloc, unquote(parts.path)
    if windows and _DRIVE_HOST.fullmatch(host):
        host, path = "", f"/{host}{path}"  # file://C:/a.png, as many write it
    if host.lower() not in ("", "localhost") or (windows and _is_network_path(path) and not _DRIVE.match(path)):
        # Without its host it would be checked, and read, as a file of this machine.
        raise UnsafeSource(
            "The file:// link names another machine.", hint="Write file:/// and an absolute path.", code="path_denied"
        )
    drive = _DRIVE.match(path) if windows else None
    return f"{drive['drive']}:{path[drive.end() :] or '/'}" if drive else path


def check_path_name(path: str, *, windows: bool) -> None:
    """Refuse a path whose text alone shows that it is no plain file of this machine.

    Raises:
        UnsafeSource: it names another machine.
        InvalidInput: it names a device or a second stream of a file.
    """
    if not windows:
        return
    if _is_network_path(path):
        raise UnsafeSource(
            "The path names another machine or a device.",
            hint="Copy the file to this machine, and give its path there.",
            code="path_denied",
        )
    names = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:", "", path))
    if any(_DEVICE.fullmatch(name) or ":" in name for name in names):
        raise InvalidInput(
            "The path names a device or a second stream of a file.",
            hint="Give the path of a plain file.",
            code="path_invalid",
        )


def _is_network_path(path: str) -> bool:
    return re.match(r"[/\\]{2}", path) is not None
