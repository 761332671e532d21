"""Limits and defaults in the description of an argument are those of the shipped manifest, or of the record itself."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rotoscope.contracts.arguments import Arguments, GetJob, ListJobs, SegmentImage
from rotoscope.contracts.tools import TOOLS
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Input, Manifest

CATALOG = load_catalog(manifest_folder())
MODELS = {
    manifest.tool: manifest
    for manifest in sorted(CATALOG.models.values(), key=lambda one: -one.rank)  # the lowest rank comes last and stays
}
MODEL_TOOLS = ("generate_video", "edit_video_with_mask")


def described(shape: type[Arguments]) -> Iterator[tuple[str, str]]:
    for name, field in shape.model_fields.items():
        if name not in {"options", "model", "dry_run", "keep_outside", "target"} and field.description:
            yield name, field.description


def plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def spellings(field: Input, value: Any) -> set[str]:
    return {plain(value), *(alias for alias, meant in field.aliases.items() if meant == value)}


def check_range(found: re.Match[str], field: Input) -> bool:
    return (field.minimum, field.maximum) == (float(found[1]), float(found[2]))


def check_choices(found: re.Match[str], field: Input) -> bool:
    return found[0].split("|") == list(field.choices) or set(found[0].split("|")) == set(field.choices)


def check_named_choices(found: re.Match[str], field: Input) -> bool:
    names = re.split(r", | or ", found[0].replace(" (default)", "").removesuffix("."))
    default = found[0].partition(" (default)")[0].split(", ")[-1]
    values = [field.aliases.get(name, name) for name in names]
    return values == list(field.choices) and field.aliases.get(default, default) == field.default


def check_names(found: re.Match[str], field: Input) -> bool:
    """Names that every model of the tool knows: another model may know more."""
    values = [field.aliases.get(name, name) for name in re.split(r", | or ", found[1])]
    return set(values) <= set(field.choices)


def check_default(found: re.Match[str], field: Input) -> bool:
    match found[1]:
        case "by video":
            return field.fits is not None
        case "drawn":
            return field.drawn
        case "all that the model can":
            return field.fits == "frames"
        case text:
            return text in spellings(field, field.default)


STATEMENTS: dict[str, Callable[[re.Match[str], Input], bool]] = {
    r"[^| ]+(?:\|[^|. ]+)+": check_choices,
    r"\w+ \(default\).*": check_named_choices,
    r"^([a-z+]+(?:(?:, | or )[a-z+]+)+)\.$": check_names,
    r"\b(\d+)-(\d+)\b(?: s)?": check_range,
    r"\b(\d+)n\+(\d+)": lambda found, field: (field.step, field.offset) == (int(found[1]), int(found[2])),
    r"(-\d+): model chooses": lambda found, field: int(found[1]) in field.also,
    r"Up to (\d+)": lambda found, field: field.max_items == int(found[1]),
    r", (\d+) s\b(?: in all)?": lambda found, field: field.max_total_seconds == float(found[1]),
    r"Default:? ([^.]+)": check_default,
}


def false_statements(description: str, field: Input) -> list[str]:
    """The parts of a description that the facts of the input contradict, and numbers that no statement explains."""
    wrong: list[str] = []
    rest = description
    for pattern, is_true in STATEMENTS.items():
        wrong.extend(found[0] for found in re.finditer(pattern, rest) if not is_true(found, field))
        rest = re.sub(pattern, "", rest)
    return [*wrong, *re.findall(r"\d+", rest.replace("'Image 1'", ""))]


def input_of(manifest: Manifest, argument: str) -> Input:
    return next(field for field in manifest.inputs.values() if field.argument == argument)


@pytest.mark.parametrize(
    ("tool", "argument", "description"),
    [(tool, *one) for tool in MODEL_TOOLS for one in described(TOOLS[tool].arguments)],
)
def test_a_description_says_of_limits_what_the_shipped_manifest_says(
    tool: str, argument: str, description: str
) -> None:
    assert false_statements(description, input_of(MODELS[tool], argument)) == []  # type: ignore[index]


@pytest.mark.parametrize(
    ("tool", "argument", "change"),
    [
        ("generate_video", "duration", {"maximum": 12.0}),
        ("generate_video", "duration", {"also": ()}),
        ("generate_video", "duration", {"default": 6}),
        ("generate_video", "resolution", {"choices": ("480p", "720p", "1080p")}),
        ("generate_video", "reference_images", {"max_items": 8}),
        ("generate_video", "reference_videos", {"max_total_seconds": 30.0}),
        ("generate_video", "generate_audio", {"default": False}),
        ("edit_video_with_mask", "frame_num", {"maximum": 81.0}),
        ("edit_video_with_mask", "frame_num", {"fits": None}),
        ("edit_video_with_mask", "size", {"default": "720p"}),
        ("edit_video_with_mask", "speed_mode", {"default": "none"}),
        ("edit_video_with_mask", "sample_solver", {"choices": ("unipc", "dpm++")}),
        ("edit_video_with_mask", "seed", {"drawn": False}),
    ],
)
def test_a_manifest_with_another_limit_contradicts_the_description(
    tool: str, argument: str, change: dict[str, Any]
) -> None:
    description = dict(described(TOOLS[tool].arguments))[argument]
    changed = input_of(MODELS[tool], argument).model_copy(update=change)  # type: ignore[index]
    assert false_statements(description, changed) != []


def test_a_description_says_of_other_arguments_what_the_shipped_manifest_says() -> None:
    seedance = MODELS["generate_video"]
    said = dict(described(TOOLS["generate_video"].arguments))
    names = {field.argument: name for name, field in seedance.inputs.items()}
    assert "not with frames above" in said["reference_images"]
    frames = [seedance.inputs[names[argument]] for argument in ("first_frame", "last_frame")]
    assert all(names["reference_images"] in field.excludes for field in frames)
    assert said["last_frame"] == "Needs first_frame."
    assert seedance.inputs[names["last_frame"]].needs == (names["first_frame"],)
    assert "needs an image or video" in said["reference_audios"]
    needed = {seedance.inputs[name].kind for name in seedance.inputs[names["reference_audios"]].needs_any}
    assert needed == {"image", "video"}


@pytest.mark.parametrize(
    ("shape", "argument", "taken", "refused"),
    [
        (SegmentImage, "points", [{"x": 1, "y": 1}] * 64, [{"x": 1, "y": 1}] * 65),
        (GetJob, "wait_seconds", 45, 46),
        (ListJobs, "limit", 100, 101),
        (ListJobs, "limit", 1, 0),
    ],
)
def test_a_description_says_of_limits_what_the_record_itself_takes(
    shape: type[Arguments], argument: str, taken: Any, refused: Any
) -> None:
    bound = len(taken) if isinstance(taken, list) else taken
    assert re.search(rf"\b{bound}\b", dict(described(shape))[argument])
    needed = {"image": "a.png", "job_id": "a"}
    rest = {name: needed[name] for name, field in shape.model_fields.items() if field.is_required()}
    assert shape.model_validate({**rest, argument: taken})
    with pytest.raises(ValueError, match=argument):
        shape.model_validate({**rest, argument: refused})


@pytest.mark.parametrize(
    "shape", dict.fromkeys(contract.arguments for contract in TOOLS.values()), ids=lambda one: one.__name__
)
def test_a_default_that_a_description_names_is_the_one_of_the_record(shape: type[Arguments]) -> None:
    for argument, description in described(shape):
        default = shape.model_fields[argument].default
        found = re.search(r"Default (true|false|\d+)", description)
        if found and default is not None:
            assert found[1] == plain(default), argument
