"""Hints for people who type: prompts to begin with, and completions of what may stand in them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    Prompt,
    PromptReference,
    ResourceTemplateReference,
)

from rotoscope.contracts.characters import is_blank
from rotoscope.server.completions import complete
from rotoscope.server.prompts import prompts

if TYPE_CHECKING:
    from rotoscope.studio import Studio

__all__ = ["check_prompt", "serve_hints"]


def check_prompt(listed: Sequence[Prompt], name: str, given: Mapping[str, object]) -> None:
    """Refuse a prompt that does not exist, lacks an argument or has no such; the SDK would call it an error of ours.

    Raises:
        MCPError: the parameters are invalid.
    """
    known = {prompt.name: prompt for prompt in listed}
    if name not in known:
        raise MCPError(INVALID_PARAMS, f"There is no prompt {name[:80]!r}. Prompts: {', '.join(known)}.")
    arguments = {one.name: bool(one.required) for one in known[name].arguments or ()}
    unknown = next((one for one in given if one not in arguments), None)
    if unknown is not None:
        words = f"The prompt {name} has no argument {unknown[:80]!r}. Arguments: {', '.join(arguments) or 'none'}."
        raise MCPError(INVALID_PARAMS, words)
    missing = [one for one, required in arguments.items() if required and is_blank(str(given.get(one, "")))]
    if missing:
        raise MCPError(INVALID_PARAMS, f"The prompt {name} needs {', '.join(missing)}.")


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
