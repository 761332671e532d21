"""A client's configuration file: read whole and bounded, written whole and at once, with a copy of what was there."""

import codecs
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rotoscope.errors import InvalidInput, StorageFailed, TooLarge

__all__ = ["MAX_BYTES", "ConfigFile", "check_writable", "read_config", "remove_config", "write_config"]

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of a file that are read; Claude Code keeps its history beside its servers."""

_NEW_MODE = 0o600
_WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file as it was read.

    Attributes:
        path: where it really is: links are followed, so that a file kept elsewhere is changed there.
        raw: its bytes; None where there is no file.
        text: what it says, without a byte order mark.
        mark: the byte order mark, or nothing.
    """

    path: Path
    raw: bytes | None
    text: str
    mark: bytes

    def encode(self, text: str) -> bytes:
        """Another text as bytes of this file."""
        return self.mark + text.encode()


def read_config(path: Path) -> ConfigFile:
    """Read a file; one that is not there is empty.

    Raises:
        InvalidInput: it is no file of text in UTF-8.
        TooLarge: it is larger than any configuration.
        StorageFailed: it cannot be read.
    """
    try:
        real = path.resolve()
        if real.is_dir():
            raise InvalidInput(f"{path} is a folder.", hint="Name the file with --file.")
        if not real.exists():
            return ConfigFile(real, None, "", b"")
        with real.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # the latter: links in a circle
        raise StorageFailed(
            f"{path} cannot be read: {_reason(error)}.", hint="Correct its permissions, or name another with --file."
        ) from None
    if len(raw) > MAX_BYTES:
        raise TooLarge(f"{path} is larger than 16 MiB, which no configuration is.", hint="Add what --print shows.")
    mark = codecs.BOM_UTF8 if raw.startswith(codecs.BOM_UTF8) else b""
    try:
        return ConfigFile(real, raw, raw[len(mark) :].decode(), mark)
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text in UTF-8.", hint="Save it as UTF-8 and try again.") from None


def check_writable(path: Path) -> None:
    """Look whether a file can be replaced, without changing anything.

    Raises:
        StorageFailed: it cannot.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    for place, word in ((path, "file"), (folder, "folder")):
        if place.exists() and not (place.stat().st_mode & _WRITE_BITS and os.access(place, os.W_OK)):
            raise StorageFailed(
                f"The {word} {place} is read-only.",
                hint="Make it writable and try again, or add by hand what --print shows.",
            )


def write_config(before: ConfigFile, text: str, now: datetime) -> Path | None:
    """Replace a file by a text, all at once, and keep what was there beside it.

    Args:
        before: the file as it was read.
        text: its new text.
        now: when, for the name of the copy.

    Returns:
        The copy of what was there; None where there was no file.

    Raises:
        StorageFailed: it cannot be written, or somebody else has changed it meanwhile.
    """
    path = before.path
    try:
        _check_unchanged(before)
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = None if before.raw is None else _keep_copy(path, now)
        _replace(path, before.encode(text))
    except OSError as error:
        raise _write_error(path, error) from None
    return copy


def remove_config(before: ConfigFile) -> None:
    """Remove a file that was made by us and holds nothing else.

    Raises:
        StorageFailed: it cannot be removed, or somebody else has changed it meanwhile.
    """
    try:
        _check_unchanged(before)
        before.path.unlink()
    except OSError as error:
        raise _write_error(before.path, error) from None


def _write_error(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{path} cannot be written: {_reason(error)}.",
        hint="Make it writable and try again, or add by hand what --print shows.",
    )


def _check_unchanged(before: ConfigFile) -> None:
    current = before.path.read_bytes() if before.path.exists() else None
    if current != before.raw:
        raise StorageFailed(
            f"{before.path} was changed by another program just now; nothing was written.",
            hint="Close the client and try again.",
        )


def _keep_copy(path: Path, now: datetime) -> Path:
    stamp = now.astimezone(UTC).strftime("%Y%m%d-%H%M%S")
    number = 0
    while True:
        copy = path.with_name(f"{path.name}.{stamp}{f'-{number}' if number else ''}.bak")
        with suppress(FileExistsError):
            # Made for its owner alone first: it holds what the file holds, which may be keys of other servers.
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _NEW_MODE))
            shutil.copyfile(path, copy)
            shutil.copystat(path, copy)
            return copy
        number += 1


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            facts = path.stat()
            temporary.chmod(stat.S_IMODE(facts.st_mode))
            if hasattr(os, "chown") and (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(temporary, facts.st_uid, facts.st_gid)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "its links lead in a circle"
