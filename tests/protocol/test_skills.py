"""Skills as files become skills on the wire: digests of the very bytes, pages, folders, and what is refused."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from mcp_types import Request, RequestParams, Result
from pydantic import ConfigDict

from rotoscope.protocol.skills import SkillsExtension, read_skill, read_skills

pytestmark = pytest.mark.anyio
FRONT = "---\nname: {name}\ndescription: Use when {name} is wanted.\nlicense: MIT\n---\n\n# How\n\nDo é it.\n"


def write_skill(folder: Path, name: str, **files: str) -> Path:
    place = folder / name
    for path, text in {"SKILL.md": FRONT.format(name=name), **files}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(text.encode())
    return place


class _Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class _Ask(Request[_Params, str]):
    method: str
    params: _Params


class _Any(Result):
    model_config = ConfigDict(extra="allow")
    result_type: Literal["complete"] | None = None


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    asked = _Ask(method=method, params=_Params.model_validate(params))
    reply = await client.session.send_request(asked, _Any)
    return reply.model_dump(by_alias=True, exclude_none=True)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    for number in range(120):
        write_skill(tmp_path, f"s-{number:03}", **{"references/deep/more.md": "more", "references/one.md": "öne\n"})
    async with Client(MCPServer("any", extensions=[SkillsExtension(read_skills(tmp_path))])) as opened:
        yield opened


async def test_every_skill_is_on_one_page_and_the_last_page_has_no_next(client: Client) -> None:
    seen, cursor = [], None
    for _ in range(3):
        page = await ask(client, "skills/list", **({"cursor": cursor} if cursor else {}))
        assert (page["cacheScope"], page["ttlMs"] > 0) == ("public", True)
        seen += [skill["uri"] for skill in page["skills"]]
        cursor = page.get("nextCursor")
    assert cursor is None
    assert seen == [f"skill://s-{number:03}/SKILL.md" for number in range(120)]


@pytest.mark.parametrize("cursor", ["120", "-1", "x", "²", "9999999999"])
async def test_a_cursor_that_was_never_given_is_refused(client: Client, cursor: str) -> None:
    with pytest.raises(MCPError) as caught:
        await ask(client, "skills/list", cursor=cursor)
    assert caught.value.code == -32602


async def test_an_entry_names_each_file_with_the_digest_of_its_bytes(client: Client, tmp_path: Path) -> None:
    skill = (await ask(client, "skills/get", uri="skill://s-007/SKILL.md"))["skill"]
    assert skill["frontmatter"] == {"name": "s-007", "description": "Use when s-007 is wanted.", "license": "MIT"}
    assert [file["uri"] for file in skill["resources"]] == [
        "skill://s-007/SKILL.md",
        "skill://s-007/references/deep/more.md",
        "skill://s-007/references/one.md",
    ]
    for file in skill["resources"]:
        content = (tmp_path / file["uri"].removeprefix("skill://")).read_bytes()
        assert file["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert file["size"] == len(content)


async def test_a_folder_lists_its_own_children_and_its_folders_as_folders(client: Client) -> None:
    top = await ask(client, "resources/directory/read", uri="skill://s-000")
    assert [(one["name"], one["mimeType"]) for one in top["resources"]] == [
        ("s-000", "text/markdown"),
        ("references", "inode/directory"),
    ]
    inner = await ask(client, "resources/directory/read", uri=top["resources"][1]["uri"])
    assert [one["uri"] for one in inner["resources"]] == [
        "skill://s-000/references/deep",
        "skill://s-000/references/one.md",
    ]


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("skills/get", "skill://s-000"),
        ("skills/get", "skill://none/SKILL.md"),
        ("skills/get", "skill://s-000/references/one.md"),
        ("resources/directory/read", "skill://s-000/SKILL.md"),
        ("resources/directory/read", "skill://s-000/"),
        ("resources/directory/read", "skill://s-000/../s-001"),
    ],
)
async def test_what_is_no_skill_or_no_folder_is_invalid_params(client: Client, method: str, uri: str) -> None:
    with pytest.raises(MCPError) as caught:
        await ask(client, method, uri=uri)
    assert caught.value.code == -32602


async def test_a_client_of_the_handshake_era_has_the_files_and_not_the_methods(tmp_path: Path) -> None:
    write_skill(tmp_path, "one")
    server = MCPServer("any", extensions=[SkillsExtension(read_skills(tmp_path))])
    async with Client(server, mode="legacy") as client:
        (listed,) = (await client.list_resources()).resources
        assert (listed.uri, listed.name, listed.mime_type) == ("skill://one/SKILL.md", "one", "text/markdown")
        with pytest.raises(MCPError) as caught:
            await ask(client, "skills/list")
    assert caught.value.code == -32601


@pytest.mark.parametrize(
    "text",
    [
        "# How\n",
        "---\nname: one\ndescription: d\n",
        "---\nname: two\ndescription: d\n---\n",
        "---\nname: one\n---\n",
        "---\nname: one\ndescription: 'd'\n---\n",
        "---\nname: one\ndescription: d\nmetadata:\n  a: b\n---\n",
    ],
)
def test_front_matter_that_is_not_plain_is_refused_and_not_misread(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"SKILL\.md"):
        read_skill(write_skill(tmp_path, "one", **{"SKILL.md": text}))
