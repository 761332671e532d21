"""The tool surface as a client sees it: a difference from the snapshot is a decision, not an accident.

`UPDATE_SNAPSHOTS=1 make test` writes the snapshots anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from rotoscope.contracts.tools import TOOLS

pytestmark = pytest.mark.anyio
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


def compare(name: str, found: object) -> None:
    file = SNAPSHOTS / f"{name}.json"
    text = json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(text, encoding="utf-8")
    assert file.is_file(), f"no snapshot {file.name}: run UPDATE_SNAPSHOTS=1 make test"
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TOOLS)
async def test_a_tool_is_listed_as_its_snapshot_says(client: Client, name: str) -> None:
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    compare(f"tool.{name}", listed[name].model_dump(mode="json", by_alias=True, exclude_none=True))


async def test_the_tools_are_listed_in_a_fixed_order(client: Client) -> None:
    assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)


async def test_the_resource_templates_are_listed_as_their_snapshot_says(client: Client) -> None:
    templates = (await client.list_resource_templates()).resource_templates
    compare("resource_templates", [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in templates])


def parts(schema: object) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) else []
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return found + [part for child in children for part in parts(child)]


async def test_input_schemas_are_flat_enough_for_every_client(client: Client) -> None:
    """No unions of objects, no tuples, no free-form objects, no titles: each of them breaks a measured client."""
    for tool in (await client.list_tools()).tools:
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        for part in parts(tool.input_schema):
            assert not {"anyOf", "oneOf", "allOf", "prefixItems", "discriminator"} & set(part), tool.name
            assert not isinstance(part.get("title"), str), tool.name
        assert len(tool.name) <= 30
        assert len(tool.description or "") < 1000


async def test_every_argument_is_explained(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        for name, field in tool.input_schema["properties"].items():
            assert field.get("description"), f"{tool.name}.{name}"


async def test_every_tool_promises_the_shape_of_its_result(client: Client) -> None:
    for tool in (await client.list_tools()).tools:
        assert tool.output_schema is not None
        assert tool.output_schema["type"] == "object"
