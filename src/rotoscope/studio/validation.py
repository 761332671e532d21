"""What a request must satisfy before its job is opened: its prompts, its media, and how they fit together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from rotoscope.contracts.arguments import Arguments, BoxArgument, PointArgument, SegmentImage, SegmentVideo
from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.edits.limits import LARGEST_LAYING_BACK
from rotoscope.media.input_media import (
    MaskFitting,
    check_films,
    choose_by_clip,
    find_kind,
    fit_masks,
    max_edited_frames,
)
from rotoscope.media.intake import AdmittedMedia, Intake
from rotoscope.media.video.limits import check_track_pixels
from rotoscope.models.awaited import AwaitedOutput, is_awaited
from rotoscope.models.catalog import UploadLimit
from rotoscope.models.clip_parts import PartLimit
from rotoscope.models.estimate import MediaLength
from rotoscope.models.manifest import JUDGING_MASK, Input, Manifest
from rotoscope.models.plan import kind_of_input
from rotoscope.providers.http.messages import Json
from rotoscope.studio.part_limits import find_clip_limit, read_unread_masks

__all__ = ["Admission", "JobForm", "admit_media", "check_inside_picture", "explain_unsent_mask"]


@dataclass(frozen=True, slots=True)
class JobForm:
    """A request as it is while the jobs go on whose outputs it names: nothing is known of these media.

    Equal requests have equal forms, whether those jobs go on or have ended.

    Attributes:
        values: the media by argument, those outputs as `step://` links.
        names: the `job://` link that each of these stands for.
    """

    values: Mapping[str, Json]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Admission:
    """The media of a request, checked.

    Attributes:
        values: the arguments that were settled here, by name: links in place of media, and what follows from them.
        media: every admitted medium of an argument, in order.
        notes: what the user should know.
        waits_for: the ids of jobs that go on and are to give some of the media.
        job_form: the request in terms of the jobs whose outputs it names; None where it names none.
        judging_mask: the link of a mask that is not sent: the result is judged by it, and the outside kept.
        part_limit: how many frames the model takes at once, where the clip has more and is to be cut into parts.
    """

    values: Mapping[str, Json]
    media: Mapping[str, Sequence[AdmittedMedia]]
    notes: Sequence[str]
    waits_for: tuple[str, ...] = ()
    job_form: "JobForm | None" = None
    judging_mask: str | None = None
    part_limit: PartLimit | None = None

    @property
    def lengths(self) -> dict[str, MediaLength]:
        """How long every medium lasts of which that is known, by its link."""
        every = [one for media in self.media.values() for one in media]
        timed = [(one.value, one.duration_seconds, one.frames) for one in every]
        return {link: MediaLength(seconds, frames) for link, seconds, frames in timed if seconds is not None}

    @property
    def mask_share(self) -> dict[str, Json] | None:
        """How much of the frame the mask selects, as a result tells it; None without a mask that was read."""
        found = next((one.selects for many in self.media.values() for one in many if one.selects is not None), None)
        return None if found is None else found.share

    @property
    def upload_sizes(self) -> list[int]:
        """The size in bytes of every file that must be brought to the provider."""
        sent = [one for media in self.media.values() for one in media if one.value != self.judging_mask]
        return [one.size for one in sent if one.size is not None]

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
    awaited: Mapping[str, AwaitedOutput] = MappingProxyType({}),
    is_part: bool = False,
) -> Admission:
    """Admit every medium that the arguments name, and make masks fit their videos.

    Args:
        intake: admits one medium.
        manifest: which media the model takes; with a mask that is kept and not sent (`with_judging_mask`), that too.
        asked: the arguments as understood.
        principal: on whose behalf.
        pass_urls: whether the provider reads public URLs itself.
        upload_limit: of the provider that takes the largest files.
        awaited: arguments that an output of a step fills, which does not exist yet.
        is_part: whether the clip is a part of another one, which is cut no further.

    Raises:
        UserMistake: a medium is not read, cannot be used, or does not fit another.
    """
    media: dict[str, list[AdmittedMedia]] = {}
    many: dict[str, bool] = {}
    judging = manifest.inputs.get(JUDGING_MASK)
    _check_place(manifest, {**asked, **awaited})
    for field in manifest.inputs.values():
        given = asked.get(field.argument) if field.argument and field.is_media else None
        if field.argument and field.argument in awaited:
            media[field.argument], many[field.argument] = [AdmittedMedia(awaited[field.argument].link)], False
        if given is None or field.argument is None or field.argument in media:
            continue
        listed = given if isinstance(given, list) else [given]
        _check_item_count(field, listed)
        kind = kind_of_input(field)
        passed = pass_urls and not _must_be_read(manifest, field, asked)
        carrier = None if field is judging else upload_limit  # no provider's limit is of a mask that none gets
        media[field.argument] = [
            await intake.admit(kind, str(one), field.argument, principal, pass_urls=passed, carrier=carrier)
            for one in listed
        ]
        if field.film is not None:
            check_films(field.argument, field.film, media[field.argument])
        many[field.argument] = field.many
    job_form = _describe_by_jobs(media, many)
    waits_for = _number_awaited_jobs(media, max((one.n for one in awaited.values()), default=-1) + 1)
    can_be_cut = not is_part and manifest.tool in ("edit_video_with_mask", "segment_video")
    limit = find_clip_limit(manifest, asked, media) if can_be_cut else None
    if limit is not None:
        await read_unread_masks(intake, manifest, media, principal)
    if asked.get("keep_outside"):
        _check_laying_back(manifest, media, is_whole=limit is not None)
    notes = [*_unread_notes(media), *_first_frame_notes(media), *_intake_notes(media)]
    notes += [*_sound_notes(manifest, media)]
    chosen: dict[str, Json] = {}
    if any(field.covers for field in manifest.inputs.values()):
        how = MaskFitting(is_whole=limit is not None, is_part=is_part)
        notes += await fit_masks(intake.vault, intake.decoders, manifest, media, how)
        chosen, more = ({}, []) if limit is not None else choose_by_clip(manifest, asked, media)
        notes += more
    links = {name: _as_argument([one.value for one in found], many[name]) for name, found in media.items()}
    mask = next((one.value for one in media.get("mask", ())), None) if judging is not None else None
    return Admission({**chosen, **links}, media, notes, waits_for, job_form, mask, limit)


def _must_be_read(manifest: Manifest, field: Input, asked: Mapping[str, Json]) -> bool:
    """Whether a medium is read here, wherever it is.

    So is a mask that is sent the other way round, or not at all; a clip in which an object is followed, because its
    frames are counted and its size is the mask's; and films that are laid together.
    """
    is_followed = manifest.tool == "segment_video" and field.argument == "video"
    is_unsent = field is manifest.inputs.get(JUDGING_MASK)
    return field.polarity != "white" or is_followed or is_unsent or bool(asked.get("keep_outside"))


def _number_awaited_jobs(media: dict[str, list[AdmittedMedia]], first: int) -> tuple[str, ...]:
    """The ids of the jobs that are to give media; these media are named as a plan names them from now on.

    Args:
        media: by argument; changed here.
        first: the number of the first of these jobs.
    """
    awaited = [one.job_file for found in media.values() for one in found if one.is_awaited]
    ids = list(dict.fromkeys(one.job_id for one in awaited if one is not None))
    for argument, found in media.items():
        media[argument] = [
            replace(one, value=one.job_file.as_awaited(first + ids.index(one.job_file.job_id)))
            if one.job_file is not None and one.is_awaited
            else one
            for one in found
        ]
    return tuple(ids)


def _describe_by_jobs(media: Mapping[str, Sequence[AdmittedMedia]], many: Mapping[str, bool]) -> JobForm | None:
    named = [one.job_file for found in media.values() for one in found if one.job_file is not None]
    if not named:
        return None
    ids = list(dict.fromkeys(one.job_id for one in named))
    links = {one.link: one.as_awaited(ids.index(one.job_id)) for one in named}
    values = {
        name: _as_argument([links[one.job_file.link] if one.job_file else one.value for one in found], many[name])
        for name, found in media.items()
    }
    return JobForm(values, {awaited: link for link, awaited in links.items()})


def _as_argument(values: Sequence[str], is_list: bool) -> Json:
    return list(values) if is_list else values[0]


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
    passed = sorted({name for name, found in media.items() for one in found if _is_unread(one)})
    if not passed or passed == ["image"]:
        return []
    return [f"Passed on by URL and so not checked: {', '.join(passed)}."]


def _is_unread(medium: AdmittedMedia) -> bool:
    return medium.content_type is None and not is_awaited(medium.value)


def _first_frame_notes(media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    taken = [one for found in media.values() for one in found if one.is_first_frame]
    return [f"The picture is the first frame of the video, {one.width}x{one.height} pixels." for one in taken]


def _intake_notes(media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    """What was found while a medium was checked, each sentence once."""
    return list(dict.fromkeys(note for found in media.values() for one in found for note in one.notes))


def _sound_notes(manifest: Manifest, media: Mapping[str, Sequence[AdmittedMedia]]) -> list[str]:
    """What becomes of the sound of a clip that is edited."""
    if manifest.outputs.video is None:
        return []
    covered = {manifest.inputs[field.covers].argument for field in manifest.inputs.values() if field.covers}
    sounds = any(one.has_audio for name in covered if name for one in media.get(name, ()))
    if not sounds or manifest.outputs.sound:
        return []
    if manifest.outputs.sound is None:
        return ["The clip has sound: where the model gives none, the clip's own is put back at equal speed."]
    return ["The clip has sound and the model gives none: the clip's own is put back, if the result has its speed."]


def _check_place(manifest: Manifest, given: Mapping[str, object]) -> None:
    """What is to be edited must be known, unless the model edits by words alone.

    Raises:
        InvalidInput: nothing says it, or there is no mask to keep the outside of.
    """
    if manifest.tool != "edit_video_with_mask" or given.get("mask") is not None:
        return
    hint = "Give target (words, or a box or points on the first frame), or a mask."
    if JUDGING_MASK not in manifest.inputs:
        raise InvalidInput("Nothing says which part of the video is to be edited.", hint=hint)
    if given.get("keep_outside"):
        raise InvalidInput("keep_outside needs a mask: nothing says what is outside.", hint=hint)


def explain_unsent_mask(manifest: Manifest, asked: Mapping[str, Json], *, is_named: bool) -> list[str]:
    """What becomes of the mask of an edit whose model takes none.

    Args:
        manifest: the model.
        asked: the arguments as understood.
        is_named: whether the user named the model; else no model that takes a mask can be used.
    """
    if not manifest.edits_by_words:
        return []
    words = f"{manifest.id} edits by the words of the prompt alone and may change all of the frame"
    if not is_named:
        words = f"No model that takes a mask can be used with the keys that are set. {words}"
    if asked.get("mask") is None and asked.get("target") is None:
        return [f"{words}: without a mask or a target nothing says what it was to change."]
    what = "The mask" if asked.get("mask") is not None else "What the target finds"
    use = "it judges the result, and outside of it the original is laid back"
    if not asked.get("keep_outside"):
        use = "it judges the result; keep_outside lays the original back outside of it"
    return [f"{words}. {what} is not sent: {use}."]


def _check_laying_back(manifest: Manifest, media: Mapping[str, Sequence[AdmittedMedia]], *, is_whole: bool) -> None:
    """The original is laid back frame by frame, so the mask of every frame must be known, and the work bounded."""
    masks, films = media.get("mask", ()), media.get("video", ())
    if any(find_kind(mask) == "image" for mask in masks):
        raise InvalidInput(
            "keep_outside needs a mask film: a picture is the mask of the first frame alone.",
            hint="Give a film that is white where each frame is to be edited, or leave keep_outside out.",
        )
    most = max_edited_frames(manifest)
    for film in films:
        frames = film.frames if is_whole and film.frames else min(film.frames or most, most)
        pixels = (film.width or 0) * (film.height or 0) * frames
        if pixels > LARGEST_LAYING_BACK:
            raise TooLarge(
                f"The video ({film.width}x{film.height}) is too large for keep_outside.",
                hint="Give a smaller or shorter video, or leave keep_outside out.",
            )


def check_inside_picture(arguments: Arguments, picture: AdmittedMedia | None) -> list[str]:
    """Points and boxes are in pixels of the upright picture or clip; outside of it they are a mistake, as is a frame.

    Returns:
        A note where the picture was not read, so that they could not be compared with its size.

    Raises:
        InvalidInput: a point or a box is outside, or the clip has no such frame.
        TooLarge: the clip has too many pixels for its masks to become films.
    """
    if not isinstance(arguments, SegmentImage | SegmentVideo) or picture is None:
        return []
    if isinstance(arguments, SegmentVideo):
        _check_frame(arguments.frame, picture)
    if not (arguments.points or arguments.box):
        return []
    if arguments.box is not None:
        _check_box(arguments.box, picture)
    for point in arguments.points or ():
        _check_point(point, picture)
    if picture.width is None:
        return ["The picture was passed on by its URL, so points and box could not be compared with its size."]
    return []


def _check_frame(frame: int, clip: AdmittedMedia) -> None:
    if clip.width and clip.height and clip.frames:
        check_track_pixels(clip.width, clip.height, clip.frames)
    if clip.frames is not None and frame >= clip.frames:
        raise InvalidInput(
            f"The clip has no frame {frame}: it has {clip.frames} frames, from 0 to {clip.frames - 1}.",
            hint="Give the number of a frame that the clip has.",
        )


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
