"""The facts about this machine and this installation, each gathered at one place; `machine_checks` judges them."""

import difflib
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rotoscope import __version__
from rotoscope.environment import SETTINGS
from rotoscope.errors import InvalidInput
from rotoscope.ownership import find_fault
from rotoscope.settings import Settings, read_settings

__all__ = [
    "FolderFacts",
    "HomeFacts",
    "InstallationFacts",
    "PackageFacts",
    "RefusedSetting",
    "SettingsFacts",
    "gather_home",
    "gather_installation",
    "gather_settings",
    "read_usable_settings",
]

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?P<terms>[^;]*?)\s*(?:;\s*(?P<marker>.*))?")
_MARKED_FOR = re.compile(r"extra\s*==\s*[\"'](?P<extra>[a-z]+)[\"']")
_MAX_FILES = 100  # of the home folder that are looked at
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """A package that is needed: the terms on its version, as `>=2.3,<3`, and the installed version, None without."""

    name: str
    terms: str
    installed: str | None
    extra: str = ""


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """What runs here.

    Attributes:
        python, system, version: of Python, the operating system and rotoscope.
        packages: what rotoscope needs.
        can_hand_over: whether this system can hand a session over, which the fast start needs.
        fast_start_obstacle: why it is off all the same; empty where it is on.
    """

    python: tuple[int, int, int]
    system: str
    version: str
    packages: tuple[PackageFacts, ...]
    can_hand_over: bool
    fast_start_obstacle: str


@dataclass(frozen=True, slots=True)
class RefusedSetting:
    """A variable whose value cannot be used."""

    name: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder that files may be read from, and whether it is there."""

    path: Path
    exists: bool


@dataclass(frozen=True, slots=True)
class SettingsFacts:
    """How the environment is understood.

    Attributes:
        refused: the variables whose values cannot be used.
        unknown: the variables that look like ours and are not, each with the nearest name there is, or "".
        is_set: the names of ours that are set.
        roots: the folders of local files over stdio; `roots_are_set` says whether the operator named them.
    """

    refused: tuple[RefusedSetting, ...]
    unknown: tuple[tuple[str, str], ...]
    is_set: tuple[str, ...]
    roots: tuple[FolderFacts, ...]
    roots_are_set: bool


@dataclass(frozen=True, slots=True)
class HomeFacts:
    """How the home folder is.

    Attributes:
        path: of the folder.
        exists: whether it is there; it is made at the first use.
        fault: why what it holds cannot be trusted; empty where it can.
        write_fault: why nothing can be written in it, or in the folder that it would be made in; empty where it can.
        open_to_others: its mode where others may read in it; None where they may not.
        open_files: those of its files that others may read, with their modes.
        free_bytes: of its disk; None where that cannot be known.
        weights: the file of the sandbox's weights; `has_weights`: whether it is there.
    """

    path: Path
    exists: bool
    fault: str
    write_fault: str
    open_to_others: int | None
    open_files: tuple[tuple[str, int], ...]
    free_bytes: int | None
    weights: Path
    has_weights: bool


def gather_installation(environ: Mapping[str, str], platform_name: str) -> InstallationFacts:
    """What is installed here. It reads the metadata of packages and the stored replies of the fast start.

    Args:
        environ: the environment without what cannot be used of it.
        platform_name: as `sys.platform` has it.
    """
    from rotoscope.cli.stored_replies import read_stored_replies

    can_hand_over = platform_name != "win32"
    return InstallationFacts(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        system=f"{platform.system()} {platform.machine()}".strip(),
        version=__version__,
        packages=tuple(_needed_packages()),
        can_hand_over=can_hand_over,
        fast_start_obstacle=read_stored_replies(environ)[1],
    )


def _needed_packages() -> Iterator[PackageFacts]:
    try:
        needed = metadata.requires("rotoscope") or []
    except metadata.PackageNotFoundError:  # a copy of the source on the search path
        return
    for line in needed:
        found = _REQUIREMENT.fullmatch(line.strip())
        if found is None or (found["marker"] and "extra" not in found["marker"]):
            continue
        extra = _MARKED_FOR.search(found["marker"] or "")
        try:
            installed: str | None = metadata.version(found["name"])
        except metadata.PackageNotFoundError:
            installed = None
        yield PackageFacts(found["name"], found["terms"], installed, extra["extra"] if extra else "")


def read_usable_settings(environ: Mapping[str, str]) -> tuple[Settings, tuple[RefusedSetting, ...]]:
    """The settings as if the variables that cannot be used were not set; and those.

    Raises:
        InvalidInput: there is neither a home folder nor a working directory.
    """
    refused, usable = [], dict(environ)
    for setting in SETTINGS:
        try:
            setting.read(environ)
        except InvalidInput as error:
            refused.append(RefusedSetting(setting.name, error.message, error.hint))
            usable.pop(setting.name, None)
    return read_settings(usable), tuple(refused)


def gather_settings(
    environ: Mapping[str, str], settings: Settings, refused: tuple[RefusedSetting, ...], roots: tuple[Path, ...]
) -> SettingsFacts:
    """How the environment is understood, and whether the folders of local files are there.

    Args:
        environ: the environment.
        settings: as it was understood.
        refused: what could not be used of it.
        roots: the folders that an assistant's paths may lead to over stdio.
    """
    known = {setting.name: setting for setting in SETTINGS}
    ours = sorted(name for name in environ if name.startswith("ROTOSCOPE_"))
    unknown = [name for name in ours if name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.6) for name in unknown}
    return SettingsFacts(
        refused=refused,
        unknown=tuple((name, next(iter(near[name]), "")) for name in unknown),
        is_set=tuple(name for name in ours if name in known and settings.variable(name) is not None),
        roots=tuple(FolderFacts(folder, folder.is_dir()) for folder in roots),
        roots_are_set=settings.roots is not None,
    )


def gather_home(settings: Settings) -> HomeFacts:
    """How the home folder is. In one that is there a file is made and removed at once."""
    home = settings.home
    exists = home.is_dir()
    nearest = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    is_open, open_files = _look_at_modes(home) if exists else (None, ())
    return HomeFacts(
        path=home,
        exists=exists,
        fault=(find_fault(home) or "") if exists else "",
        write_fault=_write_fault(nearest),
        open_to_others=is_open,
        open_files=open_files,
        free_bytes=_free_bytes(nearest),
        weights=settings.sandbox_weights,
        has_weights=settings.sandbox_weights.is_file(),
    )


def _write_fault(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            return ""
    except OSError as error:
        return f"{folder}: {error.strerror or error}"


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _look_at_modes(home: Path) -> tuple[int | None, tuple[tuple[str, int], ...]]:
    """The mode of a folder that others may read in, else None; and the files in it that others may read."""
    if not hasattr(os, "geteuid"):
        return None, ()
    mode = stat.S_IMODE(home.stat().st_mode)
    with os.scandir(home) as entries:
        files = [entry for _, entry in zip(range(_MAX_FILES), entries, strict=False) if entry.is_file()]
    modes = sorted((entry.name, stat.S_IMODE(entry.stat().st_mode)) for entry in files)
    return (mode if mode & _OTHERS else None), tuple((name, one) for name, one in modes if one & _OTHERS)
