"""The runner: submits once, polls as often as it must, and never gives up on a paid run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from rotoscope.errors import ProviderDown, ReplyLost, RotoscopeError, SubmitUnsure, Timeout, Unreachable
from rotoscope.providers.dialects import DIALECTS, UploadFile
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.runner import PollHistory, Runner
from rotoscope.providers.states import Call, Canceled, Failed, Prediction, Succeeded, Ticket, Waiting, Working

pytestmark = pytest.mark.anyio
CALL = Call("replicate", "bytedance/seedance-2.0", {"prompt": "a"}, form="official")
TICKET = Ticket("p1", "bytedance/seedance-2.0")
PNG = "https://replicate.delivery/x/o.png"


def reply(status: str, code: int = 200, **more: Any) -> Reply:
    body = {"id": "p1", "model": "m", "status": status, "logs": "", "output": None, "error": None, **more}
    return Reply(code, {"content-type": "application/json"}, json.dumps(body).encode())


class Provider:
    """Answers from a script; keeps the requests, the recorded states and the pauses."""

    def __init__(self, answers: Sequence[Reply | RotoscopeError], dialect: str = "replicate") -> None:
        self.answers = list(answers)
        self.asked: list[HttpCall] = []
        self.recorded: list[Prediction] = []
        self.waited: list[float] = []
        self.dialect = DIALECTS[dialect](
            {"api": "https://api.example.com", "storage": "https://s", "assets": "https://a"}
        )

    async def send(self, call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False) -> Reply:
        self.asked.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, RotoscopeError):
            raise answer
        return answer

    async def record(self, state: Prediction) -> None:
        self.recorded.append(state)

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)

    @property
    def runner(self) -> Runner:
        return Runner(self.dialect, self.send, self.record, self.sleep)


async def test_a_submit_is_one_post() -> None:
    provider = Provider([reply("starting", 201)])
    assert isinstance(await provider.runner.start(CALL), Waiting)
    assert [call.method for call in provider.asked] == ["POST"]


@pytest.mark.parametrize(
    "answer",
    [ReplyLost("lost"), Reply(502, {}, b"bad gateway"), Reply(201, {}, b"<html>"), Reply(201, {}, b'{"id": 5}')],
    ids=["no reply", "502", "html", "id of a wrong type"],
)
async def test_a_submit_with_an_unknown_outcome_is_unsure_and_not_repeated(
    answer: Reply | RotoscopeError,
) -> None:
    provider = Provider([answer])
    with pytest.raises(SubmitUnsure) as caught:
        await provider.runner.start(CALL)
    assert len(provider.asked) == 1
    assert "bytedance/seedance-2.0" in caught.value.hint


async def test_a_submit_that_was_never_sent_is_not_unsure() -> None:
    with pytest.raises(Unreachable):
        await Provider([Unreachable("no route")]).runner.start(CALL)


async def test_following_polls_until_the_end_and_records_each_change_once() -> None:
    answers = [reply("starting"), reply("starting"), reply("processing"), reply("succeeded", output=PNG)]
    provider = Provider(answers)
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.25)
    assert isinstance(final, Succeeded)
    assert final.output == PNG
    assert [type(state) for state in provider.recorded] == [Working, Succeeded]
    assert provider.waited == [0.25] * 4
    assert {call.method for call in provider.asked} == {"GET"}


async def test_a_failed_poll_never_fails_the_prediction() -> None:
    trouble: list[Reply | RotoscopeError] = [
        ReplyLost("x"),
        Unreachable("x"),
        Reply(503),
        Reply(429, {"retry-after": "7"}),
        Reply(401, {}, b"{}"),
    ]
    provider = Provider([*trouble, reply("succeeded", output=PNG)])
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert isinstance(final, Succeeded)
    assert provider.waited[1:4] == [1.0, 2.0, 4.0]
    assert provider.waited[4] >= 7
    assert max(provider.waited) <= 60


async def test_a_single_not_found_is_no_end() -> None:
    """A list that lags behind must not end a prediction that was paid for."""
    provider = Provider([Reply(404), reply("processing"), Reply(404), reply("succeeded", output=PNG)])
    assert isinstance(await provider.runner.follow(Waiting(TICKET), lambda _: 0.0), Succeeded)


async def test_not_found_after_a_good_answer_ends_the_run_when_the_provider_no_longer_keeps_it() -> None:
    provider = Provider([reply("processing"), *[Reply(404)] * 100])
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.0, can_have_result=lambda silent: silent < 3600)
    assert isinstance(final, Failed)
    assert final.code == "output_expired"
    assert 3600 <= sum(provider.waited) <= 3700
    assert provider.waited[2:7] == [1.0, 2.0, 4.0, 8.0, 16.0]


async def test_not_found_for_an_hour_does_not_end_a_run() -> None:
    provider = Provider([reply("processing"), *[Reply(404)] * 65, reply("succeeded", output=PNG)])
    assert isinstance(await provider.runner.follow(Waiting(TICKET), lambda _: 0.0), Succeeded)
    assert sum(provider.waited) > 3600


async def test_the_history_of_polls_is_updated_for_the_next_process() -> None:
    trail = PollHistory()
    provider = Provider([reply("processing"), *[Reply(404)] * 6])
    with pytest.raises(IndexError):
        await provider.runner.follow(Waiting(TICKET), lambda _: 0.0, trail)
    assert trail.was_found
    assert trail.silent_seconds == 1 + 2 + 4 + 8 + 16 + 32
    again = Provider([Reply(404)] * 9)
    final = await again.runner.follow(Waiting(TICKET), lambda _: 0.0, trail, lambda silent: silent < 80)
    assert isinstance(final, Failed)


async def test_polls_that_fail_until_the_result_is_surely_gone_end_in_a_timeout() -> None:
    provider = Provider([Unreachable("x")] * 200)
    with pytest.raises(Timeout):
        await provider.runner.follow(Waiting(TICKET), lambda _: 0.0, can_have_result=lambda silent: silent < 7200)
    assert 7200 <= sum(provider.waited) <= 7500
    assert max(provider.waited) == 300


async def test_a_prediction_whose_data_were_removed_is_over_at_once() -> None:
    provider = Provider([reply("processing"), reply("succeeded", data_removed=True)])
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert isinstance(final, Failed)
    assert (final.code, final.charged) == ("output_expired", True)


async def test_a_prediction_that_was_never_found_is_unsure_and_not_failed() -> None:
    provider = Provider([Reply(404)] * 5)
    with pytest.raises(SubmitUnsure) as caught:
        await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert "p1" in caught.value.hint


async def test_a_final_state_is_not_polled() -> None:
    provider = Provider([])
    final = Succeeded(TICKET, PNG)
    assert await provider.runner.follow(final, lambda _: 0.0) is final


async def test_fal_is_asked_once_more_for_its_result() -> None:
    def answer(**body: Any) -> Reply:
        return Reply(200, {}, json.dumps(body).encode())

    provider = Provider(
        [answer(status="IN_QUEUE", queue_position=1), answer(status="COMPLETED", logs=[]), answer(image={"url": PNG})],
        "fal",
    )
    final = await provider.runner.follow(Waiting(Ticket("r1", "fal-ai/sam2/image")), lambda _: 0.0)
    assert isinstance(final, Succeeded)
    assert final.output == {"image": {"url": PNG}}


async def test_a_cancel_reports_whether_the_provider_accepted_it() -> None:
    assert (await Provider([reply("processing")]).runner.cancel(TICKET)).accepted
    assert not (await Provider([reply("starting", 404)]).runner.cancel(TICKET)).accepted
    assert not (await Provider([ReplyLost("x")] * 3).runner.cancel(TICKET)).accepted
    assert not (await Provider([], "segmind").runner.cancel(TICKET)).accepted
    assert (await Provider([reply("starting", 401)]).runner.cancel(TICKET)).key_refused


async def test_the_reply_to_a_cancel_can_hold_the_final_state() -> None:
    assert isinstance((await Provider([reply("canceled")]).runner.cancel(TICKET)).final, Canceled)
    assert isinstance((await Provider([reply("succeeded", output=PNG)]).runner.cancel(TICKET)).final, Succeeded)
    for answer in (
        reply("processing"),
        reply("canceled", 409),
        Reply(202, {}, b'{"status": "CANCELLATION_REQUESTED"}'),
    ):
        assert (await Provider([answer]).runner.cancel(TICKET)).final is None


async def test_a_single_poll_that_says_nothing_returns_the_same_state() -> None:
    state = Waiting(TICKET)
    assert await Provider([Reply(500)]).runner.ask_once(state) is state
    assert isinstance(await Provider([reply("canceled")]).runner.ask_once(state), Canceled)


@pytest.fixture
def sent_file(tmp_path: Path) -> UploadFile:
    file = tmp_path / "a.png"
    file.write_bytes(b"pixels")
    return UploadFile(file, "a.png", "image/png", 6)


async def test_an_upload_returns_the_url_that_the_provider_reads(sent_file: UploadFile) -> None:
    body = b'{"id": "f", "urls": {"get": "https://api.example.com/v1/files/f"}}'
    assert await Provider([Reply(201, {}, body)]).runner.upload(sent_file) == "https://api.example.com/v1/files/f"


async def test_an_upload_in_two_steps_makes_both_requests(sent_file: UploadFile) -> None:
    body = b'{"upload_url": "https://s/put", "file_url": "https://v3.fal.media/f"}'
    provider = Provider([Reply(200, {}, body), Reply(200)], "fal")
    assert await provider.runner.upload(sent_file) == "https://v3.fal.media/f"
    assert [(call.method, call.with_key) for call in provider.asked] == [("POST", True), ("PUT", False)]


async def test_a_large_upload_is_sent_in_parts_and_joined_by_the_replies_to_them() -> None:
    """As the official npm client does above 90 MB."""
    large = UploadFile(Path("a.mp4"), "a.mp4", "video/mp4", 95_000_000)
    place = {"upload_url": "https://signed.example/up?sig=1", "file_url": "https://v3.fal.media/f"}
    parts = [{"partNumber": n, "etag": f"e{n}"} for n in range(1, 11)]
    provider = Provider([Reply(200, {}, json.dumps(body).encode()) for body in (place, *parts, {})], "fal")
    assert await provider.runner.upload(large) == "https://v3.fal.media/f"
    assert provider.asked[-1].url == "https://signed.example/up/complete?sig=1"
    assert provider.asked[-1].json == {"parts": parts}
    assert [call.with_key for call in provider.asked] == [True] + 11 * [False]


async def test_an_upload_is_free_and_tried_three_times(sent_file: UploadFile) -> None:
    provider = Provider([ReplyLost("x"), Reply(503), ReplyLost("x")])
    with pytest.raises(ProviderDown):
        await provider.runner.upload(sent_file)
    assert len(provider.asked) == 3


async def test_a_cancelled_follower_stops_at_once() -> None:
    async def forever(_: float) -> None:
        await anyio.Event().wait()

    provider = Provider([])
    runner = Runner(provider.dialect, provider.send, provider.record, forever)
    with anyio.fail_after(180), anyio.move_on_after(0.01) as scope:
        await runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert scope.cancelled_caught
