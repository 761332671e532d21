"""The media of a model's inputs, together: masks that fit what they cover, and what follows from a clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.errors import InvalidInput
from rotoscope.media.decoders import DecodeRunner
from rotoscope.media.edit_masks import fit_mask
from rotoscope.media.intake import AdmittedMedia
from rotoscope.media.vault import Vault
from rotoscope.models.awaited import OutputKind, is_awaited, read_awaited_output
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.film_limits import FilmLimits, find_film_problem
from rotoscope.models.manifest import Manifest
from rotoscope.providers.http.messages import Json

__all__ = ["MaskFitting", "check_films", "choose_by_clip", "find_kind", "fit_masks", "max_edited_frames"]

_DEFAULT_MAX_FRAMES = 400


def check_films(argument: str, limits: FilmLimits, films: Sequence[AdmittedMedia]) -> None:
    """Refuse a film that a model does not take: a provider may charge for finding that out.

    Args:
        argument: the tool's argument, for the error.
        limits: what the model takes.
        films: as they were admitted; what was not read is not checked.

    Raises:
        InvalidInput: one is too short, too small or large, or has too few or many frames a second.
    """
    for film in films:
        if not film.width or not film.height or film.frames is None:
            continue
        problem = find_film_problem(limits, (film.width, film.height), film.duration_seconds, film.frame_rate)
        if problem is not None:
            raise InvalidInput(f"{argument!r} {problem[0]}.", hint=problem[1])


def choose_by_clip(
    manifest: Manifest, asked: Mapping[str, Json], media: Mapping[str, Sequence[AdmittedMedia]]
) -> tuple[dict[str, Json], list[str]]:
    """The arguments that the user left out and that follow the clip that is edited, and sentences for the user."""
    covered = [manifest.inputs[field.covers].argument for field in manifest.inputs.values() if field.covers]
    for name in covered:
        for video in media.get(name or "", ()):
            if video.width and video.height and video.frames:
                clip = ClipShape(video.width, video.height, video.frames, video.duration_seconds or 0.0)
                return arguments_for_clip(manifest, asked, clip)
    return {}, []


@dataclass(frozen=True, slots=True)
class MaskFitting:
    """How masks are made to fit.

    Attributes:
        is_whole: whether the clip is cut into parts later: all its frames count, and its mask stays white.
        is_part: whether the clip is such a part: its mask may be full.
    """

    is_whole: bool = False
    is_part: bool = False


_AS_ONE = MaskFitting()


async def fit_masks(
    vault: Vault,
    decoders: DecodeRunner,
    manifest: Manifest,
    media: dict[str, list[AdmittedMedia]],
    how: MaskFitting = _AS_ONE,
) -> list[str]:
    """Put a mask that fits its video in place of each that does not, and give notes on what was changed.

    Args:
        vault: where the masks are, and the fitted ones will be.
        decoders: runs what decodes them, out of this process.
        manifest: says which input covers which.
        media: the media by argument; changed here. One that does not exist yet is left as it is.
        how: what becomes of the clip.

    Raises:
        UserMistake: a mask cannot be used for its video.
    """
    notes: list[str] = []
    for argument, field in {one.argument: one for one in manifest.inputs.values() if one.covers}.items():
        covered = manifest.inputs[field.covers].argument if field.covers else None
        mask, video = media.get(argument or "", []), media.get(covered or "", [])
        if not (covered and argument and mask):
            continue
        if mask[0].width or is_awaited(mask[0].value):
            _check_mask_kind(manifest, argument, mask[0])
        if mask[0].width:
            frames = video[0].frames if how.is_whole and video else None
            fitting, mask_notes = await fit_mask(
                vault,
                decoders,
                mask[0],
                video[0] if video else None,
                frames or max_edited_frames(manifest),
                inverted=field.polarity == "black" and not how.is_whole,
                may_be_full=how.is_part,
            )
            media[argument] = [fitting]
            notes += mask_notes
        elif not is_awaited(mask[0].value):
            notes.append("How much of the frame the mask selects is not known: it was passed on by its URL, unread.")
    return notes


def find_kind(medium: AdmittedMedia) -> OutputKind:
    """Whether a medium, which may not exist yet, is a picture or a film."""
    awaited = read_awaited_output(medium.value)
    if awaited is not None:
        return awaited.kind
    return "image" if medium.frames is None else "video"


def _check_mask_kind(manifest: Manifest, argument: str, mask: AdmittedMedia) -> None:
    """Some models take a mask as a film alone: they follow nothing that is drawn on the first frame."""
    kind = find_kind(mask)
    taken = {field.kind for field in manifest.inputs.values() if field.argument == argument}
    if kind in taken or "visual" in taken:
        return
    if kind == "image":
        raise InvalidInput(
            f"{manifest.id} takes a mask film, and {argument!r} is a picture.",
            hint="Give a film that is white where the video is to be edited, or leave out the model.",
        )
    raise InvalidInput(
        f"{manifest.id} takes a mask picture, and {argument!r} is a film.",
        hint="Give a mask of the first frame, or leave out the model.",
    )


def max_edited_frames(manifest: Manifest) -> int:
    """How many frames of a video the model edits at most."""
    known = [int(field.maximum) for field in manifest.inputs.values() if field.fits == "frames" and field.maximum]
    known += [field.max_frames for field in manifest.inputs.values() if field.covers and field.max_frames]
    return min(known, default=_DEFAULT_MAX_FRAMES)
