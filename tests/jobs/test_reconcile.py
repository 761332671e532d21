"""Replies that were lost: what each provider's list can decide, and what a review says when it cannot."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, Until
from lossy import Lossy

from rotoscope.contracts.arguments import Arguments, GenerateVideo, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.errors import InvalidInput, StorageFailed, UnknownJob
from rotoscope.providers.http.client import CONNECT_SECONDS, ReplyTimeouts
from rotoscope.settings import Settings, read_settings
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job, OpenResult, Submission
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
BOX = {"left": 10, "top": 20, "right": 110, "bottom": 70}
QUICK = Intervals(lease=0.6, heartbeat=0.2, poll=0.05, change_poll=0.05, post_grace=0.2)


@pytest.fixture
def picture(provider: Any) -> bytes:
    return bytes(provider.files["/out.png"])


ASKED: dict[str, dict[str, Any]] = {
    "replicate": {"instruction": "the helmet", "model": "bytedance/sa2va-4b-image"},
    "fal": {"box": BOX, "model": "fal-ai/sam2/image"},
    "segmind": {"instruction": "the helmet", "model": "sam-v2-image"},
}


def asked(wire: str, photo: Path, **more: Any) -> SegmentImage:
    return SegmentImage.model_validate({"image": str(photo), **ASKED[wire], **more})


async def performed(studio: Studio, arguments: Arguments, tool: str = "segment_image") -> JobResult:
    with anyio.fail_after(180):
        result = await studio.perform(tool, arguments, "local", 60)
        assert isinstance(result, JobResult)
        await studio.mark_delivered(result, "local")
    return result


async def submission(studio: Studio, job_id: str) -> str | None:
    found = await studio.context.ledger.submission(job_id, "local")
    assert found is not None
    return found.prediction_id


@pytest.mark.parametrize("wire", list(ASKED))
async def test_a_lost_reply_is_found_again_in_the_providers_list_and_paid_once(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, wire: str
) -> None:
    """By its whole input, in which the address of the upload is this job's alone."""
    lossy = Lossy(wire, picture)
    async with opened(settings, lossy) as studio:
        result = await performed(studio, asked(wire, photo))
        assert await submission(studio, result.job_id) == "prediction-0"
    assert (result.status, result.error, lossy.posts) == ("succeeded", None, 1)


