"""What an edit changes, as the request that finds it in every frame. Pure."""

from rotoscope.contracts.arguments import BoxArgument, EditVideoWithMask, SegmentVideo

__all__ = ["segmentation_of_target"]


def segmentation_of_target(edit: EditVideoWithMask) -> SegmentVideo:
    """The call of `segment_video` whose mask film an edit with a `target` takes as its mask."""
    target = edit.target
    if isinstance(target, str):
        return SegmentVideo(video=edit.video, instruction=target)
    if isinstance(target, BoxArgument):
        return SegmentVideo(video=edit.video, box=target)
    return SegmentVideo(video=edit.video, points=target)
