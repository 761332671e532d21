"""The key store of the operating system (Keychain, Credential Manager, Secret Service), by way of the package keyring.

It is asked in a process of its own (`python -m rotoscope.key_store`), which gets and gives values through pipes: a
store may wait for a person to unlock it, and a process can be ended after a bounded time. A server never loads keyring.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = [
    "KeyStoreFailed",
    "StoreInfo",
    "answer_question",
    "find_store",
    "main",
    "read_values",
    "remove_values",
    "server_environment",
    "write_values",
]

SERVICE = "rotoscope"
READ_SECONDS = 30.0  # a person may have to unlock it
_MAX_BYTES = 256 * 1024
_BUS = "DBUS_SESSION_BUS_ADDRESS"
# What clients leave in the environment of a server that they start, by the official SDKs.
_LEFT = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA",
         "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE")  # fmt: skip


class KeyStoreFailed(Exception):
    """The store did not answer, or there is none; the message completes "the key store ..."."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The key store that is there: its name for people."""

    title: str


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What is left of an environment where a client starts a server."""
    return {name: value for name, value in environ.items() if name.upper() in _LEFT or name == "PYTHONPATH"}


def find_store(environ: Mapping[str, str], seconds: float = READ_SECONDS) -> StoreInfo | None:
    """The key store of this system; None where there is none that keeps secrets, or keyring is not installed."""
    try:
        found = _ask({"do": "find"}, environ, seconds)
    except KeyStoreFailed:
        return None
    return StoreInfo(str(found["title"]))


def read_values(names: Collection[str], environ: Mapping[str, str], seconds: float = READ_SECONDS) -> dict[str, str]:
    """The values of those names that the store holds.

    Raises:
        KeyStoreFailed: it did not answer in time, was not unlocked, or is not there.
    """
    found = _ask({"do": "read", "names": sorted(names)}, environ, seconds).get("values")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def write_values(values: Mapping[str, str], environ: Mapping[str, str], seconds: float = READ_SECONDS) -> None:
    """Keep values by their names.

    Raises:
        KeyStoreFailed: the store did not take them.
    """
    _ask({"do": "write", "values": dict(values)}, environ, seconds)


def remove_values(names: Collection[str], environ: Mapping[str, str], seconds: float = READ_SECONDS) -> None:
    """Remove the values of some names; those that are not there are no error.

    Raises:
        KeyStoreFailed: the store did not answer.
    """
    _ask({"do": "remove", "names": sorted(names)}, environ, seconds)


def _ask(question: Mapping[str, object], environ: Mapping[str, str], seconds: float) -> dict[str, object]:
    command = [sys.executable, "-P", "-m", "rotoscope.key_store"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command,
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            env=_with_session_bus(environ),
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        answer = json.loads(done.stdout[:_MAX_BYTES])
    except subprocess.TimeoutExpired:
        raise KeyStoreFailed(f"did not answer in {seconds:g} s") from None
    except (OSError, ValueError):
        raise KeyStoreFailed("could not be asked") from None
    if "problem" in answer:
        raise KeyStoreFailed(str(answer["problem"])[:200])
    return dict(answer)


def _with_session_bus(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the user's session bus, which clients leave out and the Secret Service is behind."""
    if _BUS in environ or not sys.platform.startswith("linux"):
        return dict(environ)
    bus = f"/run/user/{os.getuid()}/bus"
    return {**environ, _BUS: f"unix:path={bus}"} if os.path.exists(bus) else dict(environ)  # noqa: PTH110 - light


def answer_question(question: Mapping[str, object]) -> dict[str, object]:
    """What the store says to one question; in the process that is asked."""
    try:
        import keyring
        from keyring.core import recommended
        from keyring.errors import KeyringError, PasswordDeleteError
    except ModuleNotFoundError:
        return {"problem": "needs the package keyring"}
    try:
        store = keyring.get_keyring()
        if not recommended(store):
            return {"problem": "is not there"}
        names, values = question.get("names", []), question.get("values", {})
        assert isinstance(names, list)
        assert isinstance(values, dict)
        if question["do"] == "read":
            found = {name: store.get_password(SERVICE, name) for name in names}
            return {"values": {name: value for name, value in found.items() if value is not None}}
        for name, value in values.items():
            store.set_password(SERVICE, name, value)
        for name in names:
            try:
                store.delete_password(SERVICE, name)
            except PasswordDeleteError:
                continue  # it is not there
        return {"title": str(store.name)}
    except (KeyringError, OSError, RuntimeError) as error:
        return {"problem": f"refused ({type(error).__name__})"}


def main() -> None:
    """Answer the question that comes in, once."""
    question = json.loads(sys.stdin.buffer.read(_MAX_BYTES))
    sys.stdout.write(json.dumps(answer_question(question)))


if __name__ == "__main__":
    main()
