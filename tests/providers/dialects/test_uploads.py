"""Files on their way to each provider."""

import json
from pathlib import Path

import pytest

from rotoscope.errors import Busy, OutOfCredit, ProviderDown, ProviderError, Refused
from rotoscope.providers.dialects import DIALECTS, UploadFile, UploadPlan
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.states import Ticket

FILE_TO_SEND = UploadFile(Path("/tmp/x.png"), "picture.png", "image/png", 300_000)
BASES = {
    "replicate": {"api": "https://api.replicate.com"},
    "fal": {"api": "https://queue.fal.run", "storage": "https://rest.fal.ai"},
    "segmind": {"api": "https://api.segmind.com", "assets": "https://workflows-api.segmind.com"},
}
FILE = "https://files.example/picture.png"
REQUESTS = {
    "replicate": HttpCall(
        "POST",
        "https://api.replicate.com/v1/files",
        form={"content": ("picture.png", FILE_TO_SEND.path, "image/png")},
    ),
    "fal": HttpCall(
        "POST",
        "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3",
        json={"file_name": "picture.png", "content_type": "image/png"},
    ),
    "segmind": HttpCall(
        "POST",
        "https://workflows-api.segmind.com/upload-asset",
        data_uris={"data_urls": ((FILE_TO_SEND.path, "image/png"),)},
    ),
}
ANSWERS = {
    "replicate": (Reply(201, {}, json.dumps({"id": "f", "urls": {"get": FILE}}).encode()), UploadPlan(FILE)),
    "fal": (
        Reply(200, {}, json.dumps({"upload_url": "https://signed.example/put?x=1", "file_url": FILE}).encode()),
        UploadPlan(
            FILE,
            (
                HttpCall(
                    "PUT",
                    "https://signed.example/put?x=1",
                    headers={"Content-Type": "image/png"},
                    source=FILE_TO_SEND.path,
                    with_key=False,
                ),
            ),
        ),
    ),
    "segmind": (Reply(200, {}, json.dumps({"file_urls": [FILE], "message": "ok"}).encode()), UploadPlan(FILE)),
}
EVERY_DIALECT = pytest.mark.parametrize("name", DIALECTS)


@EVERY_DIALECT
def test_an_upload_request_is_built_as_the_provider_documents_it(name: str) -> None:
    assert DIALECTS[name](BASES[name]).upload(FILE_TO_SEND) == REQUESTS[name]


@EVERY_DIALECT
def test_the_reply_to_an_upload_says_where_the_file_will_be_read(name: str) -> None:
    reply, placement = ANSWERS[name]
    assert DIALECTS[name](BASES[name]).read_upload(reply, FILE_TO_SEND) == placement


@EVERY_DIALECT
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, ProviderDown),
        (401, Refused),
        (402, OutOfCredit),
        (413, ProviderError),
        (429, Busy),
        (500, ProviderDown),
    ],
)
def test_a_file_that_was_not_taken_is_a_provider_error(name: str, status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        DIALECTS[name](BASES[name]).read_upload(Reply(status, {}, b'{"detail": "no"}'), FILE_TO_SEND)
    assert type(caught.value) is error


def test_a_403_of_fal_can_mean_no_credit() -> None:
    reply = Reply(403, {}, b'{"detail": "User is locked. Reason: Exhausted balance."}')
    with pytest.raises(OutOfCredit):
        DIALECTS["fal"](BASES["fal"]).read_upload(reply, FILE_TO_SEND)


def test_a_406_of_segmind_can_mean_no_credit() -> None:
    with pytest.raises(OutOfCredit):
        DIALECTS["segmind"](BASES["segmind"]).read_upload(
            Reply(406, {}, b'{"error": "Not enough credits"}'), FILE_TO_SEND
        )


@pytest.mark.parametrize("name", ["fal", "segmind"])
def test_without_a_base_for_files_nothing_is_uploaded(name: str) -> None:
    assert DIALECTS[name]({"api": "https://provider.example"}).upload(FILE_TO_SEND) is None


def test_a_large_file_goes_to_fal_in_parts_that_are_joined_by_a_last_request() -> None:
    """As the official npm client does above 90 MB."""
    sent_file = UploadFile(Path("a.mp4"), "a.mp4", "video/mp4", 95_000_000)
    fal = DIALECTS["fal"](BASES["fal"])
    first = fal.upload(sent_file)
    assert first is not None
    assert first.url.endswith("/storage/upload/initiate-multipart?storage_type=fal-cdn-v3")
    answer = {"upload_url": "https://signed.example/up?sig=1", "file_url": FILE}
    placement = fal.read_upload(Reply(200, {}, json.dumps(answer).encode()), sent_file)
    assert [part.span for part in placement.parts] == [(n * 10_000_000, 10_000_000) for n in range(10)]
    assert placement.parts[1].url == "https://signed.example/up/2?sig=1"
    assert not any(part.with_key for part in placement.parts)
    assert placement.complete is not None
    assert placement.complete.url == "https://signed.example/up/complete?sig=1"
    assert not placement.complete.with_key


def test_only_fal_has_an_event_stream() -> None:
    ticket = Ticket("p1", "owner/model")
    streams = {name: DIALECTS[name](BASES[name]).listen(ticket) for name in DIALECTS}
    assert [name for name, call in streams.items() if call is not None] == ["fal"]
