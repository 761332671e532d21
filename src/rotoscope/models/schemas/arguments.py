"""Which argument of a tool fills which input of a model: by type, name and description. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rotoscope.models.manifest import EncoderName, ToolName
from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.fields import SchemaField
from rotoscope.models.schemas.media import MediaField, plain_name
from rotoscope.models.schemas.names import split_words
from rotoscope.models.schemas.tools import find_prompt

__all__ = ["Filling", "assign_arguments"]


@dataclass(frozen=True, slots=True)
class Filling:
    """How an input is filled.

    Attributes:
        is_guess: the name alone does not say so.
    """

    argument: str
    encode: EncoderName | None = None
    is_guess: bool = False


Fillings = Mapping[str, Filling]
_FIRST_FRAMES = (
    "first_frame_image", "first_frame", "start_image", "start_frame", "start_frame_image", "first_image",
    "starting_image", "image", "input_image", "init_image", "source_image", "image_input", "img", "frame", "photo",
    "initial_image", "image_1", "img_1", "image_a", "keyframe", "input",
)  # fmt: skip
_LAST_FRAMES = (
    "last_frame_image", "last_frame", "last_image", "end_image", "end_frame", "end_frame_image", "ending_image",
    "tail_image", "tail", "tail_frame", "final_frame", "final_image",
)  # fmt: skip
_SECOND_PICTURES = ("second_image", "image_2", "img_2", "image_b")
_THIRD_PICTURES = frozenset({"third_image", "image_3", "img_3"})
_REFERENCE_WORDS = frozenset({"reference", "ref", "subject", "character", "face", "person", "style", "element"})
_VIDEOS = ("video", "input_video", "source_video", "src_video", "reference_video", "video_input", "base_video", "input")
_AUDIOS = ("audio", "input_audio", "audio_input", "driving_audio", "speech", "voice", "sound", "music")
_BOTH_VIDEO_TOOLS: Mapping[str, tuple[str, ...]] = {
    "seed": ("seed", "random_seed", "noise_seed", "generation_seed"),
}
_SCALARS: Mapping[ToolName, Mapping[str, tuple[str, ...]]] = {
    "generate_video": {
        **_BOTH_VIDEO_TOOLS,
        "duration": ("duration", "duration_seconds", "video_duration", "length_seconds", "seconds", "num_seconds",
                     "video_length_seconds", "length", "video_length"),
        "resolution": ("resolution", "video_resolution", "output_resolution", "size", "video_size", "image_size"),
        "aspect_ratio": ("aspect_ratio", "ratio", "video_aspect_ratio", "aspect"),
        "generate_audio": ("generate_audio", "enable_audio", "with_audio", "generate_sound", "sound", "audio",
                           "generate_audio_switch"),
    },
    "edit_video_with_mask": {
        **_BOTH_VIDEO_TOOLS,
        "size": ("size", "resolution", "video_size", "output_resolution"),
        "frame_num": ("frame_num", "num_frames", "frames", "video_length"),
        "speed_mode": ("speed_mode", "acceleration", "fast_mode"),
        "sample_steps": ("sample_steps", "num_inference_steps", "num_steps", "steps", "inference_steps"),
        "sample_shift": ("sample_shift", "shift", "flow_shift"),
        "sample_solver": ("sample_solver", "sampler", "solver", "scheduler"),
        "sample_guide_scale": ("sample_guide_scale", "guidance_scale", "guide_scale", "cfg_scale", "cfg", "guidance"),
    },
    "segment_image": {},
    "describe_with_masks": {},
}  # fmt: skip
_TYPES: Mapping[str, tuple[str, ...]] = {
    "seed": ("integer",),
    "duration": ("integer", "number", "string"),
    "resolution": ("string", "integer"),
    "aspect_ratio": ("string",),
    "generate_audio": ("boolean",),
    "size": ("string",),
    "frame_num": ("integer",),
    "speed_mode": ("string",),
    "sample_steps": ("integer",),
    "sample_shift": ("integer", "number"),
    "sample_solver": ("string",),
    "sample_guide_scale": ("integer", "number"),
}
_KEPT_POINTS = (
    "coordinates", "points", "point", "clicks", "input_points", "point_coords", "click_coordinates", "point_prompts",
    "foreground_points", "positive_points", "point_coordinates", "include_points",
)  # fmt: skip
_DROPPED_POINTS = (
    "remove_coordinates", "negative_points", "exclude_points", "background_points", "negative_coordinates",
)  # fmt: skip


def assign_arguments(document: ModelDocument, tool: ToolName, media: Mapping[str, MediaField]) -> Fillings:
    """What fills each input of a model, by its name; inputs that no argument fills are left out."""
    usable = [field for field in document.fields if not field.is_secret and not field.is_hidden]
    shown = [one for one in media.values() if one.field in usable]
    found: dict[str, Filling] = {}
    match tool:
        case "generate_video":
            _assign_generation_media(shown, found)
        case "edit_video_with_mask":
            _assign_edit_media(shown, found)
        case _:
            _assign_first(_ordered(shown, "image", _FIRST_FRAMES), "image", found)
    prompt = find_prompt(usable, media)
    if prompt is not None:
        argument = "instruction" if tool == "segment_image" else "prompt"
        asks = tool == "describe_with_masks" and "sa2va" in document.name.endpoint.lower()
        found[prompt.name] = Filling(argument, "append_sa2va_request" if asks else None)
    if tool == "segment_image":
        _assign_places(usable, found)
    _assign_scalars(usable, media, tool, found)
    return found


def _assign_first(
    media: Sequence[MediaField], argument: str, found: dict[str, Filling], *, is_guess: bool = False
) -> None:
    """Give an argument to the best of some inputs that nothing fills yet."""
    free = [one for one in media if one.field.name not in found]
    if free:
        found[free[0].field.name] = Filling(argument, is_guess=is_guess)


def _ordered(media: Iterable[MediaField], kind: str, names: Sequence[str], *, masks: bool = False) -> list[MediaField]:
    """The inputs of one kind, the best first: by the order of the names, then those required, then as they are."""
    kinds = (kind, "visual")

    def rank(one: MediaField) -> tuple[int, bool]:
        plain = plain_name(one.field.name)
        return names.index(plain) if plain in names else len(names), not one.field.is_required

    return sorted((one for one in media if one.kind in kinds and one.is_mask is masks), key=rank)


def _is_reference(one: MediaField) -> bool:
    return bool(set(split_words(one.field.name)) & _REFERENCE_WORDS)


def _assign_generation_media(media: Sequence[MediaField], found: dict[str, Filling]) -> None:
    pictures = [one for one in media if one.kind == "image" and not one.is_mask]
    single = [one for one in pictures if not one.field.many]
    lists = [one for one in pictures if one.field.many]
    names = {plain_name(one.field.name) for one in single}
    # Two numbered pictures are the ends of a film; of more, the others are on the way.
    ends = _LAST_FRAMES if names & _THIRD_PICTURES else (*_LAST_FRAMES, *_SECOND_PICTURES)
    last = [one for one in single if plain_name(one.field.name) in ends]
    named = [one for one in _ordered(single, "image", _FIRST_FRAMES) if plain_name(one.field.name) in _FIRST_FRAMES]
    _assign_first(named, "first_frame", found)
    _assign_first(_ordered(last, "image", _LAST_FRAMES), "last_frame", found)
    references = [*filter(_is_reference, lists), *lists, *filter(_is_reference, single)]
    _assign_first(references, "reference_images", found)
    taken = {one.argument for one in found.values()}
    if "first_frame" not in taken and "reference_images" not in taken:
        _assign_first([one for one in single if one not in last], "first_frame", found, is_guess=True)
    videos = _ordered(media, "video", _VIDEOS)
    _assign_first([*[one for one in videos if one.field.many], *videos], "reference_videos", found)
    audios = _ordered(media, "audio", _AUDIOS)
    _assign_first([*[one for one in audios if one.field.many], *audios], "reference_audios", found)


def _assign_edit_media(media: Sequence[MediaField], found: dict[str, Filling]) -> None:
    _assign_first(_ordered(media, "video", _VIDEOS), "video", found)
    masks = [one for one in media if one.is_mask and not one.field.many]
    order = {"visual": 0, "video": 1, "image": 2}
    _assign_first(sorted(masks, key=lambda one: (not one.field.is_required, order[one.kind])), "mask", found)
    pictures = [one for one in media if one.kind == "image" and not one.is_mask]
    lists = [one for one in pictures if one.field.many]
    _assign_first([*lists, *filter(_is_reference, pictures)], "reference_images", found)


def _assign_places(fields: Sequence[SchemaField], found: dict[str, Filling]) -> None:
    """Clicks and boxes, where one of our encoders makes the form that the model takes."""
    for field in fields:
        if field.type == "object" and field.many:
            if {"x", "y", "label"} <= field.item_names:
                found.setdefault(field.name, Filling("points", "labelled_points"))
            elif {"x_min", "y_min", "x_max", "y_max"} <= field.item_names:
                found.setdefault(field.name, Filling("box", "corner_box"))
    texts = {plain_name(one.name): one for one in fields if one.type == "string" and not one.many and not one.choices}
    shown = {name: one for name, one in texts.items() if _shows_pairs(one)}
    kept = next((shown[name] for name in _KEPT_POINTS if name in shown), None)
    if kept is not None and not any(one.argument == "points" for one in found.values()):
        found[kept.name] = Filling("points", "include_points_json", is_guess=True)
        dropped = next((shown[name] for name in _DROPPED_POINTS if name in shown), None)
        if dropped is not None:
            found[dropped.name] = Filling("points", "exclude_points_json", is_guess=True)


def _shows_pairs(field: SchemaField) -> bool:
    """Whether a text input shows that it takes pairs of coordinates in brackets."""
    shown = " ".join([field.description, *(str(one) for one in (field.default, *field.examples))])
    plain = shown.replace(" ", "").lower()
    return "[x,y]" in plain or "[[" in plain or any(f"[{digit}" in plain for digit in "123456789")


def _assign_scalars(
    fields: Sequence[SchemaField], media: Mapping[str, MediaField], tool: ToolName, found: dict[str, Filling]
) -> None:
    for argument, names in _SCALARS[tool].items():
        by_name = {
            "_".join(split_words(field.name)): field
            for field in fields
            if field.name not in media and field.name not in found and not field.many and _can_hold(argument, field)
        }
        best = next((name for name in names if name in by_name), None)
        if best is not None:
            found[by_name[best].name] = Filling(argument, is_guess=best not in names[:1])


_LONGEST_VIDEO = 600  # seconds; what is more is a number of frames or of samples


def _can_hold(argument: str, field: SchemaField) -> bool:
    """Whether an input is of a type and of a range that an argument can mean."""
    if field.type not in _TYPES[argument]:
        return False
    match argument:
        case "duration":
            return _is_in_seconds(field)
        case "resolution" | "size":
            return bool(field.choices)
        case "aspect_ratio":
            return bool(field.choices) or field.default is None or ":" in str(field.default)
    return True


def _is_in_seconds(field: SchemaField) -> bool:
    if "frames" in split_words(field.description) and "seconds" not in split_words(field.description):
        return False
    numbers = [one for one in (field.default, field.maximum, *field.choices) if isinstance(one, int | float)]
    return all(one <= _LONGEST_VIDEO for one in numbers)
