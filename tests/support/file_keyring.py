"""A key store for tests: a file of JSON beside this process's home, which keyring loads like any other."""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, PasswordDeleteError

__all__ = ["FileKeyring", "use_file_keyring"]


class FileKeyring(KeyringBackend):
    """Keeps everything in `~/keyring.json`; it is locked while `~/locked` is there."""

    priority = 5  # keyring computes it of its own stores

    @property
    def _file(self) -> Path:
        if (Path(os.environ["HOME"]) / "locked").exists():
            raise KeyringError("locked")
        return Path(os.environ["HOME"]) / "keyring.json"

    def _read(self) -> dict[str, str]:
        return dict(json.loads(self._file.read_text())) if self._file.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._file.write_text(json.dumps({**self._read(), f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        kept = self._read()
        if kept.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError(username)
        self._file.write_text(json.dumps(kept))


def use_file_keyring(home: Path) -> Path:
    """Make this the key store of a home directory; the file that it keeps things in."""
    folder = home / ".config" / "python_keyring"
    folder.mkdir(parents=True)
    text = f"[backend]\ndefault-keyring=file_keyring.FileKeyring\nkeyring-path={Path(__file__).parent}\n"
    (folder / "keyringrc.cfg").write_text(text)
    return home / "keyring.json"
