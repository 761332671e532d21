"""Whose run it is, and how long it is looked for: tokens, malformed lists, other clocks, and a person's decision."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, Until, perform, segment_arguments
from lossy import Lossy
from set_clock import Clock

from rotoscope.contracts.arguments import GenerateVideo, GetJob, SegmentImage
from rotoscope.errors import InvalidInput
from rotoscope.jobs.review import check_prediction
from rotoscope.settings import Settings
from rotoscope.store.records import Job, OpenResult
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
QUICK = Intervals(lease=0.6, heartbeat=0.2, poll=0.05, change_poll=0.05, post_grace=0.2)
NOW = 1_800_000_000.0


@pytest.fixture
def lossy(provider: Any) -> Lossy:
    found = Lossy("replicate", bytes(provider.files["/out.png"]))
    found.version = "v"
    return found


async def prediction(studio: Studio, job_id: str) -> str | None:
    found = await studio.context.ledger.submission(job_id, "local")
    return found.prediction_id if found is not None else None


# --- whose run it is


class Dropped(Lossy):
    """Its paying requests never arrive; somebody made an equal run by hand."""

    def accepted(self, given: dict[str, Any], reply: Any) -> tuple[int, Any]:
        self.posts += 1
        self.rows.append((f"by-hand-{len(self.rows)}", self.by_hand(given)))
        return 502, {}

    def by_hand(self, given: dict[str, Any]) -> dict[str, Any]:
        """The same picture and words, from the address that the person knows."""
        return {**given, "image": str(given["image"]).partition("#")[0]}


class Filmed(Dropped):
    def by_hand(self, given: dict[str, Any]) -> dict[str, Any]:
        return given

    def replicate_row(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"id": name, "model": "bytedance/seedance-2.0", "version": "v", "input": given}


ADDRESS = "https://pictures.example/photo.jpg"
BOX = {"left": 1, "top": 2, "right": 90, "bottom": 70}
CAT = SegmentImage(image=ADDRESS, instruction="the cat", model="bytedance/sa2va-4b-image")


@pytest.fixture
def on_the_wire(environment: dict[str, str]) -> Settings:
    """Not the built-in sandbox: addresses are passed on as they are given."""
    from rotoscope.settings import read_settings

    keyed = {"REPLICATE_API_TOKEN": "r8_not-a-key", "REPLICATE_BASE_URL": "https://sandbox.invalid"}
    return read_settings({**environment, **keyed, "ROTOSCOPE_SANDBOX": "never"})


@pytest.fixture
def keyed(opened: StudioOpener, on_the_wire: Settings) -> Callable[[Any], AbstractAsyncContextManager[Studio]]:
    """Opens a studio with a key, whose provider is the app."""
    return partial(opened, on_the_wire)


async def test_an_equal_run_made_by_hand_is_suggested_to_a_person_and_never_followed(keyed: Any, lossy: Lossy) -> None:
    dropped = Dropped("replicate", lossy.picture)
    async with keyed(dropped) as studio:
        result = await perform(studio, CAT)
        assert await prediction(studio, result.job_id) is None
    assert result.error is not None
    assert (result.status, dropped.posts) == ("needs_review", 1)
    assert "may be somebody else's: by-hand-0" in result.error.message


async def test_an_address_that_was_given_carries_a_token_by_which_its_run_is_found(keyed: Any, lossy: Lossy) -> None:
    """Nobody else's run has it, and the host of the picture never sees it."""
    lossy.rows = [("by-hand", {"image": ADDRESS, "instruction": "the cat"})]
    async with keyed(lossy) as studio:
        result = await perform(studio, CAT)
        assert await prediction(studio, result.job_id) == "prediction-1"
        found = await studio.context.ledger.submission(result.job_id, "local")
    assert (result.status, lossy.posts) == ("succeeded", 1)
    sent = str(lossy.rows[1][1]["image"])
    assert sent.startswith(f"{ADDRESS}#rs-")
    assert found is not None
    assert found.token == f"fragment:image={sent.partition('#')[2]}"


