"""Text of models: clean text, phrases at their places, and the masks that belong to them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.errors import PredictionFailed
from rotoscope.models.captions import Caption, CaptionSegment, MaskedSegment, clean_text, pair_masks, read_caption

_TRUCK = (
    "<p>  A white pickup truck  </p>   [SEG]  is parked on the side of  <p>  the red building  </p>   [SEG] ,"
    " creating a unique and eye-catching contrast.<|im_end|>"
)
_PIECES = ["<p>", "</p>", "[SEG]", "<|im_end|>", "<|end|>", "</s>", " ", ", ", ".", "a truck", "路边", "\u200b", "\n"]
_PIECES += ["<", "p>", "[S", "EG]", "<|im_", "end|>", "\u202e", "\x1b[31m", "\U000e0041", ";", "Sure,"]
_spoken = st.lists(st.sampled_from(_PIECES) | st.text(max_size=5), max_size=25).map("".join)


def test_phrases_are_cut_out_of_the_text_that_fal_gives() -> None:
    caption = read_caption(_TRUCK)
    assert caption.text == (
        "A white pickup truck is parked on the side of the red building, creating a unique and eye-catching contrast."
    )
    assert [segment.phrase for segment in caption.segments] == ["A white pickup truck", "the red building"]
    assert caption.marks == 2


def test_a_bare_mark_is_counted_in_the_text_that_replicate_gives() -> None:
    assert read_caption("Sure, [SEG].<|end|>") == Caption("Sure.", (CaptionSegment("", 4, 4),), 1)


@pytest.mark.parametrize(
    ("raw", "text", "phrases"),
    [
        ("", "", []),
        ("No mask here.", "No mask here.", []),
        ("It is [SEG] .", "It is.", [""]),
        ("[SEG]", "", [""]),
        ("[SEG] and [SEG], yes", "and, yes", ["", ""]),
        ("<p> a cat </p>", "a cat", []),
        ("<p> a cat </p>, [SEG].", "a cat,.", ["a cat"]),
        ("<p> a cat </p> and [SEG]", "a cat and", [""]),
        ("<p> two dogs </p> [SEG] [SEG]", "two dogs", ["two dogs", ""]),
        ("<p> a [SEG] cat </p>", "a cat", ["a"]),
        ("<p></p>[SEG]", "", [""]),
        ("<p> a <p> b </p> [SEG]", "a b", ["b"]),
        ("the <p>cat</p>[SEG]'s ear", "the cat's ear", ["cat"]),
        ("一辆<p>白色卡车</p>[SEG]停在<p>路边</p>[SEG]。", "一辆白色卡车停在路边。", ["白色卡车", "路边"]),
        ("Sure, [SEG] [SEG].", "Sure.", ["", ""]),
        ("<p>a cat,</p> [SEG] [SEG].", "a cat,.", ["a cat,", ""]),
    ],
)
def test_marks_leave_tidy_text(raw: str, text: str, phrases: list[str]) -> None:
    caption = read_caption(raw)
    assert caption.text == text
    assert [segment.phrase for segment in caption.segments] == phrases
    assert caption.marks == len(phrases)


def test_marks_that_hide_in_marks_are_taken_out_too() -> None:
    caption = read_caption("<p> a </p> [SEG] [S[SEG]EG] <|im_[SEG]end|> b")
    assert caption == Caption("a b", (CaptionSegment("", 3, 3),) * 3, 3)


@given(_spoken)
def test_offsets_always_cut_out_exactly_the_phrase(raw: str) -> None:
    caption = read_caption(raw)
    assert len(caption.segments) == caption.marks
    for segment in caption.segments:
        assert 0 <= segment.start <= segment.end <= len(caption.text)
        assert caption.text[segment.start : segment.end] == segment.phrase
        assert segment.phrase == segment.phrase.strip()


@given(_spoken)
def test_reading_clean_text_again_changes_nothing(raw: str) -> None:
    text = read_caption(raw).text
    assert read_caption(text) == Caption(text, (), 0)


@given(_spoken, st.integers(3, 60))
def test_cleaning_is_idempotent_and_keeps_to_its_limit(raw: str, limit: int) -> None:
    once = clean_text(raw, limit)
    assert clean_text(once, limit) == once
    assert len(once.encode()) <= limit


@given(st.text() | _spoken)
def test_no_control_or_hidden_character_survives(raw: str) -> None:
    for text in (clean_text(raw), read_caption(raw).text):
        assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in text)
        assert not any(0xE0000 <= ord(char) < 0xE1000 or 0xFE00 <= ord(char) < 0xFE10 for char in text)
        for token in ("<|im_end|>", "<|end|>", "</s>"):
            assert token not in text


def test_hidden_characters_cannot_carry_an_end_token_through() -> None:
    assert clean_text("a <|im_\u200bend|> b\x00\r\nc\u2028d\u202e") == "a b c d"
    assert clean_text("a<|im<|end|>_end|>b") == "a<|im _end|>b"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    cut = clean_text("wörd " * 10_000)
    assert len(cut.encode()) <= 16384
    assert cut.endswith("…")
    assert clean_text("abcdef", limit=4) == "a…"


def test_each_mark_is_given_its_mask_in_order() -> None:
    assert pair_masks(read_caption(_TRUCK), 2) == (
        MaskedSegment("A white pickup truck", 0, 20, 0),
        MaskedSegment("the red building", 46, 62, 1),
    )
    assert pair_masks(read_caption("Nothing."), 0) == ()


@pytest.mark.parametrize("masks", [0, 1, 3])
def test_a_count_that_differs_is_reported_with_both_numbers(masks: int) -> None:
    with pytest.raises(PredictionFailed) as caught:
        pair_masks(read_caption(_TRUCK), masks)
    assert caught.value.code == "provider_protocol"
    assert "2 masks" in caught.value.message
    assert f"{masks} came" in caught.value.message
