"""Where the files of an export are written: all of them or none, and never over what is there unless that is wanted."""

import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rotoscope.errors import InvalidInput, StorageFailed

__all__ = ["ExportTarget", "check_target", "place_files"]

_FILE_ENDINGS = frozenset({".json", ".xml", ".svg", ".png", ".txt", ".yaml"})
_STORED = frozenset({".png", ".jpg"})  # to compress them once more gains nothing
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same files give the same archive
_MAX_PARTS, _MAX_NAME = 2, 255  # folders and file; bytes


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """Where to write.

    Attributes:
        out: a file, a folder (it has no ending) or a `.zip`, as the user named it; None: by `name`, in the working
            directory.
        force: whether files that are there may be replaced.
        name: what the export is called, without an ending.
    """

    out: Path | None
    force: bool
    name: str


def check_target(target: ExportTarget) -> None:
    """Refuse early what is certain to be refused.

    Raises:
        InvalidInput: there is a file, or a folder with files, in that place.
    """
    place = target.out if target.out is not None else Path(target.name)
    if target.force:
        return
    is_folder = place.is_dir() and not place.is_symlink()
    if (is_folder and target.out is None and any(place.iterdir())) or (os.path.lexists(place) and not place.is_dir()):
        raise _exists_error(place)


def place_files(files: Mapping[str, Path], target: ExportTarget) -> Path:
    """Write files: one as a file, several into a folder, or all into an archive.

    Args:
        files: where each is now, by its name below the folder, with forward slashes.
        target: where to write.

    Returns:
        The file, the folder or the archive.

    Raises:
        InvalidInput: something is there already; or several files are to be one.
        StorageFailed: they cannot be written; nothing is left of them then, unless files were to be replaced.
    """
    _check_names(files)
    place = _choose_place(files, target)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix.lower() == ".zip":
            with _beside(place) as part:
                _write_archive(files, part)
                _move_file(part, place, force=target.force)
        elif len(files) == 1 and not place.is_dir():
            with _beside(place) as part:
                shutil.copyfile(next(iter(files.values())), part)
                _move_file(part, place, force=target.force)
        else:
            with _beside(place) as part:
                _copy_files(files, part)
                _move_folder(files, part, place, force=target.force)
    except OSError as error:
        raise StorageFailed(
            f"The export cannot be written to {place}: {error.strerror or error}.",
            hint="Name another place with --out.",
        ) from error
    return place


def _choose_place(files: Mapping[str, Path], target: ExportTarget) -> Path:
    name = next(iter(files))
    if target.out is None:
        return Path(target.name if len(files) > 1 else f"{target.name}{PurePosixPath(name).suffix}")
    out = target.out
    if len(files) == 1 and (out.is_dir() or not out.suffix):
        return out / PurePosixPath(name).name
    if len(files) > 1 and out.suffix.lower() in _FILE_ENDINGS and not out.is_dir():
        raise InvalidInput(
            f"This export has {len(files)} files, and {out.name} is the name of one.", hint="Name a folder or a .zip."
        )
    return out


def _check_names(files: Mapping[str, Path]) -> None:
    """Names come from a process that decodes foreign files: none may lead out of the folder.

    Raises:
        StorageFailed: one does; or there are no files.
    """
    for name in files:
        parts = name.split("/")
        if (
            len(parts) > _MAX_PARTS
            or any(part in ("", ".", "..") or len(part.encode()) > _MAX_NAME for part in parts)
            or any(one in '\\:*?"<>|' or not one.isprintable() for one in name)
        ):
            raise StorageFailed(f"A file of the export has a name that is not safe: {name[:80]!r}.", hint="Report it.")
    if not files or len({name.casefold() for name in files}) < len(files):
        raise StorageFailed("The export has no files, or two of one name.", hint="Try another format.")


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A path for a file or a folder that is not finished; nothing is left there at the end."""
    part = place.with_name(f".{place.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        yield part
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _write_archive(files: Mapping[str, Path], part: Path) -> None:
    with zipfile.ZipFile(part, "x") as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            is_packed = PurePosixPath(name).suffix in _STORED
            entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as into:
                shutil.copyfileobj(source, into)


def _copy_files(files: Mapping[str, Path], part: Path) -> None:
    part.mkdir()
    for name, path in files.items():
        target = part / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def _move_file(part: Path, place: Path, *, force: bool) -> None:
    if force:
        part.replace(place)
        return
    try:
        os.link(part, place)  # unlike a rename, this fails where a file has appeared meanwhile
    except FileExistsError:
        raise _exists_error(place) from None
    except OSError:  # a file system without links
        if os.path.lexists(place):
            raise _exists_error(place) from None
        part.replace(place)


def _move_folder(files: Mapping[str, Path], part: Path, place: Path, *, force: bool) -> None:
    """A new folder appears as a whole. In one that is there, files are replaced one by one, and others stay."""
    if not os.path.lexists(place):
        part.rename(place)
        return
    if not place.is_dir():
        raise _exists_error(place)
    for folder in {(place / name).parent for name in files}:
        if folder != place and folder.is_symlink():
            raise InvalidInput(f"{folder} is a link to another folder.", hint="Name another place with --out.")
    found = [place / name for name in files if os.path.lexists(place / name)]
    if found and not force:
        raise _exists_error(found[0])
    for name in files:
        (place / name).parent.mkdir(exist_ok=True)
        _move_file(part / name, place / name, force=force)


def _exists_error(place: Path) -> InvalidInput:
    return InvalidInput(f"{place} is there already.", hint="Add --force to replace it, or name another with --out.")
