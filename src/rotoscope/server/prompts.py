"""Prompts: chains of tools that people often want, as texts to start from, and the completion of their arguments.

The text of a prompt is what the user gave, and then the skill of that chain: there is one text of each.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.prompts import Prompt as PromptFunction
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Prompt,
)
from pydantic import Field

from rotoscope.contracts.characters import is_blank
from rotoscope.errors import RotoscopeError
from rotoscope.protocol.lowlevel import serve_method
from rotoscope.protocol.tasks import PrincipalOf
from rotoscope.server.completions import complete_argument
from rotoscope.server.skills import find_skill

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = [
    "PROMPTS",
    "build_prompts",
    "check_prompt_request",
    "photo_to_coco",
    "remove_from_video",
    "serve_prompts",
    "storyboard_to_video",
]

Video = Annotated[str, Field(description="Path, https URL, artifact:// or job:// of the video.")]
Image = Annotated[str, Field(description="Path, https URL, artifact:// or job:// of the picture.")]
Model = Annotated[str, Field(description="Model id; empty: the first that fits.")]


def remove_from_video(
    video: Video,
    what: Annotated[str, Field(description="What to take out, such as 'the red ball'.")],
    instead: Annotated[str, Field(description="What is there afterwards; empty: the background.")] = "",
    frame: Annotated[str, Field(description="The first frame as a picture, if there is one.")] = "",
    model: Model = "",
) -> str:
    """Cut something out of a video and put the background, or something else, in its place."""
    goal = f"Take {what} out of the video {video}."
    facts = {
        "What is seen there then": instead or f"the background alone, without {what}",
        "The first frame as a picture": frame,
        "Model of edit_video_with_mask": model,
    }
    return _apply_skill("remove-from-video", goal, facts)


def storyboard_to_video(
    storyboard: Image,
    story: Annotated[str, Field(description="What happens, in any language; empty: as the storyboard shows it.")] = "",
    duration: Annotated[str, Field(description="Seconds.")] = "",
    resolution: Annotated[str, Field(description="Such as 720p.")] = "",
    aspect_ratio: Annotated[str, Field(description="Such as 16:9.")] = "",
    model: Model = "",
) -> str:
    """Make a video of a storyboard."""
    chosen = {"duration": duration, "resolution": resolution, "aspect_ratio": aspect_ratio, "model": model}
    facts = {
        "What happens": story or "only what it shows",
        "Arguments of generate_video": ", ".join(f"{name} {value}" for name, value in chosen.items() if value),
    }
    return _apply_skill("storyboard-to-video", f"Make a video of the storyboard {storyboard}.", facts)


def photo_to_coco(
    image: Image,
    focus: Annotated[str, Field(description="What to label; empty: everything that stands out.")] = "",
    model: Model = "",
) -> str:
    """Describe a photo, label what is in it, and save the labels as COCO."""
    facts = {"What to label": focus, "Model of describe_with_masks": model}
    return _apply_skill("photo-to-coco", f"Describe and label the photo {image}.", facts)


PROMPTS: tuple[tuple[str, Callable[..., str]], ...] = (
    ("Remove from video", remove_from_video),
    ("Storyboard to video", storyboard_to_video),
    ("Photo to COCO", photo_to_coco),
)


def build_prompts() -> list[PromptFunction]:
    """Every prompt as it is listed."""
    return [PromptFunction.from_function(fn, title=title, description=fn.__doc__) for title, fn in PROMPTS]


def _apply_skill(name: str, goal: str, facts: Mapping[str, str]) -> str:
    """A skill with what it is to be applied to; what the user left open is left out."""
    given = [f"- {fact}: {value}" for fact, value in facts.items() if value]
    return "\n".join([goal, *given, "", find_skill(name).body])


def check_prompt_request(listed: Sequence[Prompt], name: str, given: Mapping[str, object]) -> None:
    """Refuse an unknown prompt, a missing argument or an unknown one; the SDK would answer an internal error.

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


def serve_prompts(
    server: MCPServer[Any], studio: "Callable[[], Awaitable[Studio]]", find_principal: PrincipalOf
) -> None:
    """Add the prompts, and complete their arguments and those of the resource templates.

    Args:
        server: gets them.
        studio: opens the studio, or gives the open one.
        find_principal: on whose behalf a request comes.
    """
    for prompt in build_prompts():
        server.add_prompt(prompt)

    async def complete(ctx: ServerRequestContext[Any, Any], params: CompleteRequestParams) -> CompleteResult:
        ref, name, typed = params.ref, params.argument.name, params.argument.value
        try:
            found = await complete_argument(await studio(), ref, name, typed, find_principal(ctx))
        except RotoscopeError as error:
            raise MCPError(INTERNAL_ERROR, f"Error completing argument {name}") from error
        return CompleteResult(completion=found)

    serve_method(server, "completion/complete", CompleteRequestParams, complete)
