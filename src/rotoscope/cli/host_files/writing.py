"""Write the files for hosts, or say which are out of date; make the entry of a release."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rotoscope.cli.host_files.claude_plugin import make_plugin_files
from rotoscope.cli.host_files.facts import CHECKOUT, NO_OWNER, ProjectFacts, read_facts
from rotoscope.cli.host_files.gemini import make_extension_files
from rotoscope.cli.host_files.icon import ICON_PATHS, draw_icon
from rotoscope.cli.host_files.launch import PACKAGE
from rotoscope.cli.host_files.mcpb import make_bundle_files
from rotoscope.cli.host_files.registry import Bundle, make_registry_file, server_document
from rotoscope.cli.host_files.snippets import make_snippet_files
from rotoscope.cli.host_files.texts import HostFile, json_text
from rotoscope.errors import InvalidInput, RotoscopeError

__all__ = ["is_same_picture", "make_host_files", "make_release_entry", "write_host_files"]

_RELEASE_ARGUMENTS = 3
_SAME_LEVELS = 2  # of 255, in each channel


def write_host_files(arguments: Sequence[str]) -> int:
    """Write every file.

    Args:
        arguments: `--check`: only say which ones are out of date; `--release BUNDLE OUT`: write the entry of a release.
    """
    facts = read_facts()
    if arguments[:1] == ["--release"] and len(arguments) == _RELEASE_ARGUMENTS:
        return _write_release_entry(facts, Path(arguments[1]), Path(arguments[2]))
    is_check = "--check" in arguments
    outdated = _write_outdated(facts, CHECKOUT / "manifests", is_check=is_check)
    for path in outdated:
        print(f"manifests/{path} {'is out of date: run `make manifests`.' if is_check else 'was written.'}")
    return int(bool(outdated) and is_check)


def make_host_files(facts: ProjectFacts) -> tuple[HostFile, ...]:
    """Every file that is text; the icons come beside them."""
    return (
        make_registry_file(facts),
        *make_bundle_files(facts),
        *make_plugin_files(facts),
        *make_extension_files(facts),
        *make_snippet_files(facts),
    )


def make_release_entry(facts: ProjectFacts, bundle: Path) -> str:
    """The server.json of a release, with its bundle.

    Raises:
        InvalidInput: nobody is named who publishes it.
    """
    if facts.owner == NO_OWNER:
        raise InvalidInput(
            "A release needs the account that publishes it.",
            hint="Set owner in [tool.rotoscope] of pyproject.toml, then run `make manifests docs`.",
        )
    url = f"{facts.repository}/releases/download/v{facts.version}/{PACKAGE}.mcpb"
    return json_text(server_document(facts, Bundle(url, hashlib.sha256(bundle.read_bytes()).hexdigest())))


def is_same_picture(file: Path, wanted: Image.Image) -> bool:
    """Whether a file shows the same; its bytes differ by the version of the library that packed it."""
    if not file.is_file():
        return False
    with Image.open(file) as opened:
        found = opened.convert("RGB")
    if found.size != wanted.size:
        return False
    return not np.any(np.abs(np.asarray(found, int) - np.asarray(wanted.convert("RGB"), int)) > _SAME_LEVELS)


def _write_outdated(facts: ProjectFacts, folder: Path, *, is_check: bool) -> list[str]:
    """The paths of the files that were out of date."""
    outdated = []
    for file in make_host_files(facts):
        path = folder / file.path
        if not path.is_file() or path.read_text(encoding="utf-8") != file.text:
            outdated.append(file.path)
            if not is_check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file.text, encoding="utf-8")
    icon = draw_icon()
    for name in ICON_PATHS:
        if not is_same_picture(folder / name, icon):
            outdated.append(name)
            if not is_check:
                icon.save(folder / name, optimize=True)
    return outdated


def _write_release_entry(facts: ProjectFacts, bundle: Path, out: Path) -> int:
    try:
        out.write_text(make_release_entry(facts, bundle), encoding="utf-8")
    except RotoscopeError as error:
        print(f"rotoscope: {error.message} {error.hint}", file=sys.stderr)
        return 1
    return 0
