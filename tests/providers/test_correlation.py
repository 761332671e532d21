"""Tokens that no other run's input can have: a seed that we drew, an upload of the job, a fragment on a URL."""

from urllib.parse import quote, urldefrag

from hypothesis import given
from hypothesis import strategies as st

from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, Token, add_token, has_token, parse_token

UPLOAD = "https://files.example/own/1.png"
ADDRESS = "https://pictures.example/a photo.jpg?size=2#top"


def call(**given: Json) -> Call:
    return Call("replicate", "owner/model", given)


def test_a_seed_that_we_drew_is_the_token_before_everything_else() -> None:
    marked, token = add_token(call(seed=7, image=UPLOAD), ["seed"], [UPLOAD], ["image"], "job")
    assert (marked.input, token) == ({"seed": 7, "image": UPLOAD}, Token("seed", "seed", "7"))


def test_the_url_of_an_upload_is_a_token_also_inside_a_list() -> None:
    marked, token = add_token(call(images=[ADDRESS, UPLOAD]), [], [UPLOAD], ["images"], "job")
    assert (marked.input["images"], token) == ([ADDRESS, UPLOAD], Token("upload", "images", UPLOAD))


def test_a_url_that_was_given_gets_a_fragment_from_the_job_id() -> None:
    marked, token = add_token(call(image=ADDRESS, prompt="x"), [], [], ["image"], "job")
    assert token is not None
    assert marked.input["image"] == f"{urldefrag(ADDRESS).url}#{token.value}"
    again, other = (add_token(call(image=ADDRESS), [], [], ["image"], job)[1] for job in ("job", "another job"))
    assert again == token
    assert other != token, "no two jobs share one"


def test_bytes_inside_the_request_and_a_seed_that_was_given_are_no_tokens() -> None:
    given: dict[str, Json] = {"seed": 7, "image": "data:image/png;base64,AAAA", "prompt": "https://a.example"}
    assert add_token(call(**given), [], [], ["image"], "job") == (call(**given), None)


@given(st.sampled_from(["seed", "upload", "fragment"]), st.text("abc_", min_size=1), st.text(min_size=1))
def test_a_token_is_read_back_from_its_form_in_the_ledger(kind: str, name: str, value: str) -> None:
    token = Token(kind, name, value)  # type: ignore[arg-type]
    assert parse_token(str(token)) == token


def test_a_text_that_is_no_token_is_none() -> None:
    assert [parse_token(text) for text in (None, "", "seed", "seed:name", "seed:name=", "other:name=1")] == [None] * 6


def test_a_seed_token_is_recognised_as_a_number_and_as_text() -> None:
    token = Token("seed", "seed", "7")
    assert all(has_token({"seed": seed}, token) for seed in (7, 7.0, "7", " 7"))
    assert not any(has_token(given, token) for given in ({"seed": 77}, {"seed": True}, {"seed": None}, {"other": 7}))


def test_an_upload_token_is_recognised_when_it_was_re_encoded_or_moved_to_another_member() -> None:
    token = Token("upload", "image", UPLOAD)
    assert has_token({"image": quote(UPLOAD)}, token)
    assert has_token({"inputs": [{"image": UPLOAD}]}, token)
    assert not has_token({"image": "https://files.example/own/2.png"}, token)
