"""Signatures: what was signed is believed until it expires; an older secret's for a day; nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.signing import DAY, Signer

NOW = 1_800_000_000.0
NEW, OLD, OTHER = "n" * 32, "o" * 32, "x" * 32


def test_what_was_signed_is_believed_until_it_expires() -> None:
    signer = Signer((NEW,))
    token = signer.sign("file", "a.png", NOW, 60.0)
    assert signer.is_signed("file", "a.png", token, NOW + 59.0)
    assert not signer.is_signed("file", "a.png", token, NOW + 60.0)


@pytest.mark.parametrize(("purpose", "text"), [("ticket", "a.png"), ("file", "b.png"), ("file", "")])
def test_a_token_is_for_one_purpose_and_one_text(purpose: str, text: str) -> None:
    signer = Signer((NEW,))
    assert not signer.is_signed(purpose, text, signer.sign("file", "a.png", NOW, 60.0), NOW)


def test_an_older_secret_verifies_what_it_signed_for_a_day() -> None:
    token = Signer((OLD,)).sign("file", "a", NOW, 10 * DAY)
    assert Signer((NEW, OLD)).is_signed("file", "a", token, NOW + DAY)
    assert not Signer((NEW, OLD)).is_signed("file", "a", token, NOW + DAY + 1.0)
    assert Signer((OLD, NEW)).is_signed("file", "a", token, NOW + 2 * DAY)
    assert not Signer((NEW,)).is_signed("file", "a", token, NOW)


def test_a_token_from_the_future_is_none() -> None:
    signer = Signer((NEW,))
    assert signer.is_signed("file", "a", signer.sign("file", "a", NOW + 200.0, 60.0), NOW)
    assert not signer.is_signed("file", "a", signer.sign("file", "a", NOW + 400.0, 60.0), NOW)


@given(st.integers(0, 200), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_that_was_changed_is_none(at: int, by: str) -> None:
    signer = Signer((NEW,))
    token = signer.sign("file", "a", NOW, 60.0)
    at %= len(token)
    changed = token[:at] + by + token[at + 1 :]
    # The last digit of a digest has two bits that are not in it: only the digits themselves are compared.
    assert signer.is_signed("file", "a", changed, NOW) == (changed == token)


@given(st.text(max_size=80))
def test_what_is_no_token_is_refused_without_an_error(text: str) -> None:
    assert not Signer((NEW, OLD)).is_signed("file", "a", text, NOW)


def test_keys_differ_by_purpose_and_secret_and_no_secret_is_shown() -> None:
    signer = Signer((NEW, OTHER))
    keys = {*signer.keys("state"), *signer.keys("file")}
    assert (len(keys), {len(key) for key in keys}) == (4, {32})
    assert NEW not in repr(signer)
