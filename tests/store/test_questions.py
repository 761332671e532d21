"""Questions about a price: each change leaves one state, one yes is good for one job, and nobody reads another's."""

from dataclasses import replace

import anyio
import pytest
from calls import SECONDS
from set_clock import Clock
from store_database import StoreDatabase

from rotoscope.errors import OverBudget
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import ErrorRecord, JobPlan
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import ANY_PRICE, Caps
from rotoscope.store.question_records import QUESTION_LIFE, AskedPrice, PriceQuestion
from rotoscope.store.questions import Questions
from rotoscope.store.records import NewJob

pytestmark = pytest.mark.anyio
ASKED = AskedPrice("key", 3.0, "Run it?")
ARGS: dict[str, Json] = {"image": "a.png", "box": {"left": 1}}


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def questions(database: StoreDatabase, clock: Clock) -> Questions:
    return Questions(database.connect(), clock, 600.0)


def new_job(principal: str = "anna", key: str | None = "same") -> NewJob:
    return NewJob("segment_image", "m", "replicate", principal, False, {}, JobPlan(), key, 3.0)


async def ask(questions: Questions, principal: str = "anna", asked: AskedPrice = ASKED) -> PriceQuestion:
    question = await questions.ask(principal, "segment_image", ARGS, asked)
    assert question is not None
    return question


async def find(questions: Questions, question: PriceQuestion) -> PriceQuestion:
    found = await questions.find(question.id, question.principal)
    assert found is not None
    return found


async def test_a_question_is_read_as_it_was_asked_by_its_own_principal_alone(questions: Questions) -> None:
    question = await ask(questions)
    assert await find(questions, question) == question
    assert (question.args, question.words, question.round, question.state) == (ARGS, "Run it?", 1, "open")
    assert question.covers(ASKED)
    assert not question.covers(replace(ASKED, usd=3.000001))
    assert not question.covers(replace(ASKED, key="other"))
    assert await questions.find(question.id, "bert") is None
    theirs = replace(question, principal="bert")
    assert not await questions.answer(theirs, "agreed")
    assert not await questions.cancel(theirs)
    assert (await find(questions, question)).state == "open"


async def test_an_unknown_price_is_covered_by_a_yes_to_one(questions: Questions) -> None:
    question = await ask(questions, asked=replace(ASKED, usd=ANY_PRICE))
    assert question.covers(replace(ASKED, usd=ANY_PRICE))


async def test_an_answer_is_to_the_round_that_is_open_and_in_time(questions: Questions, clock: Clock) -> None:
    first = await ask(questions)
    assert await questions.answer(first, "agreed")
    assert not await questions.answer(first, "declined"), "it was answered"
    assert await questions.ask_again(await find(questions, first), replace(ASKED, usd=4.0))
    second = await find(questions, first)
    assert (second.round, second.state, second.millionths) == (2, "open", 4_000_000)
    assert not await questions.answer(first, "agreed"), "that was the round before"
    clock.now += 601
    assert not await questions.answer(second, "agreed")
    assert (await find(questions, first)).is_expired(clock.now)
    assert await questions.has_unanswered("anna", "key")
    assert not await questions.has_unanswered("bert", "key")
    clock.now += 601
    assert not await questions.has_unanswered("anna", "key"), "it is asked again after a while"


async def test_a_no_and_a_refusal_keep_their_reason(questions: Questions) -> None:
    why = ErrorRecord("consent", "Nobody agreed.", "Ask.", None)
    declined = await ask(questions)
    assert await questions.answer(declined, "declined", why)
    assert (await find(questions, declined)).error == why
    refused = await ask(questions)
    assert not await questions.refuse(refused, why), "nobody has agreed to it"
    assert await questions.answer(refused, "agreed")
    assert await questions.refuse(refused, why)
    assert (await find(questions, refused)).state == "refused"


async def test_an_equal_call_joins_the_open_question_and_no_other(questions: Questions, clock: Clock) -> None:
    question = await ask(questions)
    assert (await ask(questions)).id == question.id
    others = [
        await questions.ask("anna", "segment_image", {**ARGS, "seed": 2}, ASKED),
        await questions.ask("anna", "describe_with_masks", ARGS, ASKED),
        await questions.ask("anna", "segment_image", ARGS, replace(ASKED, usd=4.0)),
        await questions.ask("bert", "segment_image", ARGS, ASKED),
    ]
    assert len({question.id, *(other.id for other in others if other is not None)}) == 5
    clock.now += 601
    assert (await ask(questions)).id != question.id


