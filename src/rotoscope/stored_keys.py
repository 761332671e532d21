"""Provider keys that `rotoscope install` has kept: in the operating system's key store, else in `keys.env` at home.

The environment always wins. What is kept is looked for when a provider is really needed, once a process: a server
starts as fast without it. `keys.json` names the keys that are in the key store, which is asked for those alone.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rotoscope import key_store
from rotoscope.errors import InvalidInput, MissingKey, StorageFailed
from rotoscope.key_store import KeyStoreFailed
from rotoscope.ownership import find_fault
from rotoscope.settings import Settings

__all__ = ["KeyNames", "add_stored_keys", "find_key_names", "forget_keys", "keep_in_file", "keep_in_store"]

FILE, NAMES_FILE = "keys.env", "keys.json"
_MAX_BYTES = 64 * 1024
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_PRIVATE = 0o600
ReadStore = Callable[[Collection[str], Mapping[str, str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class KeyNames:
    """The names of the variables that are kept, by where they are."""

    in_file: frozenset[str]
    in_store: frozenset[str]


def add_stored_keys(
    settings: Settings, wanted: Collection[str], read_store: ReadStore = key_store.read_values
) -> Settings:
    """The settings with those kept variables that the environment does not set.

    Args:
        settings: the operator's decisions. Where the sandbox serves all, or each principal has keys, nothing is read.
        wanted: the variables that providers have; others are not taken from what is kept.
        read_store: asks the key store for some names, in an environment.

    Raises:
        InvalidInput: others can read or write the file of keys.
        MissingKey: a key is in the key store, and that does not give it.
        StorageFailed: the file of keys cannot be read.
    """
    if settings.sandbox not in {"auto", "never"} or settings.network.key_owner == "principal":
        return settings
    open_names = {name for name in wanted if settings.variable(name) is None}
    found = {name: value for name, value in _read_file(settings.home).items() if name in open_names}
    in_store = (_read_names(settings.home) & open_names) - found.keys()
    if in_store:
        found |= _read_from_store(in_store, settings.variables, read_store)
    return replace(settings, variables={**settings.variables, **found}) if found else settings


def find_key_names(home: Path) -> KeyNames:
    """Which variables are kept, without reading a value from the key store.

    Raises:
        InvalidInput: others can read or write the file of keys.
        StorageFailed: the file of keys cannot be read.
    """
    return KeyNames(frozenset(_read_file(home)), _read_names(home))


def keep_in_store(home: Path, values: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Keep values in the key store, and see that a server that a client starts will read them there.

    Raises:
        KeyStoreFailed: it did not take them, or gives them only to this session; then none is kept there.
        StorageFailed: the home folder cannot be written.
    """
    key_store.write_values(values, environ)
    try:
        given_back = key_store.read_values(values, key_store.server_environment(environ))
    except KeyStoreFailed:
        key_store.remove_values(values, environ)
        raise
    if given_back != dict(values):
        key_store.remove_values(values, environ)
        raise KeyStoreFailed("does not give back what it has taken")
    _write_names(home, _read_names(home) | values.keys())
    _write_file(home, {name: value for name, value in _read_file(home).items() if name not in values})


def keep_in_file(home: Path, values: Mapping[str, str]) -> Path:
    """Keep values in the file of keys, which only its owner can read; its path.

    Raises:
        StorageFailed: it cannot be written.
    """
    _write_file(home, {**_read_file(home), **values})
    _write_names(home, _read_names(home) - values.keys())
    return home / FILE


def forget_keys(home: Path, environ: Mapping[str, str]) -> frozenset[str]:
    """Remove all that is kept; the names of what was.

    Raises:
        KeyStoreFailed: the key store did not remove its part; nothing is removed then.
        StorageFailed: a file cannot be removed.
    """
    names = find_key_names(home)
    if names.in_store:
        key_store.remove_values(names.in_store, environ)
    _write_names(home, frozenset())
    _write_file(home, {})
    return names.in_file | names.in_store


def _read_from_store(names: Collection[str], environ: Mapping[str, str], read_store: ReadStore) -> dict[str, str]:
    listed = ", ".join(sorted(names))
    try:
        found = dict(read_store(names, environ))
    except KeyStoreFailed as error:
        raise MissingKey(
            f"The key store of this system {error}, and {listed} is kept there.",
            hint="Unlock it and call again, or set the variable in the environment of the server.",
        ) from None
    if missing := sorted(set(names) - found.keys()):
        raise MissingKey(
            f"{', '.join(missing)} is no longer in the key store of this system.",
            hint="Run rotoscope install again to keep it there, or rotoscope uninstall CLIENT --keys to forget it.",
        )
    return found


def _read_file(home: Path) -> dict[str, str]:
    """The variables of the file of keys: NAME=VALUE a line, # begins a comment, quotes around a value are left out."""
    file = home / FILE
    try:
        if not file.is_file():
            return {}
        fault = find_fault(file) or _reading_fault(file)
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StorageFailed(f"{file} cannot be read: {error.strerror}.", hint="Correct its permissions.") from None
    if fault is not None:
        raise InvalidInput(f"The file of keys {file} {fault}, so it is not used.", hint=f"Run chmod 600 {file}.")
    if len(raw) > _MAX_BYTES:
        raise InvalidInput(f"{file} is larger than any file of keys.", hint="Correct or remove it.")
    lines = (_LINE.fullmatch(line.strip()) for line in raw.decode("utf-8-sig", "replace").splitlines())
    return {match[1]: _unquote(match[2]) for match in lines if match}


def _reading_fault(file: Path) -> str | None:
    return "can be read by other users" if os.name == "posix" and file.stat().st_mode & 0o077 else None


def _unquote(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value


def _read_names(home: Path) -> frozenset[str]:
    try:
        with (home / NAMES_FILE).open("rb") as file:
            names = json.loads(file.read(_MAX_BYTES))["key_store"]
        return frozenset(name for name in names if isinstance(name, str))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        raise StorageFailed(
            f"{home / NAMES_FILE} cannot be read.", hint="Remove it and run rotoscope install again."
        ) from None


def _write_names(home: Path, names: Collection[str]) -> None:
    _write_or_remove(home / NAMES_FILE, json.dumps({"key_store": sorted(names)}) if names else "")


def _write_file(home: Path, values: Mapping[str, str]) -> None:
    """A value is one line of printable characters: keys are checked before they are kept."""
    _write_or_remove(home / FILE, "".join(f"{name}={value}\n" for name, value in sorted(values.items())))


def _write_or_remove(file: Path, text: str) -> None:
    try:
        if not text:
            file.unlink(missing_ok=True)
            return
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except OSError as error:
        raise StorageFailed(
            f"{file} cannot be written: {error.strerror}.", hint="Set ROTOSCOPE_HOME to a folder that can be written."
        ) from None
