"""The check of a manifest: what a real call would refuse is refused, and the sentence names the fact."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.contracts.arguments import Arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.claimed_calls import MEDIA_ARGUMENTS
from rotoscope.models.manifest import Input, Manifest, ToolName
from rotoscope.models.manifest_check import REQUEST_FORMS, CheckReport, check_manifest
from rotoscope.models.plan import plan_call

CATALOG = load_catalog(manifest_folder())
KLING = """
id = "fal-ai/kling-video/v2.1/standard/image-to-video"
title = "Kling 2.1"
tool = "generate_video"
source = "a test"
[[routes]]
provider = "fal"
form = "queue"
endpoint = "fal-ai/kling-video/v2.1/standard/image-to-video"
[inputs.prompt]
kind = "string"
required = true
argument = "prompt"
[inputs.image_url]
kind = "image"
required = true
argument = "first_frame"
[inputs.tail_image_url]
kind = "image"
argument = "last_frame"
needs = ["image_url"]
[inputs.duration]
kind = "string"
argument = "duration"
default = "5"
choices = ["5", "10"]
[inputs.seed]
kind = "integer"
argument = "seed"
drawn = true
minimum = 0
maximum = 65535
[inputs.negative_prompt]
kind = "string"
send = "blur"
[outputs]
video = "video"
[timing]
typical_seconds = 90
deadline_seconds = 600
[example]
prompt = "a cat"
image_url = "https://example.com/cat.png"
duration = "10"
"""
SEGMENTER = """
id = "me/segmenter"
title = "Mine"
tool = "segment_image"
prompts = ["text", "points", "box"]
source = "a test"
[[routes]]
provider = "gateway"
form = "official"
endpoint = "me/segmenter"
[inputs.picture]
kind = "image"
required = true
argument = "image"
[inputs.what]
kind = "string"
argument = "instruction"
[inputs.clicks]
kind = "string"
argument = "points"
encode = "include_points_json"
[inputs.boxes]
kind = "object"
many = true
argument = "box"
encode = "corner_box"
[outputs]
masks = "masks[].url"
[timing]
typical_seconds = 2
deadline_seconds = 60
[example]
picture = "https://example.com/a.png"
what = "cat"
"""


def report(text: str) -> CheckReport:
    return check_manifest(Manifest.model_validate(tomllib.loads(text)), CATALOG.providers)


@pytest.mark.parametrize("model", CATALOG.models)
def test_every_shipped_manifest_passes(model: str) -> None:
    found = check_manifest(CATALOG.models[model], CATALOG.providers)
    assert found.problems == ()
    assert found.calls > 2


@pytest.mark.parametrize("text", [KLING, SEGMENTER])
def test_a_model_with_durations_or_points_as_text_passes(text: str) -> None:
    assert report(text).problems == ()


@pytest.mark.parametrize("number", [5, 10])
def test_a_duration_that_the_check_has_passed_is_sent_as_text(number: int) -> None:
    manifest = Manifest.model_validate(tomllib.loads(KLING))
    asked: dict[str, Any] = {"prompt": "a", "first_frame": "https://example.com/a.png", "duration": number}
    assert plan_call(manifest, manifest.routes[0], asked, lambda: 1).call.input["duration"] == str(number)


DURATION = 'default = "5"\nchoices = ["5", "10"]'


@pytest.mark.parametrize(
    ("change", "fact", "words"),
    [
        ((DURATION, 'default = "5"'), "inputs.duration.default", "'duration' must be text. Give the input choices"),
        ((DURATION, 'default = "6"\nchoices = ["5", "10"]'), "inputs.duration.default", "cannot be '6'"),
        ((DURATION, 'choices = ["5", "10"]\naliases = { "-1" = "auto" }'), "inputs.duration.aliases", "'auto'"),
        ((DURATION, "choices = [5, 10]"), "inputs.duration.choices", "5, 10 can be no value of kind string"),
        (
            (DURATION, 'spelling = "{}s"\nminimum = 2\nmaximum = 9\nalso = [20]\nstep = 2'),
            "inputs.duration.maximum",
            "",
        ),
        (('argument = "duration"', 'argument = "seconds"'), "inputs.duration.argument", "no argument 'seconds'"),
        (('argument = "duration"', 'argument = "dry_run"'), "inputs.duration.argument", "no argument 'dry_run'"),
        (('kind = "image"\nargument', 'kind = "string"\nargument'), "inputs.tail_image_url.kind", "is a file"),
        (('argument = "last_frame"', 'argument = "reference_videos"'), "inputs.tail_image_url.kind", "video or visual"),
        (('kind = "string"\nrequired', 'kind = "image"\nrequired'), "inputs.prompt.kind", "'prompt' is no file"),
        (('argument = "prompt"', ""), "inputs.prompt.required", "nothing fills it"),
        (
            ('needs = ["image_url"]', 'needs_any = ["image_url", "duration"]\nexcludes = ["duration"]'),
            "inputs.tail_image_url.needs_any",
            "cannot go together",
        ),
        (('kind = "string"\nrequired', 'kind = "integer"\nrequired'), "inputs.prompt", "must be a number"),
        (('needs = ["image_url"]', 'excludes = ["image_url"]'), "inputs.tail_image_url", "cannot go together"),
        (('send = "blur"', "send = 5"), "inputs.negative_prompt", "must be text"),
        (('kind = "integer"', 'kind = "string"'), "inputs.seed.drawn", "a seed is an integer"),
        (("maximum = 65535", "maximum = 65535\nstep = 5"), "inputs.seed.drawn", "without step"),
        (('video = "video"', 'masks = "video"'), "outputs.video", "would find no result"),
        (('video = "video"', 'video = "videos[0].url"'), "outputs.video", "no path"),
        (('form = "queue"', 'form = "v2"'), "routes.0.form", "fal has no request form 'v2'; it has queue"),
        (('duration = "10"', 'duration = "15"'), "example.duration", "cannot be '15'"),
        (('duration = "10"', "duration = 10"), "example.duration", "must be text"),
        (('image_url = "https://example.com/cat.png"', ""), "example.image_url", "missing"),
    ],
)
def test_what_a_call_would_refuse_is_refused_by_the_name_of_the_fact(
    change: tuple[str, str], fact: str, words: str
) -> None:
    broken = KLING.replace(*change, 1)
    assert broken != KLING
    (first, *_) = report(broken).problems
    assert first.startswith(f"{fact}: ")
    assert words in first


@pytest.mark.parametrize(
    ("change", "fact", "words"),
    [
        (('argument = "image"', 'send = "a"'), "inputs", "no input has argument = 'image'"),
        (('argument = "instruction"', 'send = "cat"'), "prompts", "no input has argument = 'instruction'"),
        (('kind = "string"\nargument', 'kind = "string"\nrequired = true\nargument'), "inputs.what", "needs"),
        (('encode = "include_points_json"', ""), "inputs.clicks", "must be text"),
        (('encode = "corner_box"', 'encode = "labelled_points"'), "inputs.boxes.encode", "encodes points, not 'box'"),
        (('encode = "include_points_json"', 'encode = "labelled_points"'), "inputs.clicks.encode", 'kind = "object"'),
    ],
)
def test_a_kind_of_prompt_that_a_call_would_refuse_is_refused(change: tuple[str, str], fact: str, words: str) -> None:
    (first, *_) = report(SEGMENTER.replace(*change, 1)).problems
    assert first.startswith(f"{fact}: ")
    assert words in first


def test_a_choice_for_a_clip_that_the_model_refuses_is_refused() -> None:
    vace = CATALOG.models["prunaai/vace-14b"]
    size = vace.inputs["size"].model_copy(
        update={"choices": ("832*480", "480*832"), "default": "1280*720", "aliases": {}}
    )
    found = check_manifest(vace.model_copy(update={"inputs": {**vace.inputs, "size": size}}), CATALOG.providers)
    assert found.problems[0].startswith("inputs.size.default: ")


def test_choices_that_no_number_means_are_noted_with_the_way_to_name_them() -> None:
    text = KLING.replace(DURATION, 'default = "auto"\nchoices = ["auto", "5", "10"]')
    (note, *_) = report(text).notes
    assert note == 'inputs.duration.choices: no number means auto; an alias can, such as aliases = { "-1" = "auto" }.'
    with_alias = text.replace('choices = ["auto"', 'aliases = { "-1" = "auto" }\nchoices = ["auto"')
    assert not any("no number" in one for one in report(with_alias).notes)


def test_a_price_that_no_call_can_be_compared_with_is_noted() -> None:
    price = '[price]\nunit = "output_second"\nusd = 0.05\nseen = "2026-11"\n'
    text = KLING.replace("[example]", f"{price}[example]")
    assert not any(note.startswith("price") for note in report(text).notes)
    without = text.replace('argument = "duration"', "").replace('duration = "10"', "")
    assert any(note.startswith("price: no input has argument = 'duration'") for note in report(without).notes)


def test_a_hostile_manifest_is_checked_with_a_bounded_number_of_calls() -> None:
    choices = ", ".join(f'"{n}"' for n in range(5_000))
    found = report(KLING.replace('choices = ["5", "10"]', f"choices = [{choices}]"))
    assert found.calls <= 2_100
    assert len(report(KLING.replace(DURATION, "choices = [" + ", ".join(map(str, range(99))) + "]")).problems) <= 20


@given(
    st.sampled_from(["string", "integer", "number"]),
    st.lists(st.sampled_from([5, 10, "5", "10", "8s", "auto"]), max_size=3, unique=True),
    st.sampled_from([None, "{}s", "{}"]),
    st.sampled_from([None, 2, 4]),
    st.sampled_from([None, 9, 12]),
    st.sampled_from([None, 1, 4]),
)
def test_a_duration_that_passes_takes_each_of_its_choices_and_both_ends_of_its_range(
    kind: Any, choices: list[Any], spelling: str | None, least: int | None, most: int | None, step: int | None
) -> None:
    facts: dict[str, Any] = {"choices": tuple(choices), "spelling": spelling, "minimum": least, "maximum": most}
    field = Input(kind=kind, argument="duration", step=step, **facts)
    manifest = Manifest.model_validate(tomllib.loads(KLING))
    manifest = manifest.model_copy(update={"inputs": {**manifest.inputs, "duration": field}, "example": {}})
    manifest = manifest.model_copy(update={"example": {"prompt": "a", "image_url": "https://example.com/cat.png"}})
    if check_manifest(manifest, CATALOG.providers).problems:
        return
    numbers = [one for one in (least, most, *choices) if isinstance(one, int)]
    for number in numbers:
        asked: dict[str, Any] = {"prompt": "a", "first_frame": "https://example.com/a.png", "duration": number}
        try:
            plan_call(manifest, manifest.routes[0], asked, lambda: 1)
        except InvalidInput as error:
            pytest.fail(f"{field} with {number}: {error.message}")


def test_every_argument_of_every_tool_is_known_to_be_a_file_or_not() -> None:
    """A new argument that is a file must be named in MEDIA_ARGUMENTS."""
    plain = {"prompt", "instruction", "points", "box", "overlay", "duration", "resolution", "aspect_ratio", "seed"}
    plain |= {
        "generate_audio",
        "size",
        "frame_num",
        "frame",
        "speed_mode",
        "keep_outside",
        "target",
        "options",
        "model",
    }
    plain |= {"dry_run"}
    plain |= {f"sample_{name}" for name in ("steps", "shift", "solver", "guide_scale")}
    shapes: list[type[Arguments]] = [TOOLS[tool].arguments for tool in get_args(ToolName)]
    assert {name for shape in shapes for name in shape.model_fields} == plain | set(MEDIA_ARGUMENTS)


def test_every_route_of_the_shipped_models_has_a_documented_form() -> None:
    for manifest in CATALOG.models.values():
        for route in manifest.routes:
            assert route.form in REQUEST_FORMS[CATALOG.providers[route.provider].dialect]


def test_the_check_of_a_file_prints_each_problem_and_ends_with_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rotoscope.cli.commands import run_command

    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "home"))
    (tmp_path / "kling.toml").write_text(KLING.replace(DURATION, "").replace('"blur"', "5"), encoding="utf-8")
    assert run_command(["models", "check", str(tmp_path / "kling.toml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.startswith("rotoscope: kling.toml: ") for line in err.splitlines())
    (tmp_path / "kling.toml").write_text(KLING, encoding="utf-8")
    assert run_command(["models", "check", str(tmp_path / "kling.toml")]) == 0
    assert "POST https://queue.fal.run/fal-ai/kling-video" in capsys.readouterr().out
