"""What a request must satisfy before its job is opened: its prompts, its media, and how they fit together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from rotoscope.contracts.arguments import Arguments, BoxArgument, PointArgument, SegmentImage
from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.edit_masks import fit_mask
from rotoscope.media.edits.limits import LARGEST_LAYING_BACK
from rotoscope.media.intake import AdmittedMedia, Intake, MediaKind
from rotoscope.models.catalog import UploadLimit
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.estimate import MediaLength
from rotoscope.models.manifest import Input, Manifest
from rotoscope.providers.http.messages import Json

__all__ = ["Admission", "admit_media", "check_inside_picture"]

_DEFAULT_MAX_FRAMES = 400


@dataclass(frozen=True, slots=True)
class Admission:
    """The media of a request, checked.

    Attributes:
        values: the arguments that were settled here, by name: links in place of media, and what follows from them.
        media: every admitted medium of an argument, in order.
        notes: what the user should know.
    """

    values: Mapping[str, Json]
    media: Mapping[str, Sequence[AdmittedMedia]]
    notes: Sequence[str]

    @property
    def lengths(self) -> dict[str, MediaLength]:
        """How long every medium lasts of which that is known, by its link."""
        every = [one for media in self.media.values() for one in media]
        timed = [(one.value, one.duration_seconds, one.frames) for one in every]
        return {link: MediaLength(seconds, frames) for link, seconds, frames in timed if seconds is not None}

    @property
    def mask_share(self) -> dict[str, Json] | None:
        """How much of the frame the mask selects, as a result tells it; None without a mask that was read."""
        every = (one.selects for media in self.media.values() for one in media)
        found = next((one for one in every if one is not None), None)
        if found is None:
            return None
        return {"least": round(found.least, 6), "most": round(found.most, 6), "frames": found.frames}

    @property
    def upload_sizes(self) -> list[int]:
        """The size in bytes of every file that must be brought to the provider."""
        return [one.size for media in self.media.values() for one in media if one.size is not None]

    @property
    def file_hashes(self) -> tuple[str, ...]:
        """The hashes of the kept files that it needs: what is sent, and the picture that masks are painted on."""
        every = {one.value for found in self.media.values() for one in found}
        return tuple(sorted(uri.removeprefix("artifact://") for uri in every if uri.startswith("artifact://")))

    @property
    def links(self) -> dict[str, tuple[str, ...]]:
        """The links of all media, by argument."""
        return {argument: tuple(one.value for one in found) for argument, found in self.media.items()}

    def first_medium(self, argument: str) -> AdmittedMedia | None:
        """The first medium of an argument."""
        return next(iter(self.media.get(argument, ())), None)


async def admit_media(
    intake: Intake,
    manifest: Manifest,
    asked: Mapping[str, Json],
    principal: str,
    *,
    pass_urls: bool,
    upload_limit: UploadLimit | None = None,
) -> Admission:
    """Admit every medium that the arguments name, and make masks fit their videos.

    Raises:
        UserMistake: a medium is not read, cannot be used, or does not fit another.
    """
    media: dict[str, list[AdmittedMedia]] = {}
    many: dict[str, bool] = {}
    for field in manifest.inputs.values():
        given = asked.get(field.argument) if field.argument and field.is_media else None
        if given is None or field.argument is None or field.argument in media:
            continue
        listed = given if isinstance(given, list) else [given]
        _check_item_count(field, listed)
        # What is looked at may be a video's first frame; what is to be shown in a video is meant as it is.
        kind = "still" if field.argument == "image" else "mask" if field.covers else cast("MediaKind", field.kind)
        # A mask that is sent the other way round must be read, wherever it is; so must films that are laid together.
        passed = pass_urls and field.polarity == "white" and not asked.get("keep_outside")
        media[field.argument] = [
            await intake.admit(kind, str(one), field.argument, principal, pass_urls=passed, carrier=upload_limit)
            for one in listed
        ]
        many[field.argument] = field.many
    if asked.get("keep_outside"):
        _check_laying_back(manifest, media)
    notes = [*_unread_notes(media), *_first_frame_notes(media), *_intake_notes(media)]
    notes += [*_sound_notes(manifest, media), *await _fit_masks(intake, manifest, media)]
    chosen, more = _arguments_for_video(manifest, asked, media)
    links: dict[str, Json] = {n: [o.value for o in found] if many[n] else found[0].value for n, found in media.items()}
    return Admission({**chosen, **links}, media, [*notes, *more])


def _check_item_count(field: Input, listed: Sequence[Json]) -> None:
    """Too many are refused before the first is read."""
    most = field.max_items if field.many else 1
    if most is not None and len(listed) > most:
        raise InvalidInput(
            f"{field.argument!r} has {len(listed)} items; the model takes at most {most}.",
            hint="Give fewer.",
        )


def _unread_notes(media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    """What could not be checked, because the provider reads it from its own address."""
    passed = sorted({name for name, found in media.items() for one in found if one.content_type is None})
    if not passed or passed == ["image"]:
        return []
    return [f"Passed on by URL and so not checked: {', '.join(passed)}."]


def _first_frame_notes(media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    taken = [one for found in media.values() for one in found if one.is_first_frame]
    return [f"The picture is the first frame of the video, {one.width}x{one.height} pixels." for one in taken]


def _intake_notes(media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    """What was found while a medium was checked, each sentence once."""
    return list(dict.fromkeys(note for found in media.values() for one in found for note in one.notes))


def _sound_notes(manifest: Manifest, media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    """What becomes of the sound of a clip that is edited."""
    covered = {manifest.inputs[field.covers].argument for field in manifest.inputs.values() if field.covers}
    sounds = any(one.has_audio for name in covered if name for one in media.get(name, ()))
    if not sounds or manifest.outputs.sound:
        return []
    if manifest.outputs.sound is None:
        return ["The clip has sound: where the model gives none, the clip's own is put back at equal speed."]
    return ["The clip has sound and the model gives none: the clip's own is put back, if the result has its speed."]


async def _fit_masks(intake: Intake, manifest: Manifest, media: dict[str, list[AdmittedMedia]]) -> list[str]:
    notes: list[str] = []
    for argument, field in {one.argument: one for one in manifest.inputs.values() if one.covers}.items():
        covered = manifest.inputs[field.covers].argument if field.covers else None
        mask, video = media.get(argument or "", []), media.get(covered or "", [])
        if covered and argument and mask and mask[0].width:
            _check_mask_kind(manifest, argument, mask[0])
            fitting, mask_notes = await fit_mask(
                intake.vault,
                intake.decoders,
                mask[0],
                video[0] if video else None,
                _max_edited_frames(manifest),
                inverted=field.polarity == "black",
            )
            media[argument] = [fitting]
            notes += mask_notes
        elif covered and mask:
            notes.append("How much of the frame the mask selects is not known: it was passed on by its URL, unread.")
    return notes


def _check_mask_kind(manifest: Manifest, argument: str, mask: AdmittedMedia) -> None:
    """Some models take a mask as a film alone: they follow nothing that is drawn on the first frame."""
    kind = "image" if mask.frames is None else "video"
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


def _check_laying_back(manifest: Manifest, media: Mapping[str, Sequence[AdmittedMedia]]) -> None:
    """The original is laid back frame by frame, so the mask of every frame must be known, and the work bounded."""
    masks, films = media.get("mask", ()), media.get("video", ())
    if any(mask.frames is None for mask in masks):
        raise InvalidInput(
            "keep_outside needs a mask film: a picture is the mask of the first frame alone.",
            hint="Give a film that is white where each frame is to be edited, or leave keep_outside out.",
        )
    most = _max_edited_frames(manifest)
    for film in films:
        pixels = (film.width or 0) * (film.height or 0) * min(film.frames or most, most)
        if pixels > LARGEST_LAYING_BACK:
            raise TooLarge(
                f"The video ({film.width}x{film.height}) is too large for keep_outside.",
                hint="Give a smaller or shorter video, or leave keep_outside out.",
            )


def _max_edited_frames(manifest: Manifest) -> int:
    """How many frames of a video the model edits at most."""
    known = [int(field.maximum) for field in manifest.inputs.values() if field.fits == "frames" and field.maximum]
    return min(known, default=_DEFAULT_MAX_FRAMES)


def _arguments_for_video(
    manifest: Manifest, asked: Mapping[str, Json], media: Mapping[str, Sequence[AdmittedMedia]]
) -> tuple[dict[str, Json], list[str]]:
    covered = [manifest.inputs[field.covers].argument for field in manifest.inputs.values() if field.covers]
    for name in covered:
        for video in media.get(name or "", ()):
            if video.width and video.height and video.frames:
                return arguments_for_clip(manifest, asked, ClipShape(video.width, video.height, video.frames))
    return {}, []


def check_inside_picture(arguments: Arguments, picture: AdmittedMedia | None) -> list[str]:
    """Points and boxes are in pixels of the upright picture; outside of it they are a mistake.

    Returns:
        A note where the picture was not read, so that they could not be compared with its size.

    Raises:
        InvalidInput: a point or a box is outside.
    """
    if not isinstance(arguments, SegmentImage) or not (arguments.points or arguments.box) or picture is None:
        return []
    if arguments.box is not None:
        _check_box(arguments.box, picture)
    for point in arguments.points or ():
        _check_point(point, picture)
    if picture.width is None:
        return ["The picture was passed on by its URL, so points and box could not be compared with its size."]
    return []


def _check_point(point: PointArgument, picture: AdmittedMedia) -> None:
    width, height = picture.width or float("inf"), picture.height or float("inf")
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise InvalidInput(
            f"The point ({point.x:g}, {point.y:g}) is outside the picture, which is {_size_text(picture)} pixels.",
            hint="Give x and y in pixels of the upright picture, counted from its top left corner.",
        )


def _check_box(box: BoxArgument, picture: AdmittedMedia) -> None:
    width, height = picture.width or float("inf"), picture.height or float("inf")
    if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
        raise InvalidInput(
            f"The box goes beyond the picture, which is {_size_text(picture)} pixels.",
            hint="Give left, top, right and bottom in pixels of the upright picture.",
        )


def _size_text(picture: AdmittedMedia) -> str:
    return f"{picture.width}x{picture.height}" if picture.width else "of unknown size in"
