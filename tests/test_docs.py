"""The documents name what is there."""

import re
from pathlib import Path

import pytest

from rotoscope.cli.clients.table import CLIENTS

TOP = Path(__file__).parents[1]
SOURCES = (TOP, TOP / "src" / "rotoscope", TOP / "src")
DOCUMENTS = sorted((*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")))
_MENTION = re.compile(r"`([a-z_./]+\.(?:py|toml|json|md)|[a-z_/]+/)`")
_LINK = re.compile(r"\]\(([^)#:]+)\)")
_OF_A_HOME = ("models/", "made/", "vault/")  # folders in the user's ROTOSCOPE_HOME
_OF_CLIENTS = ("claude_desktop_config.json", *(one.project_file for one in CLIENTS.values()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        return  # it tells of what was
    text = document.read_text(encoding="utf-8")
    mentioned = {name for name in _MENTION.findall(text) if name not in (*_OF_A_HOME, *_OF_CLIENTS)}
    gone = {name for name in mentioned if not any((place / name).exists() for place in (*SOURCES, TOP / "manifests"))}
    dead = {link for link in _LINK.findall(text) if not (document.parent / link).exists()}
    assert not gone, f"named, but not there: {sorted(gone)}"
    assert not dead, f"linked, but not there: {sorted(dead)}"