async def test_a_seed_that_the_user_gave_is_no_proof(keyed: Any, lossy: Lossy) -> None:
    """Somebody else may have made the same film with the same seed."""
    film = Filmed("replicate", lossy.picture)
    async with keyed(film) as studio:
        asked = GenerateVideo(prompt="a fox", seed=7, model="bytedance/seedance-2.0")
        result = await perform(studio, asked, "generate_video")
        found = await studio.context.ledger.submission(result.job_id, "local")
    assert found is not None
    assert (result.status, found.token, found.prediction_id) == ("needs_review", None, None)


async def test_two_lost_replies_are_each_given_their_own_run(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path
) -> None:
    async with opened(settings, lossy) as studio:
        first = await perform(studio, segment_arguments(photo))
        second = await perform(studio, segment_arguments(photo, overlay=False))
        runs = [await prediction(studio, one.job_id) for one in (first, second)]
    assert (first.status, second.status, lossy.posts) == ("succeeded", "succeeded", 2)
    assert runs == ["prediction-0", "prediction-1"]


async def test_a_cancel_while_the_request_is_out_stops_no_equal_run(keyed: Any, lossy: Lossy, until: Until) -> None:
    """Only a run that holds our mark is stopped; until the reply comes, nobody can say which one is ours."""
    dropped, hold = Dropped("replicate", lossy.picture), anyio.Event()
    answering = dropped.__call__

    async def slow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def held(message: Any) -> None:
            if scope["method"] == "POST" and message["type"] == "http.response.start":
                await hold.wait()
            await send(message)

        await answering(scope, receive, held)

    async def looked() -> bool:
        return dropped.looks >= 2

    async with keyed(slow) as studio:
        opening = await studio.start(await studio.plan("segment_image", CAT, "local"))
        assert isinstance(opening, OpenResult)

        async def sent() -> bool:
            return dropped.posts > 0

        await until(sent)
        await studio.cancel(opening.job.id, "local")
        await until(looked)
        hold.set()
        with anyio.fail_after(180):
            await studio.wait(opening.job, 60)
    assert not [line for line in dropped.asked if line.endswith("/cancel")]


# --- odd lists


async def test_a_page_that_was_read_counts_although_the_next_one_fails(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path
) -> None:
    lossy.rows = [(f"older-{n}", {"image": "x", "instruction": "y"}) for n in range(3)]
    lossy.page, lossy.broken_pages = 2, frozenset({1})
    async with opened(settings, lossy) as studio:
        result = await perform(studio, segment_arguments(photo))
    assert (result.status, lossy.posts) == ("succeeded", 1)


@pytest.mark.parametrize("wire", ["replicate", "fal", "segmind"])
async def test_a_page_of_html_is_no_list_in_which_the_run_is_not(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, wire: str
) -> None:
    """What is not recognised as a list must not make a person say that nothing was charged."""
    given: dict[str, dict[str, Any]] = {
        "replicate": {},
        "fal": {"instruction": None, "box": BOX, "model": "fal-ai/sam2/image"},
        "segmind": {"model": "sam-v2-image"},
    }
    lossy.wire, lossy.lists = wire, "portal"
    async with opened(settings, lossy) as studio:
        result = await perform(studio, segment_arguments(photo, **given[wire]))
    assert result.error is not None
    assert (result.status, lossy.posts) == ("needs_review", 1)
    assert "list could not be read" in result.error.message


@pytest.mark.parametrize("odd", ["a page fails", "a row is none", "the next page is elsewhere"])
async def test_a_list_that_was_not_wholly_read_is_not_quoted_as_proof(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, odd: str
) -> None:
    class Odd(Lossy):
        def accepted(self, given: dict[str, Any], reply: Any) -> tuple[int, Any]:
            return 502, {}

        def replicate_page(self, query: dict[str, list[str]]) -> tuple[int, Any]:
            status, answer = super().replicate_page(query)
            if odd == "a row is none":
                answer["results"].append("?")
            if odd == "the next page is elsewhere":
                answer["next"] = "https://elsewhere.example/v1/predictions?page=1"
            return status, answer

    strange = Odd("replicate", lossy.picture)
    strange.version, strange.page = "v", 1
    strange.broken_pages = frozenset({1} if odd == "a page fails" else {})
    strange.rows = [("older", {"image": "x", "instruction": "y"}), ("newer", {"image": "z", "instruction": "z"})]
    async with opened(settings, strange) as studio:
        result = await perform(studio, segment_arguments(photo))
    assert result.error is not None
    assert result.status == "needs_review"
    assert "in the part of Replicate's list that could be read" in result.error.message


