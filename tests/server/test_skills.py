"""The skills that the server serves: what they say is true of the tools, and everybody gets the same text."""

import re
from pathlib import Path

import pytest
import yaml
from mcp import Client, MCPError
from mcp_types import ResourceTemplateReference, TextContent, TextResourceContents

from rotoscope.contracts.tools import HTTP_TOOLS, TOOLS
from rotoscope.protocol.skills import Skill
from rotoscope.server.skills import load_skills

pytestmark = pytest.mark.anyio
TOP = Path(__file__).parents[2]
NAMES = ["photo-to-coco", "remove-from-video", "storyboard-to-video"]
PROMPTS = {
    "photo-to-coco": {"image": "a.jpg"},
    "remove-from-video": {"video": "a.mp4", "what": "the ball"},
    "storyboard-to-video": {"storyboard": "a.png"},
}
SKILLS = pytest.mark.parametrize("skill", load_skills(), ids=lambda skill: skill.name)


def test_there_is_one_skill_for_each_chain() -> None:
    assert [skill.name for skill in load_skills()] == NAMES


@SKILLS
def test_front_matter_is_what_yaml_reads_and_as_agent_skills_want_it(skill: Skill) -> None:
    text = skill.files["SKILL.md"]
    assert yaml.safe_load(text.split("---\n")[1]) == skill.front_matter
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", skill.name)
    assert skill.description.startswith("Use when ")
    assert len(skill.description) <= 1024
    assert len(text.splitlines()) < 60, "what a model reads is short; details are in references/"


@SKILLS
def test_a_skill_names_only_tools_arguments_and_files_that_there_are(skill: Skill) -> None:
    known = {name for tool in HTTP_TOOLS.values() for name in tool.arguments.model_fields} | set(HTTP_TOOLS)
    known |= {name for tool in TOOLS.values() for name in tool.result.model_fields}
    for path, text in skill.files.items():
        quoted = set(re.findall(r"`([a-z_]+)`", text))
        codes = {"consent", "needs_review", "budget", "content_policy"}
        formats = {"bbox", "images", "categories", "annotations", "segmentation", "polygons", "file_name", "area"}
        assert quoted <= known | codes | (formats | {"width", "height"} if path.startswith("references/") else set())
        for other in re.findall(r"`(references/[a-z.]+)`", text):
            assert other in skill.files


@SKILLS
def test_a_skill_says_what_it_costs_what_to_do_on_failure_and_prices_before_it_spends(skill: Skill) -> None:
    for part in ("## Steps", "## What it costs", "## When it fails", "dry_run", "get_job"):
        assert part in skill.body


@SKILLS
async def test_a_prompt_ends_with_the_body_of_its_skill(client: Client, skill: Skill) -> None:
    (message,) = (await client.get_prompt(skill.name.replace("-", "_"), PROMPTS[skill.name])).messages
    assert isinstance(message.content, TextContent)
    assert message.content.text.endswith(skill.body)
    assert next(iter(PROMPTS[skill.name].values())) in message.content.text


@SKILLS
async def test_every_file_of_a_skill_is_read_in_both_eras(client: Client, skill: Skill) -> None:
    for path, text in skill.files.items():
        (content,) = (await client.read_resource(f"skill://{skill.name}/{path}")).contents
        assert isinstance(content, TextResourceContents)
        assert (content.text, content.mime_type) == (text, "text/markdown")


@pytest.mark.parametrize("path", ["none.md", "references/", "../photo-to-coco/SKILL.md", "%2e%2e/x", ""])
async def test_what_is_no_file_of_a_skill_is_not_found(client: Client, path: str) -> None:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(f"skill://remove-from-video/{path}")
    assert caught.value.code == -32602


def test_the_plugin_for_claude_code_ships_the_same_files_and_no_others() -> None:
    folder = TOP / "manifests" / "claude-plugin" / "skills"
    copies = {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in folder.rglob("*.md")}
    assert copies == {f"{skill.name}/{path}": text for skill in load_skills() for path, text in skill.files.items()}


async def test_names_and_files_of_skills_are_completed(client: Client) -> None:
    ref = ResourceTemplateReference(type="ref/resource", uri="skill://{name}/{+path}")
    names = await client.complete(ref, {"name": "name", "value": "photo"})
    paths = await client.complete(ref, {"name": "path", "value": "SK"})
    assert names.completion.values == ["photo-to-coco"]
    assert paths.completion.values == ["SKILL.md"]
