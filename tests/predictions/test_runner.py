"""The runner: pays once, asks as often as it must, and never gives up on what was paid for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from rotoscope.errors import ProviderDown, ReplyLost, RotoscopeError, SubmitUnsure, Unreachable
from rotoscope.predictions.dialects import DIALECTS, Parcel
from rotoscope.predictions.runner import Runner
from rotoscope.predictions.states import Call, Canceled, Failed, Prediction, Succeeded, Ticket, Waiting, Working
from rotoscope.wire.messages import HttpCall, Reply

pytestmark = pytest.mark.anyio
CALL = Call("replicate", "bytedance/seedance-2.0", {"prompt": "a"}, form="official")
TICKET = Ticket("p1", "bytedance/seedance-2.0")
PNG = "https://replicate.delivery/x/o.png"


def reply(status: str, code: int = 200, **more: Any) -> Reply:
    body = {"id": "p1", "model": "m", "status": status, "logs": "", "output": None, "error": None, **more}
    return Reply(code, {"content-type": "application/json"}, json.dumps(body).encode())


class Provider:
    """Answers from a script; keeps what it was asked, what was recorded and how long was waited."""

    def __init__(self, answers: Sequence[Reply | RotoscopeError], dialect: str = "replicate") -> None:
        self.answers = list(answers)
        self.asked: list[HttpCall] = []
        self.recorded: list[Prediction] = []
        self.waited: list[float] = []
        self.dialect = DIALECTS[dialect](
            {"api": "https://api.example.com", "storage": "https://s", "assets": "https://a"}
        )

    async def send(self, call: HttpCall, guard: Callable[[], None] | None = None, *, pays: bool = False) -> Reply:
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


async def test_a_start_is_one_post() -> None:
    provider = Provider([reply("starting", 201)])
    assert isinstance(await provider.runner.start(CALL), Waiting)
    assert [call.method for call in provider.asked] == ["POST"]


@pytest.mark.parametrize(
    "answer",
    [ReplyLost("lost"), Reply(502, {}, b"bad gateway"), Reply(201, {}, b"<html>"), Reply(201, {}, b'{"id": 5}')],
    ids=["no reply", "502", "html", "id of a wrong type"],
)
async def test_a_start_whose_outcome_nobody_knows_is_said_to_be_unsure_and_not_repeated(
    answer: Reply | RotoscopeError,
) -> None:
    provider = Provider([answer])
    with pytest.raises(SubmitUnsure) as caught:
        await provider.runner.start(CALL)
    assert len(provider.asked) == 1
    assert "bytedance/seedance-2.0" in caught.value.hint


async def test_a_start_that_was_never_sent_is_not_unsure() -> None:
    with pytest.raises(Unreachable):
        await Provider([Unreachable("no route")]).runner.start(CALL)


async def test_following_asks_until_the_end_and_records_each_change_once() -> None:
    answers = [reply("starting"), reply("starting"), reply("processing"), reply("succeeded", output=PNG)]
    provider = Provider(answers)
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.25)
    assert isinstance(final, Succeeded)
    assert final.output == PNG
    assert [type(state) for state in provider.recorded] == [Working, Succeeded]
    assert provider.waited == [0.25] * 4
    assert {call.method for call in provider.asked} == {"GET"}


async def test_a_question_that_fails_never_fails_the_prediction() -> None:
    trouble = [ReplyLost("x"), Unreachable("x"), Reply(503), Reply(429, {"retry-after": "7"}), Reply(401, {}, b"{}")]
    provider = Provider([*trouble, reply("succeeded", output=PNG)])
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert isinstance(final, Succeeded)
    assert provider.waited[1:4] == [1.0, 2.0, 4.0]
    assert provider.waited[4] >= 7
    assert max(provider.waited) <= 60


async def test_a_single_not_found_is_not_believed() -> None:
    """A list that lags behind must not end a prediction that was paid for."""
    provider = Provider([Reply(404), reply("processing"), Reply(404), reply("succeeded", output=PNG)])
    assert isinstance(await provider.runner.follow(Waiting(TICKET), lambda _: 0.0), Succeeded)


async def test_several_not_found_in_a_row_are_believed_of_a_prediction_that_was_seen() -> None:
    provider = Provider([reply("processing"), *[Reply(404)] * 5])
    final = await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert isinstance(final, Failed)
    assert final.code == "output_expired"
    assert sum(provider.waited) >= 10


async def test_a_prediction_that_was_never_seen_is_a_doubt_and_not_a_failure() -> None:
    provider = Provider([Reply(404)] * 5)
    with pytest.raises(SubmitUnsure) as caught:
        await provider.runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert "p1" in caught.value.hint


async def test_a_final_state_is_not_asked_about() -> None:
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


async def test_a_cancel_says_whether_the_provider_took_it() -> None:
    assert await Provider([reply("canceled")]).runner.cancel(TICKET) is True
    assert await Provider([reply("starting", 404)]).runner.cancel(TICKET) is False
    assert await Provider([ReplyLost("x")] * 3).runner.cancel(TICKET) is False
    assert await Provider([], "segmind").runner.cancel(TICKET) is False


async def test_a_look_that_says_nothing_leaves_the_state_as_it_was() -> None:
    state = Waiting(TICKET)
    assert await Provider([Reply(500)]).runner.look(state) is state
    assert isinstance(await Provider([reply("canceled")]).runner.look(state), Canceled)


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    file = tmp_path / "a.png"
    file.write_bytes(b"pixels")
    return Parcel(file, "a.png", "image/png", 6)


async def test_an_upload_gives_the_url_that_the_provider_reads(parcel: Parcel) -> None:
    body = b'{"id": "f", "urls": {"get": "https://api.example.com/v1/files/f"}}'
    assert await Provider([Reply(201, {}, body)]).runner.upload(parcel) == "https://api.example.com/v1/files/f"


async def test_an_upload_in_two_steps_makes_both(parcel: Parcel) -> None:
    body = b'{"upload_url": "https://s/put", "file_url": "https://v3.fal.media/f"}'
    provider = Provider([Reply(200, {}, body), Reply(200)], "fal")
    assert await provider.runner.upload(parcel) == "https://v3.fal.media/f"
    assert [(call.method, call.with_key) for call in provider.asked] == [("POST", True), ("PUT", False)]


async def test_an_upload_is_free_and_tried_three_times(parcel: Parcel) -> None:
    provider = Provider([ReplyLost("x"), Reply(503), ReplyLost("x")])
    with pytest.raises(ProviderDown):
        await provider.runner.upload(parcel)
    assert len(provider.asked) == 3


async def test_a_cancelled_follower_stops_at_once() -> None:
    async def forever(_: float) -> None:
        await anyio.Event().wait()

    provider = Provider([])
    runner = Runner(provider.dialect, provider.send, provider.record, forever)
    with anyio.fail_after(5), anyio.move_on_after(0.01) as scope:
        await runner.follow(Waiting(TICKET), lambda _: 0.0)
    assert scope.cancelled_caught
