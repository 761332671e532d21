"""What the tests of the server share: snapshots, and clients that call themselves by some name."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


@pytest.fixture
def compare() -> Callable[[str, object], None]:
    """Compares what was found with a file; `UPDATE_SNAPSHOTS=1 make test` writes the files again."""

    def compared(name: str, found: object) -> None:
        file = SNAPSHOTS / f"{name}.json"
        text = json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"no snapshot {file.name}: run UPDATE_SNAPSHOTS=1 make test"
        assert text == file.read_text(encoding="utf-8")

    return compared
