"""The tools by name: what each takes, gives and says of itself. MCP, the command line and the docs read this table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rotoscope.contracts.arguments import (
    Arguments,
    CancelJob,
    DescribeWithMasks,
    EditVideoWithMask,
    GenerateVideo,
    GetJob,
    ListJobs,
    SegmentImage,
    SegmentVideo,
    UploadMedia,
    ViewMedia,
)
from rotoscope.contracts.results import (
    AnyResult,
    DescribeResult,
    JobList,
    JobResult,
    MediaFile,
    SegmentResult,
    SegmentVideoResult,
    VideoResult,
)
from rotoscope.contracts.upload_results import UploadTicket

__all__ = ["HTTP_TOOLS", "TOOLS", "ToolContract"]


@dataclass(frozen=True, slots=True)
class ToolContract:
    """What a tool promises.

    Attributes:
        description: for assistants: the key words first, then when to use it.
        result: the shape of what it gives.
        has_structured_content: whether an MCP client gets that shape; a picture reaches some models only without it.
        can_cost_money: whether a call may cost money.
        is_read_only: whether it changes nothing.
        is_destructive: whether it may end what was paid for.
        is_idempotent: whether an equal call changes nothing more; one that pays never is.
        usual_seconds: about how long its models take, which decides how a call is answered; None where it runs none.
    """

    title: str
    description: str
    arguments: type[Arguments]
    result: type[JobResult] | type[JobList] | type[MediaFile] | type[UploadTicket]
    has_structured_content: bool = True
    can_cost_money: bool = False
    is_read_only: bool = False
    is_destructive: bool = False
    is_idempotent: bool = True
    usual_seconds: float | None = None

    @property
    def job_record(self) -> type[JobResult]:
        """The record of a job of this tool; where the tool is asked about jobs of any tool, the record for all."""
        return self.result if issubclass(self.result, JobResult) else AnyResult


TOOLS: Mapping[str, ToolContract] = {
    "segment_image": ToolContract(
        title="Segment image",
        description=(
            "Segment an image: cut out an object as mask, by words, clicks, box. "
            "Needs a path or URL, not attached bytes."
        ),
        arguments=SegmentImage,
        result=SegmentResult,
        can_cost_money=True,
        usual_seconds=2.0,
    ),
    "describe_with_masks": ToolContract(
        title="Describe with masks",
        description=("Describe an image with a mask for each thing: caption, label, ground."),
        arguments=DescribeWithMasks,
        result=DescribeResult,
        can_cost_money=True,
        usual_seconds=4.0,
    ),
    "generate_video": ToolContract(
        title="Generate video",
        description=(
            "Generate a video from text, pictures, a storyboard, clips or sounds. "
            "Takes minutes, costs money: dry_run first."
        ),
        arguments=GenerateVideo,
        result=VideoResult,
        can_cost_money=True,
        usual_seconds=177.0,
    ),
    "edit_video_with_mask": ToolContract(
        title="Edit video with mask",
        description=(
            "Edit a video inside a mask: replace, remove or insert an object (inpaint). "
            "Name it by target, or give a mask. Costs money."
        ),
        arguments=EditVideoWithMask,
        result=VideoResult,
        can_cost_money=True,
        usual_seconds=120.0,
    ),
    "segment_video": ToolContract(
        title="Segment video",
        description="Segment a video: track an object as mask film.",
        arguments=SegmentVideo,
        result=SegmentVideoResult,
        can_cost_money=True,
        usual_seconds=60.0,
    ),
    "get_job": ToolContract(
        title="Get job",
        description=("Get a job's state, progress, results; can wait."),
        arguments=GetJob,
        result=AnyResult,
        is_read_only=True,
    ),
    "cancel_job": ToolContract(
        title="Cancel job",
        description="Cancel a job, at the provider too; says if charged.",
        arguments=CancelJob,
        result=AnyResult,
        is_destructive=True,
    ),
    "view_media": ToolContract(
        title="View media",
        description="View a result: mask overlay, video frame, filmstrip.",
        arguments=ViewMedia,
        result=MediaFile,
        has_structured_content=False,
        is_read_only=True,
    ),
    "list_jobs": ToolContract(
        title="List jobs",
        description="List newest jobs, to find a lost id.",
        arguments=ListJobs,
        result=JobList,
        is_read_only=True,
    ),
}

_LOCAL_MEDIA, _REMOTE_MEDIA = "Needs a path or URL, not attached bytes.", "Needs a URL, or upload_media first."

HTTP_TOOLS: Mapping[str, ToolContract] = {
    **{
        name: replace(contract, description=contract.description.replace(_LOCAL_MEDIA, _REMOTE_MEDIA))
        for name, contract in TOOLS.items()
    },
    "upload_media": ToolContract(
        title="Upload media",
        description=(
            "Upload a local or attached file: gives a single-use upload_url and a page for the person; "
            "the artifact:// link, once it came, goes into any tool."
        ),
        arguments=UploadMedia,
        result=UploadTicket,
        is_idempotent=False,
    ),
}
"""The tools of a server that is reached over HTTP: files are not on its machine, so they are uploaded."""