async def test_a_ledger_that_fails_during_the_search_is_waited_for_and_no_person_is_asked(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the list shows needs nobody's review: the job is left as it is, and taken up again after its lease."""
    lossy, reading = Lossy("replicate", picture), Ledger.submission
    failed: list[str] = []

    async def once_broken(self: Ledger, job_id: str, principal: str) -> Submission | None:
        if lossy.posts and not failed:
            failed.append(job_id)
            raise StorageFailed("The ledger is locked by another program.")
        return await reading(self, job_id, principal)

    monkeypatch.setattr(Ledger, "submission", once_broken)
    tempo = Intervals(lease=0.6, heartbeat=0.2, poll=0.1, change_poll=0.05)
    async with opened(settings, lossy, intervals=tempo) as studio:
        result = await performed(studio, asked("replicate", photo))
    assert (result.status, result.error, lossy.posts, len(failed)) == ("succeeded", None, 1, 1)


async def test_a_segmind_answer_that_was_lost_is_recovered_from_its_row_whose_credits_are_no_money(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    lossy = Lossy("segmind", picture)
    async with opened(settings, lossy) as studio:
        result = await performed(studio, asked("segmind", photo))
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert result.status == "succeeded"
    assert "GET /inference-request/request-history/prediction-0" in lossy.asked
    assert (spent.charged, spent.held) == (0.0, 0.09), "what it costs at most goes on counting"


async def test_a_provider_that_rewrites_what_it_was_given_is_searched_by_the_seed_that_we_drew(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    class Seedance(Lossy):
        def replicate_row(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
            return {"id": name, "model": "bytedance/seedance-2.0", "version": "v", "input": given}

    lossy = Seedance("replicate", picture)
    lossy.rewrites = {"prompt": "A Fox Runs", "added": True}
    lossy.rows = [("older", {"prompt": "A Fox Runs", "seed": -5})]
    async with opened(settings, lossy) as studio:
        opening = await studio.start(
            await studio.plan(
                "generate_video", GenerateVideo(prompt="a fox runs", model="bytedance/seedance-2.0"), "local"
            )
        )
        assert isinstance(opening, OpenResult)
        with anyio.fail_after(180):
            await studio.wait(opening.job, 60)
        assert await submission(studio, opening.job.id) == "prediction-1"
    assert lossy.posts == 1


async def test_several_that_can_be_it_are_named_and_none_is_taken(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    class Doubled(Lossy):
        def accepted(self, given: dict[str, Any], reply: Any) -> tuple[int, Any]:
            answer = super().accepted(given, reply)
            self.rows.append(("prediction-twin", self.rows[-1][1]))
            return answer

    lossy = Doubled("replicate", picture)
    async with opened(settings, lossy) as studio:
        result = await performed(studio, asked("replicate", photo))
        assert await submission(studio, result.job_id) is None
    assert result.error is not None
    assert (result.status, result.error.code, lossy.posts) == ("needs_review", "submit_unknown", 1)
    assert "prediction-twin, prediction-0" in result.error.message


@pytest.mark.parametrize("wire", list(ASKED))
@pytest.mark.parametrize(("lists", "says"), [("none", "It is not in"), ("broken", "list could not be read")])
async def test_what_no_list_can_decide_needs_a_review_that_says_what_was_checked_and_how_to_resolve_it(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, wire: str, lists: str, says: str
) -> None:
    lossy = Lossy(wire, picture)
    lossy.lists = lists
    async with opened(settings, lossy) as studio:
        result = await performed(studio, asked(wire, photo))
    assert result.error is not None
    assert (result.status, result.error.code, lossy.posts) == ("needs_review", "submit_unknown", 1)
    assert says in result.error.message
    for words in (f"rotoscope jobs resolve {result.job_id}", "--charged PREDICTION_ID", "--not-charged"):
        assert words in result.error.hint
    assert lossy.looks >= len(Intervals().list_pauses), "it was asked again and again"
    assert result.cost.charged_usd in (None, 0.0)


async def test_a_gateway_has_no_list_so_a_person_is_asked_at_once(
    opened: StudioOpener, settings: Settings, home: Path, picture: bytes
) -> None:
    class Gateway(Lossy):
        def answer(self, method: str, path: str, body: bytes, query: dict[str, list[str]]) -> tuple[int, bytes, bytes]:
            return super().answer(method, path.removeprefix("/replicate"), body, query)

    shipped = Path(__file__).parents[2] / "manifests" / "models" / "sa2va-4b-image.toml"
    own = settings.home / "models"
    own.mkdir(parents=True)
    text = shipped.read_text(encoding="utf-8").replace('provider = "replicate"', 'provider = "gateway"')
    (own / "gateway.toml").write_text(text, encoding="utf-8")
    (home / "small.png").write_bytes(picture)
    lossy = Gateway("replicate", picture)
    async with opened(settings, lossy) as studio:
        result = await performed(studio, asked("replicate", home / "small.png"))
    assert result.error is not None
    assert (result.status, result.provider, lossy.posts, lossy.looks) == ("needs_review", "gateway", 1, 0)
    assert "has no list" in result.error.message


@pytest.mark.parametrize("stale", [False, True], ids=["known", "written after the look"])
async def test_a_prediction_that_belongs_to_another_job_is_not_taken(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, stale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list shows a run with this job's own token, and the ledger knows whose it is."""

    async def nothing_yet(*_: Any) -> frozenset[str]:
        return frozenset()

    if stale:
        monkeypatch.setattr(Ledger, "runs_of_other_jobs", nothing_yet)
    lossy = Lossy("replicate", picture)
    lossy.loses = False
    async with opened(settings, lossy) as studio:
        first = await performed(studio, asked("replicate", photo))
        assert await submission(studio, first.job_id) == "prediction-0"
        lossy.loses, lossy.lists = True, "all"

        def swallowed(given: dict[str, Any], _: Any) -> tuple[int, Any]:
            """This one never arrives, but its twin of before has the same input."""
            lossy.posts += 1
            lossy.rows[0] = ("prediction-0", given)
            return 502, {}

        monkeypatch.setattr(lossy, "accepted", swallowed)
        second = await performed(studio, asked("replicate", photo, overlay=False))
        with pytest.raises(InvalidInput, match="another job"):
            await studio.context.ledger.resolve_review(second.job_id, "local", "prediction-0")
        assert await submission(studio, second.job_id) is None
    assert (first.status, second.status, lossy.posts) == ("succeeded", "needs_review", 2)


async def test_a_person_names_the_prediction_and_its_result_is_collected_without_another_request(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    lossy = Lossy("replicate", picture)
    lossy.lists = "none"
    async with opened(settings, lossy, intervals=QUICK) as studio:
        result = await performed(studio, asked("replicate", photo))
        job = await studio.context.ledger.resolve_review(result.job_id, "local", "prediction-0")
        with anyio.fail_after(180):
            job = await studio.wait(job, 60)
    assert (result.status, job.state, lossy.posts) == ("needs_review", "succeeded", 1)


async def test_a_prediction_that_its_list_has_shown_meanwhile_may_still_be_named_and_no_other_one(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    """Who names it has the list read at the same time, which may come first."""
    lossy = Lossy("replicate", picture)
    lossy.lists = "none"
    async with opened(settings, lossy, intervals=QUICK) as studio:
        result = await performed(studio, asked("replicate", photo))
        assert await studio.context.ledger.write_prediction_id(result.job_id, "local", "prediction-0")
        for wrong in ("prediction-1", None):
            with pytest.raises(UnknownJob, match="needs no review"):
                await studio.resolve_review(result.job_id, "local", wrong)
        job = await studio.resolve_review(result.job_id, "local", "prediction-0")
        with anyio.fail_after(180):
            job = await studio.wait(job, 60)
        again = await studio.resolve_review(result.job_id, "local", "prediction-0")
    assert (result.status, job.state, again.state, lossy.posts) == ("needs_review", "succeeded", "succeeded", 1)


# --- another process


async def intended(opened: StudioOpener, settings: Settings, lossy: Lossy, photo: Path, until: Until) -> Job:
    """A job in whose name a process, which has ended since, may have paid."""
    async with opened(settings, lossy, sleep=never) as studio:
        opening = await studio.start(await studio.plan("segment_image", asked("replicate", photo), "local"))
        assert isinstance(opening, OpenResult)

        async def reconciling() -> bool:
            return "looking for" in (await studio.job(opening.job.id, "local")).message

        await until(reconciling)
        return opening.job


async def never(seconds: float) -> None:
    await anyio.sleep(3600)


async def test_a_process_that_finds_an_intent_waits_for_its_author_then_looks_and_never_posts(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, until: Until
) -> None:
    lossy, waited = Lossy("replicate", picture), []
    job = await intended(opened, settings, lossy, photo, until)

    async def note(seconds: float) -> None:
        if not lossy.looks:
            waited.append(seconds)
        await anyio.sleep(0.001)

    async with opened(settings, lossy, sleep=note) as studio:
        with anyio.fail_after(180):
            ended = await studio.wait(job, 60)
    assert (ended.state, lossy.posts) == ("succeeded", 1)
    # The author of the intent may wait for its reply until its own patience ends, and a little longer.
    assert sum(waited) == pytest.approx(ReplyTimeouts().submit + CONNECT_SECONDS + Intervals().post_grace, abs=10)


async def test_a_process_that_finds_an_intent_follows_the_id_that_arrives_while_it_looks(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes, until: Until
) -> None:
    """The first one was only slow."""
    lossy, late, looked = Lossy("replicate", picture), anyio.Event(), anyio.Event()
    lossy.lists = "none"
    job = await intended(opened, settings, lossy, photo, until)

    async def pause(_: float) -> None:
        if lossy.looks:
            looked.set()
            await late.wait()
        await anyio.sleep(0.001)

    async with opened(settings, lossy, sleep=pause) as studio:
        with anyio.fail_after(180):
            await looked.wait()
            await studio.context.ledger.write_prediction_id(job.id, "local", "prediction-0")
            late.set()
            ended = await studio.wait(job, 60)
    assert (ended.state, lossy.posts, lossy.looks) == ("succeeded", 1, 1)
    assert "GET /v1/predictions/prediction-0" in lossy.asked


async def test_an_id_that_arrives_after_the_review_has_begun_ends_it(
    opened: StudioOpener, settings: Settings, photo: Path, picture: bytes
) -> None:
    lossy = Lossy("replicate", picture)
    lossy.lists = "none"
    async with opened(settings, lossy, intervals=QUICK) as studio:
        result = await performed(studio, asked("replicate", photo))
        await studio.context.ledger.write_prediction_id(result.job_id, "local", "prediction-0")
        again = await performed(studio, asked("replicate", photo))
    assert (result.status, again.status, again.job_id, lossy.posts) == (
        "needs_review",
        "succeeded",
        result.job_id,
        1,
    )


class Forgetful(Lossy):
    """Segmind, which loses the first request without a trace; it may have been accepted, or not."""

    def __init__(self, picture: bytes, loses: int = 1) -> None:
        super().__init__("segmind", picture)
        self.lists = "none"
        self.left = loses

    def answer(self, method: str, path: str, body: bytes, query: dict[str, list[str]]) -> tuple[int, bytes, bytes]:
        pays = method == "POST" and path.startswith("/v1/")
        self.loses, self.left = self.left > 0, self.left - pays
        found = super().answer(method, path, body, query)
        return found if self.loses or not pays else (200, b"image/png", self.picture)


def resending(environment: dict[str, str], below: str, **more: str) -> Settings:
    return read_settings({**environment, "ROTOSCOPE_RESEND_BELOW_USD": below, **more})


async def test_a_cheap_request_without_a_reply_is_sent_once_more_where_the_operator_allows_it(
    opened: StudioOpener, environment: dict[str, str], photo: Path, picture: bytes
) -> None:
    lossy = Forgetful(picture)
    async with opened(resending(environment, "0.01"), lossy) as studio:
        result = await performed(studio, asked("segmind", photo))
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (result.status, lossy.posts) == ("succeeded", 2)
    assert lossy.looks, "it was looked for first"
    assert any("may have been paid twice" in warning for warning in result.warnings)
    assert spent.held == 0.18, "booked as possibly twice"


async def test_a_request_without_a_reply_is_never_sent_a_third_time(
    opened: StudioOpener, environment: dict[str, str], photo: Path, picture: bytes
) -> None:
    lossy = Forgetful(picture, loses=9)
    async with opened(resending(environment, "0.01"), lossy) as studio:
        result = await performed(studio, asked("segmind", photo))
        (spent,) = await studio.context.ledger.spending_of_all_principals(0)
    assert (result.status, lossy.posts) == ("needs_review", 2)
    assert spent.held + spent.charged == 0.18


@pytest.mark.parametrize(
    ("below", "more", "lists"),
    [("0", {}, "none"), ("0.001", {}, "none"), ("0.01", {"ROTOSCOPE_MAX_USD_PER_DAY": "0.17"}, "none"),
     ("0.01", {}, "broken"), ("0.01", {}, "portal")],
    ids=["by default", "not below", "beyond the cap", "no list", "no list but a page"],
)  # fmt: skip
async def test_otherwise_a_request_without_a_reply_is_a_persons_to_decide(
    opened: StudioOpener,
    environment: dict[str, str],
    photo: Path,
    picture: bytes,
    below: str,
    more: dict[str, str],
    lists: str,
) -> None:
    lossy = Forgetful(picture)
    lossy.lists = lists
    async with opened(resending(environment, below, **more), lossy) as studio:
        result = await performed(studio, asked("segmind", photo))
    assert (result.status, lossy.posts) == ("needs_review", 1)


async def test_a_run_that_the_list_shows_is_taken_and_not_sent_again(
    opened: StudioOpener, environment: dict[str, str], photo: Path, picture: bytes
) -> None:
    lossy = Lossy("segmind", picture)
    async with opened(resending(environment, "0.01"), lossy) as studio:
        result = await performed(studio, asked("segmind", photo))
    assert (result.status, lossy.posts) == ("succeeded", 1)
