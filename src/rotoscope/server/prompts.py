"""Prompts: chains of tools that people often want, as texts to start from, and the completion of their arguments."""

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

_WAIT_STEP = "While a job runs, call get_job with its job_id and wait_seconds; do not call the tool again."
_PRICE_STEP = "Call it with dry_run: true first and tell me the price; go on only if I agree."

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
    return _step_list(
        f"Take {what} out of the video {video}.",
        f"Find {what} on the first frame with segment_image, image {frame or video}: by its words, or by a box or "
        "points around it."
        + ("" if frame else " It takes the first frame of a video on this machine; one at an URL must be saved first.")
        + f" {_preview_hint('segment_image')}",
        "Look at the overlay with view_media job://ID/overlay. If the mask is wrong, try a box or more points.",
        f"Call edit_video_with_mask with the video, mask job://ID and a prompt that says what is seen there then: "
        f"{instead or 'the background alone, without ' + what}.{_model_hint(model)} {_PRICE_STEP}",
        f"{_WAIT_STEP} Look at the result with view_media job://ID/filmstrip and give me the path of the video.",
    )


def storyboard_to_video(
    storyboard: Image,
    story: Annotated[str, Field(description="What happens, in any language; empty: as the storyboard shows it.")] = "",
    duration: Annotated[str, Field(description="Seconds.")] = "",
    resolution: Annotated[str, Field(description="Such as 720p.")] = "",
    aspect_ratio: Annotated[str, Field(description="Such as 16:9.")] = "",
    model: Model = "",
) -> str:
    """Make a video of a storyboard."""
    chosen = {"duration": duration, "resolution": resolution, "aspect_ratio": aspect_ratio}
    options = "".join(f", {name} {value}" for name, value in chosen.items() if value)
    return _step_list(
        f"Make a video of the storyboard {storyboard}.",
        f"Look at the storyboard. {_preview_hint('generate_video')} Write a prompt that calls it 'Image 1' and "
        f"tells its "
        f"panels in order, with camera, movement and sound. {story or 'Tell only what it shows.'}",
        f"Call generate_video with that prompt, the storyboard in "
        f"reference_images{options}.{_model_hint(model)} {_PRICE_STEP}",
        f"{_WAIT_STEP} Look at the result with view_media job://ID/filmstrip and compare it with the "
        f"storyboard, panel by "
        "panel. Give me the path of the video and its seed.",
    )


def photo_to_coco(
    image: Image,
    focus: Annotated[str, Field(description="What to label; empty: everything that stands out.")] = "",
    model: Model = "",
) -> str:
    """Describe a photo, label what is in it, and save the labels as COCO."""
    wanted = f" with a prompt that asks for {focus}" if focus else ""
    return _step_list(
        f"Describe and label the photo {image}.",
        f"Call describe_with_masks on it{wanted}.{_model_hint(model)}",
        "Look at the overlay with view_media job://ID/overlay. For what is missing or wrong, call segment_image with "
        "words, a box or points.",
        "Give me the description, a table of the labels with box and area, and the path of each COCO file (coco.path).",
    )


PROMPTS: tuple[tuple[str, Callable[..., str]], ...] = (
    ("Remove from video", remove_from_video),
    ("Storyboard to video", storyboard_to_video),
    ("Photo to COCO", photo_to_coco),
)


def build_prompts() -> list[PromptFunction]:
    """Every prompt as it is listed."""
    return [PromptFunction.from_function(fn, title=title, description=fn.__doc__) for title, fn in PROMPTS]


def _step_list(goal: str, *steps: str) -> str:
    return "\n".join([goal, *(f"{number}. {step}" for number, step in enumerate(steps, 1))])


def _preview_hint(tool: str) -> str:
    return f"If you cannot open it, {tool} with dry_run: true shows it as an artifact:// link that view_media takes."


def _model_hint(model: str) -> str:
    return f" Use the model {model}." if model else ""


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