async def test_an_equal_run_of_hours_before_is_no_suggestion(keyed: Any, lossy: Lossy) -> None:
    """Some lists go by days, and show when each run was made."""

    class Dated(Dropped):
        def replicate_row(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
            at = NOW - 7200 if name == "by-hand-0" else NOW
            made = datetime.fromtimestamp(at, UTC).isoformat()
            return {**super().replicate_row(name, given), "created_at": made}

    dated = Dated("replicate", lossy.picture)
    async with keyed(dated, clock=Clock(NOW)) as studio:
        result = await perform(studio, CAT)
    assert result.error is not None
    assert result.status == "needs_review"
    assert "by-hand" not in result.error.message


# --- clocks and time


@pytest.mark.parametrize("apart", [-7200.0, 7200.0], ids=["ours is ahead", "ours is behind"])
async def test_the_list_is_asked_for_by_the_providers_clock(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, apart: float
) -> None:
    clock = Clock(NOW)
    lossy.date = formatdate(NOW + apart, usegmt=True)
    async with opened(settings, lossy, clock=clock) as studio:
        result = await perform(studio, segment_arguments(photo))
    (since,) = lossy.queries[-1]["created_after"]
    asked = datetime.fromisoformat(since).timestamp()
    assert NOW + apart - 2 * 3600 < asked < NOW + apart
    assert (result.status, lossy.posts) == ("succeeded", 1)


async def test_a_list_that_is_late_is_looked_into_until_it_shows_the_run(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, until: Until
) -> None:
    clock = Clock(NOW)
    lossy.lists = "none"
    async with opened(settings, lossy, clock=clock, intervals=QUICK) as studio:
        result = await perform(studio, segment_arguments(photo))
        assert result.status == "needs_review"
        lossy.lists = "all"
        clock.now += 1000

        async def found() -> bool:
            return (await studio.job(result.job_id, "local")).state == "succeeded"

        await until(found)
    assert lossy.posts == 1


async def test_a_request_for_a_job_in_review_reads_the_list(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path
) -> None:
    clock = Clock(NOW)
    lossy.lists = "none"
    async with opened(settings, lossy, clock=clock, intervals=Intervals(poll=3600)) as studio:
        result = await perform(studio, segment_arguments(photo))
        lossy.lists = "all"
        clock.now += 30
        with anyio.fail_after(180):
            while result.status != "succeeded":
                result = await perform(studio, GetJob(job_id=result.job_id, wait_seconds=5), "get_job")
    assert lossy.posts == 1


async def test_the_search_counts_from_the_request_whichever_process_has_looked_before(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, until: Until
) -> None:
    """A new process at each call must not begin the search again, and so never end it."""
    clock, stopped = Clock(NOW), anyio.Event()
    lossy.lists = "none"

    async def never(seconds: float) -> None:
        stopped.set()
        await anyio.sleep_forever()

    async with opened(settings, lossy, clock=clock, intervals=QUICK, sleep=never) as studio:
        opening = await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
        assert isinstance(opening, OpenResult)

        async def looking() -> bool:
            return "looking for" in (await studio.job(opening.job.id, "local")).message

        await until(looking)
    clock.now += 120
    looks = lossy.looks
    async with opened(settings, lossy, clock=clock, intervals=QUICK) as studio:
        with anyio.fail_after(180):
            job = await studio.wait(await studio.job(opening.job.id, "local"), 60)
    assert (job.state, lossy.posts) == ("needs_review", 1)
    assert lossy.looks - looks <= 3


async def short_life(
    opened: StudioOpener, settings: Settings, clock: Clock, lossy: Lossy, photo: Path, until: Until, naps: int
) -> str:
    """A process that takes the only job up, ends at one of its pauses in the search, and tells the job's state."""
    here, ids, asleep, slept = list[Studio](), list[str](), anyio.Event(), list[float]()

    async def job() -> Job:
        return await here[0].job(ids[0], "local")

    async def nap(seconds: float) -> None:
        if seconds > 0 and ids and "looking for" in (await job()).message:
            slept.append(seconds)
            if len(slept) > naps:
                asleep.set()
                await anyio.sleep_forever()
        await anyio.sleep(0.001)

    async def is_over() -> bool:
        return asleep.is_set() or (await job()).is_final

    async with opened(settings, lossy, clock=clock, intervals=Intervals(poll=0.05), sleep=nap) as studio:
        here.append(studio)
        listed = (await studio.list("local", None, 1)).jobs
        begun = (
            None
            if listed
            else await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
        )
        ids.append(listed[0].job_id if listed else begun.job.id)  # type: ignore[union-attr]
        await until(is_over)
        return (await job()).state


@pytest.mark.parametrize("naps", [0, 1])
async def test_the_search_comes_to_its_end_in_processes_that_live_for_one_look(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, until: Until, naps: int
) -> None:
    """Each lives as long as its call waits, which may be less than the pauses that are left."""
    clock, states = Clock(NOW), list[str]()
    lossy.lists = "none"
    while len(states) < 5 and "needs_review" not in states:
        states.append(await short_life(opened, settings, clock, lossy, photo, until, naps))
        clock.now += 120
    assert (states[-1], lossy.posts) == ("needs_review", 1)


async def test_a_run_that_the_provider_no_longer_keeps_is_looked_for_no_more(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path
) -> None:
    clock = Clock(NOW)
    lossy.lists = "none"
    async with opened(settings, lossy, clock=clock, intervals=Intervals(poll=3600)) as studio:
        result = await perform(studio, segment_arguments(photo))
        looks, clock.now = lossy.looks, clock.now + 3 * 86_400
        await perform(studio, GetJob(job_id=result.job_id), "get_job")
    assert lossy.looks == looks


async def test_a_run_that_the_provider_never_knew_stays_in_review_until_it_is_known(
    opened: StudioOpener, settings: Settings, provider: Any, photo: Path, until: Until
) -> None:
    """Its job does not go from one state to another at each look."""
    clock = Clock(NOW)
    known, provider.states = list(provider.states), [404]
    async with opened(settings, provider, clock=clock, intervals=QUICK) as studio:
        result = await perform(studio, segment_arguments(photo))
        assert result.status == "needs_review"
        asked = len(provider.asked)

        async def asked_again() -> bool:
            return len(provider.asked) > asked

        clock.now += 1000
        await until(asked_again)
        assert (await studio.job(result.job_id, "local")).state == "needs_review"
        provider.states = known
        clock.now += 1000

        async def found() -> bool:
            return (await studio.job(result.job_id, "local")).state == "succeeded"

        await until(found)
    assert provider.posts == 1


# --- what a person says


@pytest.mark.parametrize("wire", ["replicate", "fal", "segmind"])
async def test_a_prediction_that_was_given_something_else_is_refused_with_both_sides(
    opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, wire: str
) -> None:
    given: dict[str, dict[str, Any]] = {
        "replicate": {},
        "fal": {"instruction": None, "box": BOX, "model": "fal-ai/sam2/image"},
        "segmind": {"model": "sam-v2-image"},
    }
    lossy.wire, lossy.lists = wire, "none"
    async with opened(settings, lossy) as studio:
        result = await perform(studio, segment_arguments(photo, **given[wire]))
        job = await studio.job(result.job_id, "local")
        lossy.lists = "all"
        ours = lossy.rows[0][1]
        lossy.rows.append(("another", dict.fromkeys(ours, "something else")))
        await check_prediction(studio.context, job, "prediction-0")
        with pytest.raises(InvalidInput, match="something else") as refused:
            await check_prediction(studio.context, job, "another")
        with pytest.raises(InvalidInput, match="cannot be compared"):
            await check_prediction(studio.context, job, "no-such")
    assert "sent" in refused.value.message
    assert "--force" in refused.value.hint
