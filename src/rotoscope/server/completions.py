"""Completions: model ids, job ids, skills and choices, as they are typed into a prompt or a resource link."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcp_types import Completion, PromptReference, ResourceTemplateReference

from rotoscope.contracts.results import Status
from rotoscope.models.manifest import ToolName
from rotoscope.server.skills import load_skills

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["complete_argument"]

_MOST = 100  # the protocol's limit
# The tool at the heart of each prompt: its models and their choices are what may be typed.
_PROMPT_TOOLS: dict[str, ToolName] = {
    "remove_from_video": "edit_video_with_mask",
    "storyboard_to_video": "generate_video",
    "photo_to_coco": "describe_with_masks",
}
_MEDIA_ARGUMENTS = frozenset({"video", "storyboard", "image", "frame"})
_DONE: Status = "succeeded"


async def complete_argument(
    studio: "Studio", ref: PromptReference | ResourceTemplateReference, argument: str, typed: str, principal: str
) -> Completion:
    """What may stand for an argument, given what was typed of it.

    Args:
        studio: knows the models and the jobs.
        ref: the prompt or resource template.
        argument: the name of its argument.
        typed: the beginning.
        principal: whose jobs are offered.
    """
    offered = await _candidate_values(studio, ref, argument, principal)
    # What begins so comes before what only contains it: ids are known by their middle, too.
    begins = [value for value in offered if value.startswith(typed)]
    holds = [value for value in offered if typed in value and value not in begins]
    found = [*begins, *holds]
    return Completion(values=found[:_MOST], total=len(found), has_more=len(found) > _MOST)


async def _candidate_values(
    studio: "Studio", ref: PromptReference | ResourceTemplateReference, argument: str, principal: str
) -> list[str]:
    match ref, argument:
        case ResourceTemplateReference(), "job_id":
            return await _job_ids(studio, principal, None)
        case ResourceTemplateReference(), "model_id":
            return _model_ids(studio, None)
        case ResourceTemplateReference(uri=uri), "name" | "path" if uri.startswith("skill://"):
            return _skill_places(argument)
        case PromptReference(name=name), _ if name in _PROMPT_TOOLS:
            if argument in _MEDIA_ARGUMENTS:
                return [f"job://{job_id}" for job_id in await _job_ids(studio, principal, _DONE)]
            return (
                _model_ids(studio, _PROMPT_TOOLS[name])
                if argument == "model"
                else _choice_values(studio, _PROMPT_TOOLS[name], argument)
            )
        case _:
            return []


def _skill_places(argument: str) -> list[str]:
    """The names of the skills, or the paths of their files, each once."""
    skills = load_skills()
    if argument == "name":
        return [skill.name for skill in skills]
    return list(dict.fromkeys(path for skill in skills for path in skill.files))


async def _job_ids(studio: "Studio", principal: str, status: Status | None) -> list[str]:
    return [job.job_id for job in (await studio.list(principal, status, _MOST)).jobs]


def _model_ids(studio: "Studio", tool: ToolName | None) -> list[str]:
    known = sorted(studio.manifests(), key=lambda manifest: (manifest.tool, manifest.rank))
    return [manifest.id for manifest in known if tool in (None, manifest.tool)]


def _choice_values(studio: "Studio", tool: ToolName, argument: str) -> list[str]:
    """What any model of a tool takes for an argument: its choices, or each whole number of its range."""
    fields = [
        field
        for manifest in studio.manifests()
        if manifest.tool == tool
        for route in manifest.routes
        for field in manifest.at(route).inputs.values()
        if field.argument == argument
    ]
    choices: Iterable[object] = [choice for field in fields for choice in field.choices]
    numbers = [
        number
        for field in fields
        if field.kind == "integer" and field.minimum is not None and field.maximum is not None
        for number in (*range(int(field.minimum), int(field.maximum) + 1), *field.also)
    ]
    return list(dict.fromkeys(str(value) for value in (*choices, *numbers)))
