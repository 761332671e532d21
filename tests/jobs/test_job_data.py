"""What a job carries: every version's rows are read, a change is merged, and nobody else knows a key."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, Ticket
from rotoscope.store.database import Database
from rotoscope.store.job_data import (
    AcceptedRun,
    Charge,
    ErrorRecord,
    FetchEffort,
    JobChanges,
    JobData,
    JobPlan,
    MeasuredResult,
    PreparedRequest,
    ProviderOutput,
    Redelivery,
    RunReference,
    SubmitEffort,
    WatchState,
    apply_changes,
)
from rotoscope.store.job_json import error_from_json, error_to_json, read_job_data, write_job_data
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import UnitPrice
from rotoscope.store.records import NewJob, Patch
from rotoscope.store.schema import jobs
from rotoscope.store.timing import Intervals

# Keys that mean nothing anywhere else, so that a second reader or writer shows by their names.
OWN_KEYS = (
    "tries",
    "late_looks",
    "sent_again",
    "watched_at",
    "stumbles",
    "unfetched",
    "fetched_again",
    "unheard_until",
)
SOURCE = Path(__file__).parents[2] / "src" / "rotoscope"

# A row as rotoscope wrote it before its data had a version: the JSON text is copied from such a ledger.
ROW_WITHOUT_VERSION = """{
  "call": {"provider": "replicate", "endpoint": "bytedance/sa2va-4b-image", "input": {"image": "artifact://ab",
    "instruction": "the face"}, "version": "33d95", "form": "version", "deadline_seconds": 600},
  "drawn": ["seed"], "seed": 7, "price": {"unit": "run_second", "usd": 0.001}, "estimate_usd": 0.002,
  "expected_seconds": 1.1, "known_runs": 0, "cold_start_seconds": 68.0, "workload": "w", "picture": "artifact://ab",
  "label": "the face", "mask_selects": {"least": 0.1, "most": 0.2, "frames": 3}, "warnings": ["One.", "Two."],
  "input": {"image": "https://files.invalid/ab", "instruction": "the face"}, "uploads": ["https://files.invalid/ab"],
  "tries": 2, "sent_again": true, "late_looks": 1,
  "ticket": {"id": "p1", "endpoint": "bytedance/sa2va-4b-image", "urls": {"get": "https://r.invalid/p1"}},
  "accepted_at": 1000.5, "watched": 12.5, "watched_at": 1013.0, "working_at": null, "said": 0.25, "seen": true,
  "silent": 3.5, "stale_since": 1012.0, "run": {"id": "p1", "web_url": "https://r.invalid/p/p1"},
  "uncancellable": "Segmind", "stumbles": 4, "metrics": {"predict_time": 1.5}, "measured": {"run_second": 1.5},
  "ready_at": 1014.0, "output": {"img": "https://out.invalid/a.png"}, "unfetched": 60.0, "fetched_again": 1,
  "result": {"text": "a face", "segments": [{"phrase": "face", "start": 0, "end": 4, "mask": 0}],
    "masks": [{"label": "face", "score": null, "box": null, "area": 0.5}]},
  "charged": true, "charged_usd": 0.0015, "unheard_until": 2000.0
}"""
NEWER_KEYS: dict[str, Any] = {
    "at_most_usd": None,
    "price_basis": "",
    "on_failure": None,
    "on_cancel": None,
    "charge_measured": {},
    "held": [],
    "media": {},
    "awaited_jobs": 0,
    "parts": [],
}
NEWER_PRICE_KEYS = {"added_units": 0.0, "minimum_usd": 0.0, "billed_unit_usd": None}
"""What later versions write beside the keys of that row."""
CALL = Call(
    "replicate", "bytedance/sa2va-4b-image", {"image": "artifact://ab", "instruction": "the face"}, "33d95", "version",
    600,
)  # fmt: skip
WHOLE = JobData(
    plan=JobPlan(
        call=CALL, drawn_inputs=("seed",), seed=7, price=UnitPrice("run_second", 0.001), estimate_usd=0.002,
        expected_seconds=1.1, known_runs=0, cold_start_seconds=68.0, workload="w", picture="artifact://ab",
        label="the face", mask_selects={"least": 0.1, "most": 0.2, "frames": 3},
    ),
    request=PreparedRequest(
        {"image": "https://files.invalid/ab", "instruction": "the face"}, ("https://files.invalid/ab",)
    ),
    submit_effort=SubmitEffort(refusals=2, late_looks=1, was_resent=True),
    accepted=AcceptedRun(Ticket("p1", CALL.endpoint, {"get": "https://r.invalid/p1"}), 1000.5),
    run=RunReference("p1", "https://r.invalid/p/p1"),
    watch=WatchState(12.5, 1013.0, None, 0.25, was_found=True, silent_seconds=3.5, stale_since=1012.0),
    provider_output=ProviderOutput(
        {"img": "https://out.invalid/a.png"}, {"predict_time": 1.5}, {"run_second": 1.5}, 1014.0
    ),
    fetch_effort=FetchEffort(60.0, 1),
    result=MeasuredResult(
        "a face",
        ({"label": "face", "score": None, "box": None, "area": 0.5},),
        ({"phrase": "face", "start": 0, "end": 4, "mask": 0},),
    ),
    warnings=("One.", "Two."),
    charge=Charge(is_charged=True, usd=0.0015),
    stage_retries=4,
    uncancellable_at="Segmind",
    redelivery=Redelivery(2000.0),
)  # fmt: skip


def changes_to(data: JobData) -> JobChanges:
    return JobChanges(**{name: getattr(data, name) for name in JobData.__slots__})


def test_a_row_that_was_written_before_data_had_a_version_is_read_whole() -> None:
    assert read_job_data(json.loads(ROW_WITHOUT_VERSION)) == WHOLE


def test_what_is_written_has_the_keys_of_older_versions_and_a_version() -> None:
    written = json.loads(json.dumps(write_job_data(changes_to(WHOLE))))
    assert written.pop("version") == 1
    assert {key: written.pop(key) for key in NEWER_KEYS} == NEWER_KEYS
    assert {key: written["price"].pop(key) for key in NEWER_PRICE_KEYS} == NEWER_PRICE_KEYS
    assert written.pop("log_tail") == []  # a key that no row without a version has
    assert written == json.loads(ROW_WITHOUT_VERSION)


def test_the_files_of_a_request_are_read_as_they_were_written() -> None:
    plan = replace(WHOLE.plan, media={"video": ("artifact://ab",), "mask": ("artifact://cd", "artifact://ef")})
    written = json.loads(json.dumps(write_job_data(JobChanges(plan=plan))))
    assert read_job_data(written).plan == plan


def test_every_fact_of_a_price_is_read_as_it_was_written() -> None:
    plan = replace(
        WHOLE.plan,
        price=UnitPrice("output_second", 0.22, added_units=4.5, minimum_usd=0.1, billed_unit_usd=0.21),
        at_most_usd=0.5, price_basis="5 s at 720p", on_failure=True, on_cancel=False,
    )  # fmt: skip
    priced = replace(WHOLE, plan=plan, charge=Charge(is_charged=True, usd=0.3, measured={"run_second": 2.5}))
    assert read_job_data(json.loads(json.dumps(write_job_data(changes_to(priced))))) == priced


def test_the_end_of_a_log_is_read_as_it_was_written_and_a_row_without_it_has_none() -> None:
    written = json.loads(json.dumps(write_job_data(JobChanges(log_tail=("loading", "50%")))))
    assert read_job_data({**json.loads(ROW_WITHOUT_VERSION), **written}) == replace(WHOLE, log_tail=("loading", "50%"))


def test_keys_of_a_newer_version_are_ignored() -> None:
    newer = {**json.loads(ROW_WITHOUT_VERSION), "version": 9, "mood": {"of": ["the", "model"]}}
    assert read_job_data(newer) == WHOLE


def test_an_older_row_without_the_start_of_the_work_counts_the_whole_time_as_work() -> None:
    assert read_job_data({"watched": 3.0}).watch.working_at == 0.0
    assert read_job_data({"watched": 3.0, "working_at": None}).watch.working_at is None


@pytest.mark.parametrize("damage", [None, [], "text", 5, True, {}, [[]], -1.5, 10**400, float("nan")])
def test_a_damaged_value_counts_as_not_known_and_never_keeps_a_row_from_being_read(damage: Any) -> None:
    assert isinstance(read_job_data(damage), JobData)
    for key in json.loads(ROW_WITHOUT_VERSION):
        found = read_job_data({**json.loads(ROW_WITHOUT_VERSION), key: damage})
        assert found.plan.label
        assert all(isinstance(one, str) for one in found.warnings)


def test_an_error_is_read_as_every_version_wrote_it() -> None:
    row: dict[str, Json] = {"code": "timeout", "message": "Late.", "hint": "Wait.", "said": "busy"}
    assert error_from_json(row) == ErrorRecord("timeout", "Late.", "Wait.", "busy")
    assert error_to_json(ErrorRecord("timeout", "Late.", "Wait.", "busy")) == row
    assert error_to_json(ErrorRecord("timeout", "Late.")) == {"code": "timeout", "message": "Late.", "hint": ""}
    assert error_from_json({"code": "timeout", "message": "Late."}) == ErrorRecord("timeout", "Late.")
    assert error_from_json(None) is None
    assert error_to_json(None) is None
    assert error_from_json({"message": 5}) == ErrorRecord("internal", "")


def test_a_change_leaves_every_record_that_it_does_not_name() -> None:
    changed = apply_changes(WHOLE, JobChanges(charge=Charge(), stage_retries=0))
    assert changed == replace(WHOLE, charge=Charge(), stage_retries=0)
    assert set(write_job_data(JobChanges(charge=Charge()))) == {"charged", "charged_usd", "charge_measured"}
    assert write_job_data(JobChanges()) == {}


@pytest.mark.anyio
async def test_a_patch_is_merged_into_what_others_have_written_and_newer_versions_keep_their_keys(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite3")
    ledger = Ledger(database, lambda: 1000.0)
    leases = Leases(database, lambda: 1000.0, JobDriver("me", frozenset({"replicate"}), frozenset({"m"})), Intervals())
    opening = await ledger.open(NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan(seed=5)))
    job = await leases.claim(opening.job.id)
    assert job is not None
    await ledger.advance(job, Patch(watch=WatchState(seconds=1.0)))
    newer: dict[str, Json] = {"version": 2, "mood": "good", "seed": 5, "watched": 2.0}
    await database.transact(lambda c: c.execute(update(jobs).values(data=newer)))
    after = await ledger.advance(job, Patch(uncancellable_at="Segmind"))
    assert (after.plan.seed, after.watch.seconds, after.uncancellable_at) == (5, 2.0, "Segmind")
    row = await database.transact(lambda c: c.execute(jobs.select()).one(), writes=False)
    assert (row.data["mood"], row.data["version"]) == ("good", 2)


def test_no_other_module_reads_or_writes_the_keys_of_a_jobs_data() -> None:
    keyed = re.compile(r"\b(?:job|new|patch|row|latest|c)\.data(?:\[|\.get\()")
    modules = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert not [name for name, text in modules.items() if keyed.search(text)]
    spelled = {(name, key) for name, text in modules.items() for key in OWN_KEYS if f'"{key}"' in text}
    assert spelled == {("store/job_json.py", key) for key in OWN_KEYS}
