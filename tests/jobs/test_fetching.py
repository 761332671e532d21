"""What was paid for is fetched as long as its provider keeps it, whatever goes wrong meanwhile."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scripted_run import OUT, Scene, reply, staged
from simulated import Process
from vaults import stored_path

from rotoscope.errors import InvalidInput, OutputLost, ReplyLost, SlowHost, StorageFailed, Unreachable
from rotoscope.jobs.restoring import restore_files
from rotoscope.media.vault import FolderVault
from rotoscope.store.records import Job

KEPT = 3600  # seconds for which the provider keeps a result


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path) as found:
        yield found


def expired(status: int) -> OutputLost:
    code = "output_expired" if status in (401, 403, 404, 410) else "download_failed"
    return OutputLost(f"The file could not be fetched: its host answered {status}.", code=code)


TROUBLES = [
    *map(expired, (404, 403, 410, 429, 500, 503)), Unreachable("No route."), ReplyLost("Cut off."),
    OutputLost("The file came back shorter than it should be."), StorageFailed("The disk is full."),
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda error: f"{error.code} {error.message[-12:]}")
@pytest.mark.parametrize("seconds", [4, 3000])
def test_an_output_that_cannot_be_fetched_for_a_while_is_fetched_then(
    scene: Scene, trouble: Exception, seconds: int
) -> None:
    scene.provider.on_fetch = lambda now: trouble if now < 21 + seconds else None
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(22 + seconds / 2)
    reported = scene.result(process, job_id)
    assert reported.status == "running"
    assert reported.error is not None
    assert OUT in reported.message
    assert OUT in reported.error.hint
    assert "2027-01-15T09:00" in reported.error.hint, "until when the provider keeps it"
    assert scene.run(process, job_id, 1.5 * seconds + 10).state == "succeeded"
    assert scene.provider.posts == 1
    tries = scene.provider.times_of("fetch")
    pauses = [round(b - a) for a, b in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert max(pauses) < 301


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(expired(404), "output_expired"), (expired(503), "download_failed"), (Unreachable("No."), "download_failed"),
     (StorageFailed("The disk is full."), "storage")],
    ids=["404", "503", "unreachable", "disk"],
)  # fmt: skip
def test_an_output_that_could_never_be_fetched_fails_with_its_address_and_can_be_resumed(
    scene: Scene, trouble: Exception, code: str
) -> None:
    scene.provider.on_fetch = lambda now: trouble if now < 5000 else None
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 5000)
    reported = scene.result(process, job_id)
    assert reported.error is not None
    assert (reported.status, reported.error.code) == ("failed", code)
    assert KEPT <= scene.time.now <= KEPT + 400
    assert OUT in reported.error.hint
    assert "keeps until 2027-" in reported.error.hint
    assert "jobs resume" in reported.error.hint
    assert job.accepted is not None
    scene.time.run(1500)
    process.call(lambda: process.context.ledger.resume(job_id, "local"))
    assert scene.run(process, job_id, 60).state == "succeeded"
    assert scene.provider.posts == 1


def test_the_provider_is_asked_for_a_new_address_when_the_old_one_has_expired(scene: Scene) -> None:
    process, fresh = scene.process(), OUT.replace("mask", "fresh")
    fetched: list[float] = []

    def on_fetch(now: float) -> Any:
        scene.provider.address = fresh
        fetched.append(now)
        return expired(404) if len(fetched) < 3 else None

    scene.provider.on_fetch = on_fetch
    job_id = scene.begin(process)
    assert scene.run(process, job_id, 60).state == "succeeded"
    outputs = process.call(lambda: process.context.ledger.outputs(job_id, "local"))
    assert {output.source_url for output in outputs or () if output.role == "raw"} == {fresh}


def test_time_that_was_waited_for_an_output_counts_over_restarts(scene: Scene) -> None:
    scene.provider.on_fetch = lambda _: expired(404)
    process = scene.process()
    job_id = scene.begin(process)
    for _ in range(6):
        scene.time.run(700)
        process.end()
        scene.time.run(1)
        process = scene.process()
    scene.run(process, job_id, 1500)
    assert scene.job(process, job_id).state == "failed"


def breaking(monkeypatch: pytest.MonkeyPatch, stage: Any, error: Exception, times: int) -> list[int]:
    """A fault in a stage, for some times."""
    from rotoscope.jobs import lifecycle as machine

    left, work = list(range(times)), machine._STAGE_FUNCTIONS[stage]

    async def stumble(job_context: Any, job: Job, grip: Any) -> Any:
        if left:
            left.pop()
            raise error
        return await work(job_context, job, grip)

    monkeypatch.setitem(machine._STAGE_FUNCTIONS, stage, stumble)
    return left


FAULTS = [RuntimeError("a bug"), FileNotFoundError("scratch"), KeyError("x"), MemoryError(), RecursionError()]


@pytest.mark.parametrize("stage", ["watch", "fetch", "finish"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda error: type(error).__name__)
def test_a_fault_after_the_payment_is_tried_again(
    scene: Scene, stage: str, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, stage, fault, 3)
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(0.5 if stage == "watch" else 21.5)
    reported = scene.result(process, job_id)
    assert reported.status == "running"
    assert reported.error is not None
    assert type(fault).__name__ in reported.error.message
    assert stage in reported.error.message
    job = scene.run(process, job_id, 120)
    assert (job.state, scene.provider.posts, scene.provider.times_of("cancel")) == ("succeeded", 1, [])


@pytest.mark.parametrize("stage", ["watch", "fetch", "finish"])
def test_a_fault_that_stays_needs_a_review_and_is_resumed_at_the_next_start(
    scene: Scene, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = breaking(monkeypatch, stage, RuntimeError("a bug"), 1000)
    first = scene.process()
    job_id = scene.begin(first)
    job = scene.run(first, job_id, 400)
    assert (job.state, job.error_code) == ("needs_review", "internal")
    assert job.accepted is not None
    assert job.next_at is not None
    first.end()
    scene.time.run(100)
    left.clear()
    second = scene.process()
    assert second.call(lambda: second.context.ledger.resume_failures_of_all_principals(lambda _: 3600.0)) == [job_id]
    assert scene.run(second, job_id, 60).state == "succeeded"
    assert scene.provider.posts == 1


def test_a_bug_before_anything_was_sent_has_cost_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, "prepare", RuntimeError("a bug"), 1)
    process = scene.process()
    job = scene.run(process, scene.begin(process), 60)
    assert (job.state, job.error_code, job.charge.is_charged) == ("failed", "internal", False)
    assert scene.provider.posts == 0


def test_a_fault_after_the_reply_was_read_keeps_its_prediction(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from rotoscope.jobs.stages import submit

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(submit, "patch_of", broken)
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 60)
    assert (job.state, scene.provider.posts) == ("succeeded", 1)


@pytest.mark.parametrize("stage", ["watch", "fetch", "finish"])
def test_a_full_disk_after_the_payment_is_waited_out(scene: Scene, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left = breaking(monkeypatch, stage, StorageFailed("The results folder cannot be written."), 60)
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(1800)
    assert left, "it lasts for half an hour"
    reported = scene.result(process, job_id)
    assert reported.error is not None
    assert (reported.status, reported.error.code) == ("running", "storage")
    assert scene.run(process, job_id, 2400).state == "succeeded"


def kept_files(process: Process) -> list[Path]:
    return sorted(Path(process.context.vault.location).glob("??/*.*"))


def test_a_raw_file_that_is_gone_at_the_finish_is_fetched_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    adopting = FolderVault.put
    gone: list[int] = []

    def adopt(self: FolderVault, *given: Any) -> Any:
        kept = adopting(self, *given)
        if not gone:
            gone.append(1)
            stored_path(self, kept.sha256).unlink()
        return kept

    monkeypatch.setattr(FolderVault, "put", adopt)
    process = scene.process()
    assert scene.run(process, scene.begin(process), 60).state == "succeeded"
    assert len(scene.provider.times_of("fetch")) == 2


def test_a_folder_that_is_emptied_each_time_ends_in_a_failure_that_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopting = FolderVault.put

    def adopt(self: FolderVault, *given: Any) -> Any:
        kept = adopting(self, *given)
        stored_path(self, kept.sha256).unlink()
        return kept

    monkeypatch.setattr(FolderVault, "put", adopt)
    process = scene.process()
    job = scene.run(process, scene.begin(process), 60)
    assert (job.state, job.error_code) == ("failed", "download_failed")
    assert len(scene.provider.times_of("fetch")) == 4


@pytest.mark.parametrize("which", ["all", "derived"])
def test_files_of_a_result_that_are_gone_are_restored_while_the_provider_has_them(scene: Scene, which: str) -> None:
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 60)
    whole = kept_files(process)
    raw = {
        o.artifact.sha256
        for o in process.call(lambda: process.context.ledger.outputs(job_id, "local")) or ()
        if o.role == "raw"
    }
    for file in whole:
        if which == "all" or file.name.partition(".")[0] not in raw:
            file.unlink()
    reported = scene.result(process, job_id)
    assert reported.status == "succeeded"
    assert any("no longer in the results folder" in warning and "coco" in warning for warning in reported.warnings)
    task = process.begin(lambda: restore_files(process.context, job))
    scene.time.run(5)
    assert task.done()
    assert kept_files(process) == whole
    reported = scene.result(process, job_id)
    assert not any("no longer" in warning for warning in reported.warnings)
    assert scene.job(process, job_id).finished_at == job.finished_at
    assert len(scene.provider.times_of("fetch")) == (2 if which == "all" else 1)


def test_files_that_cannot_be_restored_are_named_in_the_warnings(scene: Scene) -> None:
    process = scene.process()
    job_id = scene.begin(process)
    job = scene.run(process, job_id, 60)
    for file in kept_files(process):
        file.unlink()
    scene.provider.on_fetch = lambda _: expired(404)
    task = process.begin(lambda: restore_files(process.context, job))
    scene.time.run(5)
    assert task.done()
    reported = scene.result(process, job_id)
    assert reported.status == "succeeded"
    (warning,) = [one for one in reported.warnings if "no longer" in one]
    assert "mask/0" in warning
    assert f"{OUT} until 2027-" in warning
    scene.time.run(KEPT)
    (warning,) = [one for one in scene.result(process, job_id).warnings if "no longer" in one]
    assert OUT not in warning, "the provider has removed it"


def resumed(process: Process, job_id: str) -> str:
    """What a person is reported who wants a job taken up."""

    async def ask() -> str:
        try:
            await process.context.ledger.resume(job_id, "local")
        except InvalidInput as error:
            return error.message
        return ""

    reported = process.call(ask)
    assert reported is not None
    return reported


def test_a_job_whose_end_the_provider_has_confirmed_is_not_resumed(scene: Scene) -> None:
    process = scene.process()
    job_id = scene.begin(process)
    scene.time.run(5)
    assert "has not ended" in resumed(process, job_id)
    scene.run(process, job_id, 60)
    assert "has succeeded" in resumed(process, job_id)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda scene: setattr(scene.provider, "word", "failed"), "no result"),
        (lambda scene: setattr(scene.provider, "posted", lambda: reply(422, {"detail": "no"})), "Nothing is known"),
    ],
    ids=["failed", "refused"],
)
def test_a_run_that_has_no_result_is_not_resumed(scene: Scene, prepare: Callable[[Scene], None], words: str) -> None:
    prepare(scene)
    process = scene.process()
    job_id = scene.begin(process)
    assert scene.run(process, job_id, 60).state == "failed"
    assert words in resumed(process, job_id)


def test_a_job_that_an_older_version_ended_as_cancelled_can_be_resumed(scene: Scene) -> None:
    process = scene.process()
    scene.provider.ends = 100.0
    job_id = scene.begin(process)
    scene.time.run(5)
    process.end()
    scene.time.run(1)
    process = scene.process()

    async def as_an_older_version() -> None:
        await process.context.ledger._database.transact(
            lambda c: c.exec_driver_sql("UPDATE jobs SET state = 'cancelled', cancel_requested = 1, finished_at = 1")
        )

    process.call(as_an_older_version)
    assert resumed(process, job_id) == ""
    job = scene.run(process, job_id, 200)
    assert (job.state, scene.provider.times_of("cancel"), scene.provider.posts) == ("succeeded", [], 1)
    assert scene.provider.times_of("fetch")


def test_a_host_that_sends_too_slowly_is_given_up_with_the_address_of_the_result(scene: Scene) -> None:
    scene.provider.on_fetch = lambda _: SlowHost("The host of the file sends it too slowly.")
    process = scene.process()
    job_id = scene.begin(process)
    assert scene.run(process, job_id, 600).state == "failed"
    reported = scene.result(process, job_id)
    assert reported.error is not None
    assert OUT in reported.error.hint
    assert "jobs resume" in reported.error.hint
    assert len(scene.provider.times_of("fetch")) == 3
