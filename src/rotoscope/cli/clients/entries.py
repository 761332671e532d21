"""What an entry says of a server: how it is started or reached, and whether it is ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rotoscope.cli.clients.edits import Entry

__all__ = [
    "CALL_SECONDS",
    "OUR_NAME",
    "START_SECONDS",
    "Launch",
    "codex_entry",
    "gemini_entry",
    "goose_entry",
    "goose_url_entry",
    "is_entry_name",
    "is_program",
    "plain_entry",
    "read_address",
    "read_command",
    "runs_rotoscope",
    "starts_rotoscope",
    "typed_entry",
    "zed_entry",
]

OUR_NAME = "rotoscope"
"""The name of the package, of the command and of the server in a client's configuration."""
START_SECONDS = 30
"""How long a client waits for the server: the first start may install the package."""
CALL_SECONDS = 600
"""How long a client waits for a call: films take minutes."""

_DESCRIPTION = "Segment images, describe them with masks, generate and edit video."
_ENTRY_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_OUR_MODULE = re.compile(r"rotoscope(?:\.__main__)?")
_OUR_PACKAGE = re.compile(r"rotoscope(?:\[[a-z,]+\])?(?:[=<>~!@].*)?")


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started; no key is ever a part of it.

    Attributes:
        command: the program.
        arguments: what it is given.
        environment: what is set for it.
    """

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_environment(self, environment: Mapping[str, str]) -> "Launch":
        """The same with other variables set."""
        return Launch(self.command, self.arguments, environment)


def plain_entry(launch: Launch) -> Entry:
    """As most clients have it: `command`, `args` and, where something is set, `env`."""
    entry: dict[str, object] = {"command": launch.command, "args": list(launch.arguments)}
    return {**entry, "env": dict(launch.environment)} if launch.environment else entry


def typed_entry(launch: Launch) -> Entry:
    """The same with the kind of server before it: Claude Code and VS Code."""
    return {"type": "stdio", **plain_entry(launch)}


def codex_entry(launch: Launch) -> Entry:
    """With Codex's own limits."""
    waits = {"startup_timeout_sec": START_SECONDS, "tool_timeout_sec": CALL_SECONDS}
    # Otherwise the first turn may run before our tools are there.
    return {**plain_entry(launch), **waits, "required": True}


def gemini_entry(launch: Launch) -> Entry:
    """With Gemini CLI's limit of a call, in milliseconds."""
    return {**plain_entry(launch), "timeout": CALL_SECONDS * 1000}


def goose_entry(launch: Launch) -> Entry:
    """An extension of Goose that is started."""
    started = {"cmd": launch.command, "args": list(launch.arguments), "envs": dict(launch.environment), "env_keys": []}
    return {"enabled": True, "type": "stdio", **_goose_words(), **started}


def goose_url_entry(url: str) -> Entry:
    """An extension of Goose that is reached over HTTP."""
    reached = {"uri": url, "envs": {}, "env_keys": [], "headers": {}}
    return {"enabled": True, "type": "streamable_http", **_goose_words(), **reached}


def _goose_words() -> Entry:
    return {"name": OUR_NAME, "description": _DESCRIPTION, "timeout": CALL_SECONDS}


def zed_entry(launch: Launch) -> Entry:
    """Zed's, where the environment stands in any case."""
    return {"command": launch.command, "args": list(launch.arguments), "env": dict(launch.environment)}


def read_command(entry: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """The command of an entry and the words that it is given; empty where it has none."""
    holder: Mapping[str, object] = entry
    command = entry.get("command", entry.get("cmd"))
    if isinstance(command, Mapping):  # as Zed once had it
        holder, command = command, command.get("path")
    arguments = holder.get("args")
    words = tuple(one for one in arguments if isinstance(one, str)) if isinstance(arguments, list) else ()
    return (command.strip(), words) if isinstance(command, str) else ("", ())


def read_address(entry: Mapping[str, object]) -> str:
    """The address of a server that is reached over HTTP; "" where an entry has none."""
    named = (entry.get(key) for key in ("url", "serverUrl", "httpUrl", "uri"))
    return next((one for one in named if isinstance(one, str)), "")


def is_entry_name(name: str) -> bool:
    """Whether an entry of ours may have a name; every client takes such a one."""
    return _ENTRY_NAME.fullmatch(name) is not None


def is_program(path: str) -> bool:
    """Whether a path leads to our command, written as on any system."""
    return re.split(r"[/\\]", path)[-1].lower().removesuffix(".exe") == OUR_NAME


def runs_rotoscope(command: str, words: Sequence[str]) -> bool:
    """Whether a command is ours: our script, our module in some Python, or a runner that is given our package."""
    return is_program(command) or any(
        is_program(one) or _OUR_MODULE.fullmatch(one) or _OUR_PACKAGE.fullmatch(one) for one in words
    )


def starts_rotoscope(entry: Entry) -> bool:
    """Whether an entry starts the server of any installation of ours."""
    command, words = read_command(entry)
    return bool(command) and "serve" in words and runs_rotoscope(command, words)
