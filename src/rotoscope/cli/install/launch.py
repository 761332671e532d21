"""How a client starts this very installation of ours: by whole paths, because its own `PATH` may be empty."""

import json
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from rotoscope.cli.clients.entries import Launch
from rotoscope.errors import InvalidInput

__all__ = ["Installation", "find_launch", "read_installation"]

_UV_CACHE = re.compile(r"(?:archive|environments|builds)-v\d+")
_NAMES = ("rotoscope", "rotoscope.exe")


@dataclass(frozen=True, slots=True)
class Installation:
    """Where this process runs from.

    Attributes:
        python: the interpreter, by its own path and not that of what it links to: it knows its environment by it.
        script_folders: where commands of this Python are installed.
        uvx: the `uvx` that would run us again, where one is found.
        requirement: what `uvx` has installed us from; a name, or an address.
    """

    python: Path
    script_folders: tuple[Path, ...]
    uvx: Path | None
    requirement: str

    @property
    def is_cached(self) -> bool:
        """Whether it is a copy that uv has made for one run, and clears at times."""
        return any(_UV_CACHE.fullmatch(part) for part in self.python.parts)


def read_installation(environ: Mapping[str, str]) -> Installation:
    """Where this process runs from.

    Raises:
        InvalidInput: the interpreter is not known.
    """
    if not sys.executable:
        raise InvalidInput(
            "This Python does not know its own path, so no client could start it.",
            hint="Install rotoscope with pip or uv and run its own command.",
        )
    python = Path(sys.executable)
    folders = (python.parent, Path(sysconfig.get_path("scripts")), Path(sysconfig.get_path("scripts", _user_scheme())))
    return Installation(python, folders, _find_uvx(environ), _read_requirement())


def find_launch(found: Installation, environment: Mapping[str, str], exists: Callable[[Path], bool]) -> Launch:
    """The command that starts the server of an installation.

    Args:
        found: the installation.
        environment: what is set for the server.
        exists: whether a file is there.

    Raises:
        InvalidInput: it runs from a cache that is cleared, and nothing that would run it again was found.
    """
    if found.is_cached:
        if found.uvx is None:
            raise InvalidInput(
                "rotoscope runs from uv's cache, which is cleared at times, and uvx was not found.",
                hint="Run uv tool install rotoscope, then rotoscope install again.",
            )
        source = ("--from", found.requirement) if found.requirement != "rotoscope" else ()
        return Launch(str(found.uvx), (*source, "rotoscope", "serve"), environment)
    for folder in found.script_folders:
        for name in _NAMES:
            if exists(folder / name):
                return Launch(str(folder / name), ("serve",), environment)
    return Launch(str(found.python), ("-m", "rotoscope", "serve"), environment)


def _user_scheme() -> str:
    return sysconfig.get_preferred_scheme("user")


def _find_uvx(environ: Mapping[str, str]) -> Path | None:
    """The `uvx` beside the `uv` that has started us, else the one on the path."""
    uv = environ.get("UV", "")
    for name in ("uvx", "uvx.exe"):
        if uv and (beside := Path(uv).with_name(name)).is_file():
            return beside
    found = shutil.which("uvx", path=environ.get("PATH"))
    return None if found is None else Path(found).absolute()


def _read_requirement() -> str:
    """What we were installed from: our name, or the address that pip and uv record (PEP 610)."""
    try:
        text: str | None = distribution("rotoscope").read_text("direct_url.json")
    except PackageNotFoundError:
        return "rotoscope"
    if text is None:
        return "rotoscope"
    origin: Any = json.loads(text)
    version = origin.get("vcs_info")
    return f"{version['vcs']}+{origin['url']}@{version['commit_id']}" if version else str(origin["url"])
