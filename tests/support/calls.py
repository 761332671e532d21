"""Calls of tools as tests make them, and the types of the fixtures through which they reach a studio or a server."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, TextContent

from rotoscope.contracts.arguments import Arguments, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.store.records import Job, OpenResult
from rotoscope.studio.studio import Studio

__all__ = [
    "BOX",
    "SECONDS",
    "ServerBuilder",
    "StudioOpener",
    "Until",
    "open_job",
    "perform",
    "segment_arguments",
    "start_job",
    "text_of",
]

BOX = {"left": 20, "top": 5, "right": 420, "bottom": 512}  # the astronaut in the photo that ships with the product
SECONDS = 180  # what nothing that a test waits for needs, however busy the machine is
StudioOpener = Callable[..., AbstractAsyncContextManager[Studio]]
Until = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
ServerBuilder = Callable[..., MCPServer[LazyStudio]]


def segment_arguments(photo: Path, instruction: str = "the helmet", **more: Any) -> SegmentImage:
    """Arguments of `segment_image` for a photo, of the model whose wire the scripted provider speaks."""
    named = {"image": str(photo), "instruction": instruction, "model": "bytedance/sa2va-4b-image"}
    return SegmentImage.model_validate({**named, **more})


async def open_job(
    studio: Studio, arguments: Arguments, principal: str = "local", tool: str = "segment_image"
) -> OpenResult:
    """Start a call: a new job, or the open one that it joins."""
    opening = await studio.start(await studio.plan(tool, arguments, principal))
    assert isinstance(opening, OpenResult)
    return opening


async def start_job(studio: Studio, arguments: Arguments, tool: str = "segment_image") -> Job:
    """Start a call; its job."""
    return (await open_job(studio, arguments, tool=tool)).job


async def perform(studio: Studio, arguments: Arguments, tool: str = "segment_image") -> JobResult:
    """Start a call and wait for its end; the result is not marked as delivered."""
    with anyio.fail_after(SECONDS):
        result = await studio.perform(tool, arguments, "local", SECONDS)
    assert isinstance(result, JobResult)
    return result


def text_of(answer: CallToolResult) -> str:
    """All text blocks of a tool's answer."""
    return "".join(block.text for block in answer.content if isinstance(block, TextContent))