async def test_a_principal_has_so_many_open_questions_and_old_ones_are_removed(
    questions: Questions, clock: Clock
) -> None:
    first = await ask(questions)
    for number in range(99):
        await ask(questions, asked=replace(ASKED, key=f"key {number}"))
    assert await questions.ask("anna", "segment_image", ARGS, replace(ASKED, key="more")) is None
    assert await questions.ask("bert", "segment_image", ARGS, ASKED) is not None
    clock.now += QUESTION_LIFE + 1
    assert (await ask(questions)).id != first.id
    assert await questions.find(first.id, "anna") is None


async def test_a_yes_opens_one_job_under_its_own_id(
    database: StoreDatabase, questions: Questions, clock: Clock
) -> None:
    ledger, caps = Ledger(database.connect(), clock), Caps(consent_usd=3.0)
    question = await ask(questions)
    with pytest.raises(OverBudget):
        await ledger.open(new_job(), caps, question_id=question.id)
    assert await questions.answer(question, "agreed")
    with pytest.raises(OverBudget):
        await ledger.open(new_job("bert"), caps, question_id=question.id)
    opened = await ledger.open(new_job(), caps, question_id=question.id)
    assert (opened.job.id, opened.is_joined) == (question.id, False)
    started = await find(questions, question)
    assert (started.state, started.job_id) == ("started", question.id)
    for key in ("same", "another"):
        with pytest.raises(OverBudget):
            await ledger.open(new_job(key=key), caps, question_id=question.id)
    assert len(await ledger.jobs("anna", None, 10)) == 1
    assert list(await ledger.jobs("bert", None, 10)) == []
    assert not await questions.cancel(question)


async def test_a_yes_to_what_runs_already_is_used_up_by_joining_it(
    database: StoreDatabase, questions: Questions, clock: Clock
) -> None:
    ledger = Ledger(database.connect(), clock)
    running = (await ledger.open(new_job())).job
    question = await ask(questions)
    await questions.answer(question, "agreed")
    joined = await ledger.open(new_job(), question_id=question.id)
    assert (joined.job.id, joined.is_joined) == (running.id, True)
    assert (await find(questions, question)).job_id == running.id


async def test_a_run_that_a_cap_forbids_uses_no_yes_up(
    database: StoreDatabase, questions: Questions, clock: Clock
) -> None:
    ledger = Ledger(database.connect(), clock)
    question = await ask(questions)
    await questions.answer(question, "agreed")
    with pytest.raises(OverBudget):
        await ledger.open(new_job(), Caps(per_call=2.0), question_id=question.id)
    assert (await find(questions, question)).state == "agreed"


@pytest.mark.parametrize("is_withdrawn", [True, False], ids=["withdrawn", "too old"])
async def test_a_yes_that_is_too_old_or_withdrawn_opens_nothing(
    database: StoreDatabase, questions: Questions, clock: Clock, is_withdrawn: bool
) -> None:
    ledger = Ledger(database.connect(), clock)
    question = await ask(questions)
    await questions.answer(question, "agreed")
    if is_withdrawn:
        assert await questions.cancel(question)
    else:
        clock.now += 601
    with pytest.raises(OverBudget):
        await ledger.open(new_job(), question_id=question.id)
    assert list(await ledger.jobs("anna", None, 10)) == []


async def test_of_many_processes_that_start_or_cancel_at_once_one_does(
    database: StoreDatabase, questions: Questions, clock: Clock
) -> None:
    question = await ask(questions)
    await questions.answer(question, "agreed")
    done: list[str] = []

    async def start(ledger: Ledger, key: str) -> None:
        try:
            await ledger.open(new_job(key=key), question_id=question.id)
            done.append("started")
        except OverBudget:
            pass

    async def cancel(asked: Questions) -> None:
        if await asked.cancel(question):
            done.append("cancelled")

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(start, Ledger(database.connect(), clock), f"key {number}")
                tasks.start_soon(cancel, Questions(database.connect(), clock, 600.0))
    assert len(done) == 1
    assert (await find(questions, question)).state == done[0]
    jobs = await Ledger(database.connect(), clock).jobs("anna", None, 10)
    assert len(jobs) == (done == ["started"])
