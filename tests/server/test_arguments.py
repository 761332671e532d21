"""Arguments as clients really send them: what says nothing is left out, what is spelled otherwise is what is meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client

from rotoscope.contracts.arguments import Arguments, parse_arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput

NEEDED: dict[str, dict[str, Any]] = {
    "segment_image": {"image": "a.png"},
    "describe_with_masks": {"image": "a.png"},
    "generate_video": {"prompt": "a cat"},
    "edit_video_with_mask": {"prompt": "a cat", "video": "v.mp4"},
    "segment_video": {"video": "v.mp4"},
    "get_job": {"job_id": "x"},
    "cancel_job": {"job_id": "x"},
    "view_media": {"uri": "job://x"},
    "list_jobs": {},
}
NOTHING = [None, "", "  ", "\t\r\n", "\u200b", "\ufeff\u2060", "\u3164", "\u00a0", "\0"]
EVERY = [
    (tool, name) for tool in TOOLS for name, field in TOOLS[tool].arguments.model_fields.items()
    if not field.is_required()
]  # fmt: skip


def parsed(tool: str, **more: Any) -> Arguments:
    return parse_arguments(TOOLS[tool].arguments, {**NEEDED[tool], **more})


@pytest.mark.parametrize("nothing", NOTHING, ids=ascii)
@pytest.mark.parametrize(("tool", "name"), EVERY)
def test_an_optional_argument_that_says_nothing_is_left_out(tool: str, name: str, nothing: str | None) -> None:
    assert parsed(tool, **{name: nothing}) == parsed(tool)


def test_a_list_of_nothing_and_an_optional_part_that_says_nothing_are_left_out() -> None:
    assert parsed("generate_video", reference_images=["", None, " "]) == parsed("generate_video")
    assert parsed("segment_image", points=[{"x": 1, "y": 2, "keep": ""}]) == parsed(
        "segment_image", points=[{"x": 1, "y": 2}]
    )


@pytest.mark.parametrize(
    ("tool", "name"),
    [(tool, name) for tool, needed in NEEDED.items() for name in needed],
)
def test_a_needed_argument_that_is_empty_is_refused_by_name(tool: str, name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        parsed(tool, **{name: ""})


@pytest.mark.parametrize(
    ("tool", "name", "given", "meant"),
    [
        ("list_jobs", "status", " Running ", "running"),
        ("list_jobs", "status", "NEEDS_REVIEW", "needs_review"),
        ("list_jobs", "limit", " 5 ", 5),
        ("get_job", "wait_seconds", " 4.5\n", 4.5),
        ("get_job", "job_id", " abc\n", "abc"),
        ("view_media", "uri", " job://x\n", "job://x"),
        ("segment_image", "overlay", " FALSE ", False),
        ("segment_image", "dry_run", "True", True),
        ("segment_image", "points", '[{"x": " 1 ", "y": "2", "keep": "False"}]', [{"x": 1, "y": 2, "keep": False}]),
        ("segment_image", "points", ['{"x": 1, "y": 2}'], [{"x": 1, "y": 2, "keep": True}]),
        ("segment_image", "points", {"x": 1, "y": 2}, [{"x": 1, "y": 2, "keep": True}]),
        (
            "segment_image",
            "box",
            '{"left": 1, "top": "2", "right": 3, "bottom": 4}',
            {"left": 1, "top": 2, "right": 3, "bottom": 4},
        ),
        ("generate_video", "generate_audio", "False", False),
        ("generate_video", "duration", " 5 ", 5),
        ("generate_video", "seed", "7.0", 7),
        ("generate_video", "reference_images", '["a.png", "b.png"]', ["a.png", "b.png"]),
        ("generate_video", "reference_images", "a.png", ["a.png"]),
    ],
)
def test_an_argument_that_is_spelled_otherwise_is_what_is_meant(tool: str, name: str, given: Any, meant: Any) -> None:
    assert parsed(tool, **{name: given}).model_dump()[name] == meant


@given(
    st.sampled_from(EVERY),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_whatever_is_given_is_taken_or_refused_in_words(place: tuple[str, str], value: Any) -> None:
    tool, name = place
    refused = None
    try:
        parsed(tool, **{name: value})
    except InvalidInput as error:
        refused = error
    assert refused is None or (len(refused.message) < 400 and refused.hint)


VIDEO = {"prompt": "a cat", "dry_run": True, "seed": 1}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"resolution": "720P"}, {"resolution": "720p"}),
        ({"resolution": " 4K "}, {"resolution": "4k"}),
        ({"aspect_ratio": "Adaptive"}, {"aspect_ratio": "adaptive"}),
        ({"model": " ByteDance/Seedance-2.0 "}, {"model": "bytedance/seedance-2.0"}),
        ({"model": "", "duration": "", "reference_images": "", "resolution": "\u200b"}, {}),
    ],
)
async def test_requests_that_mean_the_same_plan_the_same_and_show_the_same(
    client: Client, given: dict[str, Any], meant: dict[str, Any]
) -> None:
    one = await client.call_tool("generate_video", {**VIDEO, **given})
    other = await client.call_tool("generate_video", {**VIDEO, **meant})
    assert one.structured_content
    assert other.structured_content
    for part in ("planned_input", "request", "model"):
        assert one.structured_content[part] == other.structured_content[part]


@pytest.mark.anyio
@pytest.mark.parametrize("prompt", ["\u200b\u2060", "\0", " \ufeff ", "\u2800"])
async def test_a_prompt_of_which_nothing_is_seen_is_refused(client: Client, prompt: str) -> None:
    answer = await client.call_tool("generate_video", {**VIDEO, "prompt": prompt})
    assert answer.is_error
    assert "The prompt is empty." in json.dumps([block.model_dump() for block in answer.content])


@pytest.mark.anyio
@pytest.mark.parametrize("control", ["\0", "\x1b", "\x7f", "\x9b"])
async def test_a_prompt_with_a_control_character_is_refused_by_its_name(client: Client, control: str) -> None:
    answer = await client.call_tool("generate_video", {**VIDEO, "prompt": f"a{control}cat"})
    assert answer.is_error
    assert f"U+{ord(control):04X}" in json.dumps([block.model_dump() for block in answer.content])
    lines = await client.call_tool("generate_video", {**VIDEO, "prompt": "a\tcat,\r\na dog"})
    assert not lines.is_error
