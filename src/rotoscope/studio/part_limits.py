"""Whether a clip is longer than its model takes, and what must be known of its mask to cut both."""

from collections.abc import Mapping, Sequence

from rotoscope.media.intake import AdmittedMedia, Intake
from rotoscope.models.awaited import is_awaited
from rotoscope.models.clip_parts import PartLimit, find_part_limit
from rotoscope.models.manifest import Manifest
from rotoscope.providers.http.messages import Json

__all__ = ["find_clip_limit", "read_unread_masks"]


def find_clip_limit(
    manifest: Manifest, asked: Mapping[str, Json], media: Mapping[str, Sequence[AdmittedMedia]]
) -> PartLimit | None:
    """How many frames the model takes at once, where the clip has more of them and can be cut into parts.

    It cannot where a picture is the mask, which is that of the first frame alone, and it is not where the user says
    how many frames are to be edited.
    """
    clip = next(iter(media.get("video", ())), None)
    if clip is None or not clip.frames:
        return None
    if any(field.fits == "frames" and asked.get(field.argument or "") for field in manifest.inputs.values()):
        return None
    masks = media.get("mask", ()) if manifest.tool == "edit_video_with_mask" else ()
    if any(one.content_type is not None and one.frames is None for one in masks):
        return None
    limit = find_part_limit(manifest, clip.frame_rate)
    return limit if limit is not None and clip.frames > limit.most else None


async def read_unread_masks(
    intake: Intake, manifest: Manifest, media: dict[str, list[AdmittedMedia]], principal: str
) -> None:
    """Read masks that are at an address: they are cut as the clip is."""
    for field in manifest.inputs.values():
        for n, one in enumerate(media.get(field.argument or "", ()) if field.covers else ()):
            if one.content_type is None and not is_awaited(one.value):
                read = await intake.admit("mask", one.value, field.argument or "", principal, pass_urls=False)
                media[field.argument or ""][n] = read
