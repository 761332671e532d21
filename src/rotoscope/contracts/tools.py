"""The tools by name: what each takes, gives and says of itself. MCP, the command line and the docs read this table."""

from collections.abc import Mapping
from dataclasses import dataclass

from rotoscope.contracts.arguments import (
    Arguments,
    CancelJob,
    DescribeWithMasks,
    EditVideoWithMask,
    GenerateVideo,
    GetJob,
    ListJobs,
    SegmentImage,
)
from rotoscope.contracts.results import AnyResult, DescribeResult, JobList, JobResult, SegmentResult, VideoResult

__all__ = ["TOOLS", "ToolContract"]


@dataclass(frozen=True, slots=True)
class ToolContract:
    """What a tool promises.

    Attributes:
        description: for assistants: the key words first, then when to use it.
        pays: whether a call may cost money.
        reads_only: whether it changes nothing.
    """

    title: str
    description: str
    arguments: type[Arguments]
    result: type[JobResult] | type[JobList]
    pays: bool = False
    reads_only: bool = False


TOOLS: Mapping[str, ToolContract] = {
    "segment_image": ToolContract(
        title="Segment image",
        description=(
            "Segment an image: cut out an object as a mask, by words, clicks or a box. Returns each mask as a picture "
            "(URL and path) with box and area, an overlay, and a COCO file. Give a path or URL, not attached bytes."
        ),
        arguments=SegmentImage,
        result=SegmentResult,
        pays=True,
    ),
    "describe_with_masks": ToolContract(
        title="Describe with masks",
        description=(
            "Describe an image in words and get a mask for each thing that is named: caption, label, ground. "
            "Returns the text, its phrases paired with masks, an overlay and a COCO file."
        ),
        arguments=DescribeWithMasks,
        result=DescribeResult,
        pays=True,
    ),
    "generate_video": ToolContract(
        title="Generate video",
        description=(
            "Generate a video from text, pictures, a storyboard, clips or sounds. Takes minutes and costs money: "
            "dry_run shows the price first. Returns the video, a poster frame and a filmstrip."
        ),
        arguments=GenerateVideo,
        result=VideoResult,
        pays=True,
    ),
    "edit_video_with_mask": ToolContract(
        title="Edit video with mask",
        description=(
            "Edit a video inside a mask: replace, remove or insert an object (inpaint). Get the mask from "
            "segment_image on the first frame. Takes minutes and costs money. Returns the video, poster and filmstrip."
        ),
        arguments=EditVideoWithMask,
        result=VideoResult,
        pays=True,
    ),
    "get_job": ToolContract(
        title="Get job",
        description=(
            "Get the state, progress and results of a job, waiting a bounded time for it to finish. "
            "Use it when a tool answered with a job that still runs."
        ),
        arguments=GetJob,
        result=AnyResult,
        reads_only=True,
    ),
    "cancel_job": ToolContract(
        title="Cancel job",
        description="Cancel a job, at the provider too. The result says whether it was charged. Safe to repeat.",
        arguments=CancelJob,
        result=AnyResult,
    ),
    "list_jobs": ToolContract(
        title="List jobs",
        description="List the newest jobs, to find one again whose id was lost.",
        arguments=ListJobs,
        result=JobList,
        reads_only=True,
    ),
}
