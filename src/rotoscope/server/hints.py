"""Hints for people who type: prompts to begin with, and completions of what may stand in them."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import MCPServer
from mcp_types import Completion, CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference

from rotoscope.server.completions import complete
from rotoscope.server.prompts import prompts

if TYPE_CHECKING:
    from rotoscope.studio import Studio

__all__ = ["serve_hints"]


def serve_hints(server: MCPServer[Any], studio: "Callable[[], Awaitable[Studio]]", principal: str) -> None:
    """Add the prompts, and complete their arguments and those of the resource templates."""
    for prompt in prompts():
        server.add_prompt(prompt)

    async def completed(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,  # noqa: ARG001 - no argument of ours depends on another
    ) -> Completion:
        return await complete(await studio(), ref, argument.name, argument.value, principal)

    server.completion()(completed)  # type: ignore[no-untyped-call]  # the SDK left it without types
