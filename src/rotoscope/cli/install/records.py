"""What we have written into clients' files, remembered in `ROTOSCOPE_HOME/installs.json`, so that it can be undone.

An entry is ours if it is remembered here or starts us. Where the file is still as we left it, undoing gives the very
bytes that were there; else the entry is taken out of what the file has become.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rotoscope.cli.clients.edits import Change

__all__ = ["InstallRecord", "digest_of", "read_records", "write_records"]

_FILE = "installs.json"
_MAX_BYTES = 1024 * 1024
_MAX_RECORDS = 200


class InstallRecord(BaseModel):
    """One entry that we wrote.

    Attributes:
        client: whose file it is.
        file: the file, by its real path.
        name: of the entry.
        address: of a server over HTTP, as we wrote it; "" for one that is started.
        digest: of the file's bytes as we left it.
        undo: start, end and text of the changes that make what was there.
        made_file: whether the file is ours.
        made_container: whether the table that the entry is in is ours.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    client: str
    file: str
    name: str
    digest: str
    address: str = ""
    undo: tuple[tuple[int, int, str], ...] = ()
    made_file: bool = False
    made_container: bool = False

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(Change(*one) for one in self.undo)


def digest_of(content: bytes) -> str:
    """What tells one content of a file from another."""
    return hashlib.sha256(content).hexdigest()


def read_records(home: Path) -> tuple[InstallRecord, ...]:
    """What is remembered; nothing where no file can be read: then entries speak for themselves."""
    try:
        with (home / _FILE).open("rb") as file:
            known: Any = json.loads(file.read(_MAX_BYTES))
        return tuple(InstallRecord.model_validate(one) for one in known["installs"][:_MAX_RECORDS])
    except (OSError, ValueError, KeyError, TypeError, ValidationError, RecursionError):
        return ()


def write_records(home: Path, records: Sequence[InstallRecord]) -> None:
    """Remember these, in a folder that is there.

    Raises:
        OSError: they cannot be written.
    """
    text = json.dumps({"installs": [one.model_dump() for one in records[-_MAX_RECORDS:]]}, indent=2)
    temporary = home / f".{_FILE}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(home / _FILE)
