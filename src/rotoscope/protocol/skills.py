"""The MCP extension `io.modelcontextprotocol/skills` for servers on the Python SDK 2.x, protocol 2026-07-28.

A skill is a folder with a `SKILL.md`: instructions that a model reads when it needs them. `skills/list` and
`skills/get` give what is known of a skill and the digest of each of its files, `resources/directory/read` what lies in
a folder, and `resources/read` a file. A client of another revision finds the `SKILL.md` files among the resources.

The package needs the SDK and nothing else of this project.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ResourceBinding
from mcp.server.mcpserver.resources import TextResource
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PaginatedRequestParams, RequestParams, Resource
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

__all__ = ["SKILL_FILE", "Skill", "SkillsExtension", "read_skill", "read_skills"]

SKILL_FILE = "SKILL.md"
_SCHEME, _MARKDOWN, _DIRECTORY = "skill://", "text/markdown", "inode/directory"
_MODERN = frozenset(MODERN_PROTOCOL_VERSIONS)
_FENCE = "---"
_PAGE_SIZE = 50  # entries of a list
_TTL_MS = 300_000  # a server of another version may be asked then
_MAX_ECHO = 200


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill and its files.

    Attributes:
        front_matter: what stands at the head of its `SKILL.md`: its `name`, its `description` and whatever else.
        body: the instructions under it.
        files: the text of every file by its path in the folder, `SKILL.md` first, the others in order.
    """

    front_matter: Mapping[str, str]
    body: str
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its name, which is that of its folder."""
        return self.front_matter["name"]

    @property
    def description(self) -> str:
        """What it does, and when it is to be used."""
        return self.front_matter["description"]

    @property
    def uri(self) -> str:
        """Of its `SKILL.md`."""
        return self.file_uri(SKILL_FILE)

    def file_uri(self, path: str) -> str:
        """Of a file, or of a folder in it."""
        return f"{_SCHEME}{self.name}/{path}"

    def entry(self) -> dict[str, Any]:
        """What `skills/list` and `skills/get` give of it."""
        listed = [_file_entry(self.file_uri(path), text) for path, text in self.files.items()]
        return {"uri": self.uri, "frontmatter": dict(self.front_matter), "resources": listed}


class SkillsExtension(Extension):
    """Serves skills.

    Args:
        skills: all of them; they do not change while the server runs.
    """

    identifier = "io.modelcontextprotocol/skills"

    def __init__(self, skills: Sequence[Skill]) -> None:
        self.skills = tuple(skills)
        self._by_uri = {skill.uri: skill for skill in self.skills}
        self._files = {skill.file_uri(path): text for skill in self.skills for path, text in skill.files.items()}
        self._folders = _find_folders(self.skills)

    def settings(self) -> dict[str, Any]:
        """Folders can be read."""
        return {"directoryRead": True}

    def methods(self) -> Sequence[MethodBinding]:
        """The methods, which exist only in the revisions that have the extension."""
        return [
            MethodBinding("skills/list", PaginatedRequestParams, self._handle_list, _MODERN),
            MethodBinding("skills/get", _UriParams, self._handle_get, _MODERN),
            MethodBinding("resources/directory/read", _DirectoryParams, self._handle_directory, _MODERN),
        ]

    def resources(self) -> Sequence[ResourceBinding]:
        """The `SKILL.md` files. The other files of a skill are read by their links, which it names."""
        return [
            ResourceBinding(
                TextResource(
                    uri=skill.uri,
                    name=skill.name,
                    description=skill.description,
                    mime_type=_MARKDOWN,
                    text=skill.files[SKILL_FILE],
                )
            )
            for skill in self.skills
        ]

    def read_file(self, name: str, path: str) -> str | None:
        """The text of a file of a skill; None where there is none."""
        return self._files.get(f"{_SCHEME}{name}/{path}")

    async def _handle_list(self, _: ServerRequestContext[Any, Any], params: PaginatedRequestParams) -> HandlerResult:
        entries, following = _take_page([skill.entry() for skill in self.skills], params.cursor)
        return {"skills": entries, **following, **_caching()}

    async def _handle_get(self, _: ServerRequestContext[Any, Any], params: "_UriParams") -> HandlerResult:
        skill = self._by_uri.get(params.uri)
        if skill is None:
            raise MCPError(
                INVALID_PARAMS, f"There is no skill {params.uri[:_MAX_ECHO]}. Skills: {', '.join(self._by_uri)}."
            )
        return {"skill": skill.entry(), **_caching()}

    async def _handle_directory(self, _: ServerRequestContext[Any, Any], params: "_DirectoryParams") -> HandlerResult:
        children = self._folders.get(params.uri)
        if children is None:
            raise MCPError(INVALID_PARAMS, f"{params.uri[:_MAX_ECHO]} is no folder of a skill.")
        shown, following = _take_page(children, params.cursor)
        return {"resources": [one.model_dump(by_alias=True, exclude_none=True) for one in shown], **following}


class _UriParams(RequestParams):
    uri: str


class _DirectoryParams(PaginatedRequestParams):
    uri: str


def read_skills(folder: Traversable) -> tuple[Skill, ...]:
    """Every skill of a folder of skills, by name.

    Raises:
        ValueError: one of them is no skill.
    """
    found = (place for place in folder.iterdir() if place.joinpath(SKILL_FILE).is_file())
    return tuple(read_skill(place) for place in sorted(found, key=lambda place: place.name))


def read_skill(folder: Traversable) -> Skill:
    """The skill of a folder. Its front matter has one `key: text` a line, without quotes and blocks.

    Raises:
        ValueError: it has no front matter of that shape, or its name is not the folder's.
    """
    files = dict(sorted(_read_files(folder, ""), key=lambda named: (named[0] != SKILL_FILE, named[0])))
    front_matter, body = _split_front_matter(files[SKILL_FILE])
    if front_matter.get("name") != folder.name or not front_matter.get("description"):
        raise ValueError(f"{folder.name}/{SKILL_FILE} needs the name of its folder, and a description.")
    return Skill(front_matter, body, files)


def _read_files(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for place in folder.iterdir():
        if place.is_dir():
            found += _read_files(place, f"{prefix}{place.name}/")
        else:
            found.append((f"{prefix}{place.name}", place.read_bytes().decode()))
    return found


def _split_front_matter(text: str) -> tuple[dict[str, str], str]:
    head, fence, body = text.removeprefix(f"{_FENCE}\n").partition(f"\n{_FENCE}\n")
    if not text.startswith(f"{_FENCE}\n") or not fence:
        raise ValueError(f"{SKILL_FILE} does not begin with front matter between two lines of {_FENCE}.")
    pairs = [line.partition(": ") for line in head.splitlines()]
    if not all(colon and value and not set(value) & set("\"'#{}[]|>&*!%@`") for _, colon, value in pairs):
        raise ValueError(f"The front matter of {SKILL_FILE} is not one plain `key: text` a line.")
    return {key: value for key, _, value in pairs}, body.strip()


def _file_entry(uri: str, text: str) -> dict[str, Any]:
    content = text.encode()
    return {"uri": uri, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _find_folders(skills: Sequence[Skill]) -> dict[str, list[Resource]]:
    """What lies in each folder, by the folder's link."""
    found: dict[str, dict[str, Resource]] = {}
    for skill in skills:
        for path in skill.files:
            place = f"{_SCHEME}{skill.name}"
            *folders, name = path.split("/")
            for folder in folders:
                inner = f"{place}/{folder}"
                found.setdefault(place, {})[inner] = Resource(uri=inner, name=folder, mime_type=_DIRECTORY)
                place = inner
            uri = f"{place}/{name}"
            found.setdefault(place, {})[uri] = _file_resource(skill, uri, name)
    return {place: list(children.values()) for place, children in found.items()}


def _file_resource(skill: Skill, uri: str, name: str) -> Resource:
    if uri == skill.uri:
        return Resource(uri=uri, name=skill.name, description=skill.description, mime_type=_MARKDOWN)
    return Resource(uri=uri, name=name, mime_type=_MARKDOWN)


def _take_page(entries: Sequence[Any], cursor: str | None) -> tuple[Sequence[Any], dict[str, str]]:
    """One page of a list, and where the next begins: the cursor is the number of the entries before it.

    Raises:
        MCPError: the cursor is none of ours.
    """
    start = 0 if cursor is None else int(cursor) if cursor.isascii() and cursor.isdecimal() else -1
    if start < 0 or (start and start >= len(entries)):
        raise MCPError(INVALID_PARAMS, "There is no such page. Ask without a cursor for the first.")
    end = start + _PAGE_SIZE
    return entries[start:end], {"nextCursor": str(end)} if end < len(entries) else {}


def _caching() -> dict[str, Any]:
    return {"ttlMs": _TTL_MS, "cacheScope": "public"}
