"""The forms and deadlines of the paying request that no conversation shows."""

import pytest

from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.states import Call, Ready, Ticket, Waiting

REPLICATE = {"api": "https://api.replicate.com"}
FAL = {"api": "https://queue.fal.run"}


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("ab12", "owner/model:ab12"),
        ("owner/model:ab12", "owner/model:ab12"),
        (None, "owner/model"),
    ],
)
def test_the_version_form_names_the_model_with_its_version(version: str | None, named: str) -> None:
    """Replicate takes `owner/name:version`, and `owner/name` alone for official models."""
    call = Call("replicate", "owner/model", {}, version=version, form="version")
    assert DIALECTS["replicate"](REPLICATE).submit(call).json == {"version": named, "input": {}}


@pytest.mark.parametrize(("seconds", "header"), [(600, "600s"), (1, "5s")])
def test_a_deadline_of_replicate_is_whole_seconds_and_never_too_short(seconds: int, header: str) -> None:
    call = Call("replicate", "owner/model", {}, form="official", deadline_seconds=seconds)
    assert DIALECTS["replicate"](REPLICATE).submit(call).headers == {"Cancel-After": header}


@pytest.mark.parametrize(("seconds", "header"), [(600, "600"), (1, "2")])
def test_a_deadline_of_fal_is_the_time_until_the_start(seconds: int, header: str) -> None:
    call = Call("fal", "owner/app", {}, deadline_seconds=seconds)
    named = {"X-Fal-Request-Start-Timeout": header, "X-Fal-Request-Timeout": header}
    assert DIALECTS["fal"](FAL).submit(call).headers == named


@pytest.mark.parametrize(("seconds", "patience"), [(None, 120.0), (30, 120.0), (600, 600.0)])
def test_a_one_shot_reply_is_waited_for_at_least_until_the_deadline(seconds: int | None, patience: float) -> None:
    call = Call("segmind", "sam-v2-image", {}, form="v1", deadline_seconds=seconds)
    assert DIALECTS["segmind"]({"api": "https://api.segmind.com"}).submit(call).patience_seconds == patience


@pytest.mark.parametrize(
    ("endpoint", "app"),
    [
        ("fal-ai/sa2va/8b/image", "fal-ai/sa2va"),
        ("bytedance/seedance-2.0/us/text-to-video", "bytedance/seedance-2.0"),
        ("workflows/owner/app/part", "workflows/owner/app"),
        ("comfy/owner/app/part", "comfy/owner/app"),
    ],
)
def test_without_the_replys_urls_fal_is_asked_under_the_app(endpoint: str, app: str) -> None:
    """As after a reconcile, which finds the id alone; the path is the one that both official clients build."""
    dialect, ticket = DIALECTS["fal"](FAL), Ticket("764c", endpoint)
    root = f"https://queue.fal.run/{app}/requests/764c"
    assert dialect.ask(Waiting(ticket)).url == f"{root}/status?logs=1"
    assert dialect.ask(Ready(ticket)).url == root
    cancel = dialect.cancel(ticket)
    assert cancel is not None
    assert (cancel.method, cancel.url) == ("PUT", f"{root}/cancel")


def test_a_status_url_that_has_a_query_keeps_it() -> None:
    ticket = Ticket("764c", "a/b", {"status_url": "https://queue.fal.run/a/b/requests/764c/status?x=1"})
    assert DIALECTS["fal"](FAL).ask(Waiting(ticket)).url.endswith("/status?x=1&logs=1")


def test_segmind_has_no_cancel() -> None:
    assert DIALECTS["segmind"]({"api": "https://api.segmind.com"}).cancel(Ticket("1", "sam-v2-image")) is None
