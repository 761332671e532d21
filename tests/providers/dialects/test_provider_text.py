"""Text from providers: cleaned, cut, and read for progress."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.providers.dialects.provider_text import (
    LOG_CHARS,
    LOG_LINES,
    MESSAGE_LIMIT,
    clean_line,
    error_text,
    header_number,
    log_lines,
    log_progress,
    log_tail,
    reply_message,
)
from rotoscope.providers.http.messages import Reply


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand\x00 more", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("turned\u202eback", "turnedback"),
        ("half \ud800 a pair", "half a pair"),
        ("按 Image 1 🍊", "按 Image 1 🍊"),
    ],
)
def test_a_cleaned_text_is_one_printable_line(text: str, shown: str) -> None:
    assert clean_line(text) == shown


@given(st.text(alphabet=st.characters(), max_size=60))
def test_any_cleaned_text_can_be_stored_and_holds_no_control_character(text: str) -> None:
    shown = clean_line(text)
    assert shown.encode("utf-8")[:1] != b" "
    assert not any(character < " " or character == "\x7f" for character in shown)


def test_a_long_text_is_cut_at_the_limit() -> None:
    assert len(clean_line("x" * 1_000_000)) == MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"title": "Billing required", "detail": "Set up billing."}, "Set up billing."),
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"detail": [{"loc": ["body", "n", 0], "msg": "bad"}, {"msg": "worse"}]}, "body.n.0: bad; worse"),
        ({"other": "field"}, None),
        ({"detail": None, "error": ""}, None),
        ("just a text", "just a text"),
        ([1, 2], None),
    ],
)
def test_the_text_of_an_error_is_found_under_the_usual_names(body: Any, words: str | None) -> None:
    assert reply_message(Reply(400, {"content-type": "application/json"}, json.dumps(body).encode())) == words


def test_a_plain_text_body_is_a_message_and_an_html_page_is_not() -> None:
    assert reply_message(Reply(500, {"content-type": "text/plain; charset=utf-8"}, b"upstream died")) == "upstream died"
    assert reply_message(Reply(405, {"content-type": "text/html"}, b"<h1>405</h1>")) is None
    assert reply_message(Reply(500)) is None


def test_a_text_that_is_nested_too_deep_is_not_looked_for() -> None:
    value: Any = "words"
    for _ in range(600):
        value = {"detail": [value]}
    assert error_text(value) is None


def test_a_line_that_was_redrawn_is_shown_as_it_was_drawn_last() -> None:
    assert log_lines("first\r\n 0%|  | 0/9\r 50%|# | 4/9\r\n\nlast") == ("first", "50%|# | 4/9", "last")


def test_log_entries_without_a_message_are_left_out() -> None:
    assert log_lines([{"message": "one\ntwo"}, {"message": 3}, "four", None]) == ("one", "two")
    assert log_lines(None) == ()


@pytest.mark.parametrize(
    ("log", "fraction"),
    [
        ("propagate in video: 0%| | 0/1 [00:00<?, ?it/s]", 0.0),
        ("propagate in video: 100%|██████████| 1/1 [00:00<00:00, 5440.08it/s]", 1.0),
        ("  33%|███▎      | 1/3 [00:01<00:02]", 1 / 3),
        ("7%|| 0/0", 0.07),
        ("150%|##| 3/2", 1.0),
        ("step one: part two: 50%|#####     | 5/10", 0.5),
        ("battery at 50% | fine", None),
        ("Generated video in 173.1sec", None),
        (f"{'9' * 5000}%|#| 1/2", None),
    ],
)
def test_progress_is_read_from_a_progress_bar(log: str, fraction: float | None) -> None:
    assert log_progress((log,)) == fraction


def test_progress_is_that_of_the_last_bar() -> None:
    assert log_progress(("10%|# | 1/10", "20%|## | 2/10", "saving")) == 0.2
    assert log_progress(()) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.002", 0.002), ("7", 7), ("-1", -1), (None, None), ("", None), ("nan", None), ("inf", None), ("many", None)],
)
def test_a_header_holds_a_finite_number_or_none(text: str, value: Any) -> None:
    assert header_number(text) == value


def test_of_a_log_its_end_is_kept_within_bounds() -> None:
    lines = tuple(f"step {n}" for n in range(1_000))
    assert log_tail(lines) == lines[-LOG_LINES:]
    long = log_tail(("first", *("x" * 400 for _ in range(9)), "last"))
    assert long[-1] == "last"
    assert "first" not in long
    assert sum(map(len, long)) == LOG_CHARS
    assert log_tail(()) == ()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("got https://a.example/x.png?X-Amz-Signature=ab12&b=1 done", "got https://a.example/x.png?[removed] done"),
        ("from https://me:secret@host/x", "from https://[removed]@host/x"),
        ("image='https://a.example/x#rs-0f3a'", "image='https://a.example/x?[removed]'"),
        ("in data:image/png;base64,iVBORw0KGgo= here", "in data:image/png;base64,[removed] here"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [removed]"),
        ("using r8_0123456789abcdef and hf_0123456789", "using [removed] and [removed]"),
        ("key frames 24, tokens 512", "key frames 24, tokens 512"),
        ("a https://a.example/plain.png", "a https://a.example/plain.png"),
    ],
)
def test_what_opens_something_is_no_part_of_a_log_that_is_kept(line: str, shown: str) -> None:
    assert log_tail([line]) == (shown,)
