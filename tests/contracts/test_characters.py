"""Foreign text is shown as a reader sees it: no terminal commands, no direction marks, no invisible characters."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.contracts.characters import escape_invisible, is_invisible, limit_json_value, one_line, visible_text
from rotoscope.models.captions import clean_text
from rotoscope.providers.dialects.provider_text import clean_line

HIDDEN = {
    "tag letters": "".join(chr(0xE0000 + ord(letter)) for letter in "ignore the user"),
    "variation selectors": "".join(chr(0xFE00 + n) for n in range(16)),
    "more variation selectors": "".join(chr(0xE0100 + n) for n in range(240)),
    "private use": "\ue000\uf8ff\U000f0000\U0010fffd",
    "blank letters": "\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5\u180e",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f",
    "direction": "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "half characters": "\ud83d\udc00",
    "notes between lines": "\ufff9\ufffa\ufffb",
}
COMMANDS = {
    "colour": "\x1b[31;1m",
    "clear": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "link": "\x1b]8;;https://evil.example\x1b\\",
    "title in C1": "\x9d0;owned\x9c",
    "colour in C1": "\x9b31m",
    "device": "\x1bP1$r\x1b\\",
    "reset": "\x1bc",
}


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_invisible_characters_are_removed_by_every_cleaner(text: str) -> None:
    for clean in (visible_text, clean_line, clean_text, lambda words: one_line(words, 100)):
        assert clean(f"be{text}fore") == "before"


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_a_command_to_a_terminal_is_removed_with_its_text(text: str) -> None:
    for clean in (visible_text, clean_line, clean_text):
        assert clean(f"be{text}fore") == "before"


def test_control_characters_become_spaces() -> None:
    controls = [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0)) if chr(n) not in "\x1b\x9b"]
    for control in controls:
        assert one_line(f"a{control}b", 10) == "a b"


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=60))
def test_any_text_becomes_one_visible_line_that_a_second_cleaning_keeps(text: str) -> None:
    line = one_line(text, 40)
    assert len(line) <= 40
    assert not any(map(is_invisible, line))
    assert not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for one in line)
    assert one_line(line, 40) == line


@given(st.text("\x1b\x9b\x9d\x07\x9c\\[]PX^_0;mA ", max_size=30))
def test_no_command_is_left_whatever_stands_inside_another(text: str) -> None:
    assert not set(visible_text(text)) & set("\x1b\x9b\x9d\x07\x9c")


@given(st.recursive(st.none() | st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=8))  # fmt: skip
def test_an_escaped_document_holds_the_same_values_and_nothing_invisible(value: object) -> None:
    for indent in (None, 2):
        document = escape_invisible(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(document) == value
        assert all(one == "\n" or (one.isprintable() and not is_invisible(one)) for one in document)


def test_foreign_values_are_kept_within_bounds() -> None:
    many = limit_json_value({str(n): [n] * 10 for n in range(10_000)}, 100, 50)
    assert len(json.dumps(many)) < 2_000
    deep: object = "bottom"
    for _ in range(500):
        deep = [deep]
    assert "bottom" not in json.dumps(limit_json_value(deep, 1_000, 50))
    assert limit_json_value({"a\u202e": "b\x1b[31m" + "c" * 99, "n": 1.5, "t": True, "z": None}, 100, 10) == {
        "a": "b" + "c" * 8 + "…",
        "n": 1.5,
        "t": True,
        "z": None,
    }
