"""Fixtures of the conformance suite: tools, resources and prompts whose answers have one of each kind of content."""

import base64
import io
import json
import wave
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.resources import FunctionResource
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from PIL import Image
from pydantic import Field

from rotoscope.protocol.lowlevel import serve_method

JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 20, 20)).save(buffer, "PNG")
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 80)
    return buffer.getvalue()


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(picture()).decode(), mime_type="image/png")


def embedded(uri: str, mime: str, words: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime, text=words))


def add_content(server: MCPServer[Any]) -> None:
    """Add what only shows content."""
    _add_tools(server)
    _add_talkative_tools(server)
    _add_resources(server)
    _add_prompts(server)
    _add_lists_that_change(server)


def _add_tools(server: MCPServer[Any]) -> None:
    def tool(name: str, *blocks: Any, is_error: bool = False) -> None:
        def run() -> CallToolResult:
            return CallToolResult(content=list(blocks), is_error=is_error)

        server.add_tool(run, name=name, description=f"Conformance fixture {name}.", structured_output=False)

    data = base64.b64encode(sound()).decode()
    tool("test_simple_text", text("This is a simple text response for testing."))
    tool("test_image_content", image())
    tool("test_audio_content", AudioContent(type="audio", data=data, mime_type="audio/wav"))
    tool("test_embedded_resource", embedded("test://embedded-resource", "text/plain", "An embedded resource."))
    tool(
        "test_multiple_content_types",
        text("Several kinds of content:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", json.dumps({"test": "data", "value": 123})),
    )
    tool("test_error_handling", text("This tool always fails."), is_error=True)

    def json_schema_2020_12_tool() -> str:
        return "ok"

    server.add_tool(json_schema_2020_12_tool, description="A tool with a demanding schema.", structured_output=False)
    declared = server._tool_manager.get_tool("json_schema_2020_12_tool")
    assert declared is not None
    declared.parameters = JSON_SCHEMA

    @server.tool(structured_output=False)
    def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        """A tool one of whose arguments is repeated in a header."""
        return f"region {region}"


def _add_talkative_tools(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    async def test_tool_with_logging(ctx: Context) -> str:
        """A tool that logs while it works."""
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(words)
            await anyio.sleep(0.05)
        return "logged"

    @server.tool(structured_output=False)
    async def test_tool_with_progress(ctx: Context) -> str:
        """A tool that tells how far it is."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"{done} of 100")
            await anyio.sleep(0.05)
        return "done"

    @server.tool(structured_output=False)
    async def test_reconnection(ctx: Context) -> str:
        """A tool whose stream is closed while it works."""
        await anyio.sleep(0.1)
        await ctx.close_sse_stream()
        await anyio.sleep(0.1)
        return "You have reconnected."

    async def set_level(_: object, __: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    serve_method(server, "logging/setLevel", SetLevelRequestParams, set_level)


def _add_resources(server: MCPServer[Any]) -> None:
    for uri, content, mime in (
        ("test://static-text", "This is the content of the static text resource.", "text/plain"),
        ("test://static-binary", picture(), "image/png"),
        ("test://watched-resource", "Watched.", "text/plain"),
    ):
        name = uri.removeprefix("test://")
        server.add_resource(
            FunctionResource(uri=uri, name=name, mime_type=mime, fn=lambda content=content: content)  # type: ignore[misc]
        )

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the suite names the variable
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        """A prompt that embeds a resource."""
        return [
            UserMessage(embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with a picture."""
        return [UserMessage(image()), UserMessage("Please analyze the image above.")]


def _add_lists_that_change(server: MCPServer[Any]) -> None:
    @server.tool(structured_output=False)
    async def test_trigger_tool_change(ctx: Context) -> str:
        """A tool that adds and removes another one."""
        server.add_tool(lambda: "here", name="test_passing_tool", description="Soon gone.", structured_output=False)
        await ctx.notify_tools_changed()
        server.remove_tool("test_passing_tool")
        return "The list of tools changed."

    @server.tool(structured_output=False)
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """A tool that says that the prompts changed."""
        await ctx.notify_prompts_changed()
        return "The list of prompts changed."
