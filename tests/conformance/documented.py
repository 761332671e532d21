"""The command `rotoscope`, but that the documents of clients (OAuth client-id metadata) are read from a folder.

    python tests/conformance/documented.py FOLDER serve --http 127.0.0.1:0

A document at `https://app.example/inspector.json` is the file `inspector.json` there: a test has no public host.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from rotoscope.__main__ import main
from rotoscope.errors import Unreachable
from rotoscope.providers.http.client import Wire
from rotoscope.providers.http.messages import Reply


def read_from(folder: Path) -> None:
    """Have every public document read from a folder."""

    async def read_public(self: Wire, url: str, max_bytes: int) -> Reply:
        file = folder / urlsplit(url).path.lstrip("/")
        if not file.is_file():
            raise Unreachable(f"There is no {url}.")
        return Reply(200, {"content-type": "application/json"}, file.read_bytes()[:max_bytes])

    Wire.read_public = read_public  # type: ignore[method-assign] # what the network would be


if __name__ == "__main__":
    read_from(Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    sys.exit(main())
