"""Make the stored replies from the server's own answers. `python -m rotoscope.cli.generate_replies [--check]`."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from rotoscope import __version__
from rotoscope.cli.fast_start import serve_lines
from rotoscope.cli.stored_replies import FILE, find_manifests_folder, fingerprint_of_manifests
from rotoscope.composition import build_stdio_server
from rotoscope.settings import read_settings

__all__ = ["build_replies_file", "record_replies", "write_replies_file"]

_LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
_ENVELOPE = ("resultType", "ttlMs", "cacheScope", "_meta")
_CLIENT = {"name": "record", "version": "1"}
ReplyResult = dict[str, Any]  # JSON as the server words it
RequestSpec = tuple[str, dict[str, Any]]


def write_replies_file(arguments: Sequence[str]) -> int:
    """Write the replies; with `--check`, only say whether they are up to date."""
    file, new = Path(FILE), anyio.run(build_replies_file)
    if "--check" in arguments:
        same = file.is_file() and file.read_text(encoding="utf-8") == new
        sys.stdout.write(f"{file.name} is {'up to date.' if same else 'out of date: run `make replies`.'}\n")
        return int(not same)
    file.write_text(new, encoding="utf-8")
    return 0


async def build_replies_file() -> str:
    """The text of the file of stored replies, from the server as it is now."""
    parts: dict[str, ReplyResult] = {}
    eras: dict[str, dict[str, dict[str, list[str]]]] = {"handshake": {}, "modern": {}}
    for era, revisions in (("handshake", HANDSHAKE_PROTOCOL_VERSIONS), ("modern", MODERN_PROTOCOL_VERSIONS)):
        for revision in revisions:
            found = await record_replies(revision)
            eras[era][revision] = {method: _part_names(parts, method, revision, found[method]) for method in found}
    whole = {"made_from": _source_versions(), "latest": LATEST_HANDSHAKE_VERSION, **eras, "parts": parts}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


async def record_replies(revision: str, capabilities: Mapping[str, object] | None = None) -> dict[str, ReplyResult]:
    """What the server answers in one revision to a client of these capabilities, by method."""
    declared = dict(capabilities or {})
    asked = (
        _modern_requests(revision, declared)
        if revision in MODERN_PROTOCOL_VERSIONS
        else _handshake_requests(revision, declared)
    )
    replies = await _exchange(asked)
    return {method: replies[number] for number, (method, _) in enumerate(asked) if number in replies}


def _handshake_requests(revision: str, capabilities: dict[str, object]) -> list[RequestSpec]:
    opening = {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": _CLIENT}
    return [("initialize", opening), *((method, {}) for method in ("ping", *_LISTS))]


def _modern_requests(revision: str, capabilities: dict[str, object]) -> list[RequestSpec]:
    meta = {"protocolVersion": revision, "clientCapabilities": capabilities, "clientInfo": _CLIENT}
    envelope = {"_meta": {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}}
    return [(method, envelope) for method in ("server/discover", *_LISTS)]


async def _exchange(asked: Sequence[RequestSpec]) -> dict[int, ReplyResult]:
    """Ask one after the other, as a client does that waits for each reply."""
    replies: dict[int, ReplyResult] = {}
    came = anyio.Event()

    async def lines() -> AsyncIterator[bytes]:
        nonlocal came
        for number, (method, params) in enumerate(asked):
            came = anyio.Event()
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            yield json.dumps(message).encode()
            await came.wait()

    async def write(line: bytes) -> None:
        reply = json.loads(line)
        replies[reply["id"]] = reply["result"]
        came.set()

    with tempfile.TemporaryDirectory() as home:
        server = build_stdio_server(read_settings({"ROTOSCOPE_HOME": home}), Path(home), Path(home))
        await serve_lines(server, lines(), write, set())
    return replies


def _part_names(parts: dict[str, ReplyResult], method: str, revision: str, result: ReplyResult) -> list[str]:
    """The names of the parts that make a result: what it says, and what the modern era puts around it."""
    content = {key: value for key, value in result.items() if key not in _ENVELOPE}
    envelope = {key: value for key, value in result.items() if key in _ENVELOPE}
    names = [_name_part(parts, method, revision, content)]
    return [*names, _name_part(parts, "envelope", revision, envelope)] if envelope else names


def _name_part(parts: dict[str, ReplyResult], kind: str, revision: str, part: ReplyResult) -> str:
    """The name of an equal part, if there is one already; else a new one."""
    for name, known in parts.items():
        if name.startswith(f"{kind} ") and known == part:
            return name
    name = f"{kind} {revision}"
    while name in parts:
        name += "+"
    parts[name] = part
    return name


def _source_versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("mcp", "mcp_types")}
    return {"rotoscope": __version__, **packages, "manifests": fingerprint_of_manifests(find_manifests_folder())}


if __name__ == "__main__":
    raise SystemExit(write_replies_file(sys.argv[1:]))
