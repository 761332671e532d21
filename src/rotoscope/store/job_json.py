"""The one reader and the one writer of `jobs.data`, the column with what a job carries, and of `jobs.error`, as JSON.

Several installed versions may share one ledger, so keys are only ever added, and a change is merged into the object
that stands key by key: keys that only a newer version knows stay. A row is read with tolerance, because one that cannot
be read must not keep the others from being listed: a key that is missing or has another type counts as not known, an
unknown one is ignored. A row without `version` was written before there was one; its keys are those of version 1.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TypeVar

from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, call_from_json, call_to_json, ticket_from_json, ticket_to_json
from rotoscope.store.job_data import (
    AcceptedRun,
    Charge,
    ErrorRecord,
    FetchEffort,
    HeldFile,
    JobChanges,
    JobData,
    JobPart,
    JobPlan,
    MeasuredResult,
    PreparedRequest,
    ProviderOutput,
    Redelivery,
    RunReference,
    SubmitEffort,
    WatchState,
)
from rotoscope.store.money import UnitPrice

__all__ = [
    "error_from_json",
    "error_to_json",
    "planned_file_hashes",
    "read_job_data",
    "write_job_data",
]

_VERSION = 1
_ARTIFACT_LINK = re.compile(r"artifact://([0-9a-f]{64})")
Record = TypeVar("Record")


def read_job_data(data: Json) -> JobData:
    """What the JSON of a row says, whichever version has written it. It never fails."""
    known = _object(data)
    return JobData(
        plan=_read_plan(known),
        request=PreparedRequest(_object(known["input"]), _texts(known.get("uploads"))) if "input" in known else None,
        submit_effort=SubmitEffort(
            refusals=_count(known.get("tries")),
            late_looks=_count(known.get("late_looks")),
            was_resent=known.get("sent_again") is True,
        ),
        accepted=_read_accepted_run(known),
        run=_read_run_reference(known.get("run")),
        watch=WatchState(
            seconds=_number(known.get("watched")),
            noted_at=_number(known.get("watched_at")),
            working_at=_number(known.get("working_at", 0.0)),
            model_progress=_number(known.get("said")),
            was_found=known.get("seen") is True,
            silent_seconds=max(_number(known.get("silent")) or 0.0, 0.0),
            stale_since=_number(known.get("stale_since")),
        ),
        log_tail=_texts(known.get("log_tail")),
        provider_output=_read_output(known) if "output" in known else None,
        fetch_effort=FetchEffort(
            _number(known.get("unfetched")) or 0.0, _count(known.get("fetched_again")), _read_held(known.get("held"))
        ),
        result=_read_result(known.get("result")),
        warnings=_texts(known.get("warnings")),
        charge=Charge(
            _truth(known.get("charged")), _number(known.get("charged_usd")), _numbers(known.get("charge_measured"))
        ),
        stage_retries=_count(known.get("stumbles")),
        uncancellable_at=_text(known.get("uncancellable")),
        redelivery=Redelivery(_number(known.get("unheard_until"))),
    )


def write_job_data(changes: JobChanges) -> dict[str, Json]:
    """The keys that a change sets. The caller merges them into the JSON that stands, in one transaction."""
    return {
        **_keys(changes.plan, _plan_to_json),
        **_keys(changes.request, lambda one: {"input": dict(one.input), "uploads": list(one.uploads)}),
        **_keys(
            changes.submit_effort,
            lambda one: {"tries": one.refusals, "late_looks": one.late_looks, "sent_again": one.was_resent},
        ),
        **_keys(changes.accepted, lambda one: {"ticket": ticket_to_json(one.ticket), "accepted_at": one.at}),
        **_keys(changes.run, lambda one: {"run": {"id": one.id, "web_url": one.web_url}}),
        **_keys(changes.watch, _watch_to_json),
        **_keys(changes.log_tail, lambda lines: {"log_tail": list(lines)}),
        **_keys(changes.provider_output, _output_to_json),
        **_keys(changes.fetch_effort, _fetch_effort_to_json),
        **_keys(changes.result, _result_to_json),
        **_keys(changes.warnings, lambda sentences: {"warnings": list(sentences)}),
        **_keys(changes.charge, _charge_to_json),
        **_keys(changes.stage_retries, lambda count: {"stumbles": count}),
        **_keys(changes.uncancellable_at, lambda title: {"uncancellable": title}),
        **_keys(changes.redelivery, lambda one: {"unheard_until": one.until}),
    }


def error_to_json(error: ErrorRecord | None) -> dict[str, Json] | None:
    """What the column `jobs.error` holds."""
    if error is None:
        return None
    words = {"said": error.provider_message} if error.provider_message else {}
    return {"code": error.code, "message": error.message, "hint": error.hint, **words}


def error_from_json(data: Json) -> ErrorRecord | None:
    """The error that `error_to_json` wrote, in any version; one that cannot be read is `internal`."""
    known = _object(data)
    if not known:
        return None
    code, message = _text(known.get("code")) or "internal", _text(known.get("message")) or ""
    return ErrorRecord(code, message, _text(known.get("hint")) or "", _text(known.get("said")))


def planned_file_hashes(data: Json) -> set[str]:
    """The hashes of our files that a plan names, also one of an old row that cannot be read as a call."""
    known = _object(data)
    return set(_ARTIFACT_LINK.findall(f"{known.get('call')} {known.get('picture')}"))


def _keys(record: Record | None, write: Callable[[Record], dict[str, Json]]) -> dict[str, Json]:
    return {} if record is None else write(record)


def _plan_to_json(plan: JobPlan) -> dict[str, Json]:
    return {
        "version": _VERSION,
        "call": call_to_json(plan.call) if plan.call is not None else None,
        "drawn": list(plan.drawn_inputs),
        "seed": plan.seed,
        "price": asdict(plan.price) if plan.price is not None else None,
        "estimate_usd": plan.estimate_usd,
        "at_most_usd": plan.at_most_usd,
        "price_basis": plan.price_basis,
        "on_failure": plan.on_failure,
        "on_cancel": plan.on_cancel,
        "expected_seconds": plan.expected_seconds,
        "known_runs": plan.known_runs,
        "cold_start_seconds": plan.cold_start_seconds,
        "workload": plan.workload,
        "picture": plan.picture,
        "label": plan.label,
        "mask_selects": dict(plan.mask_selects) if plan.mask_selects is not None else None,
        "media": {argument: list(links) for argument, links in plan.media.items()},
        "awaited_jobs": plan.awaited_jobs,
        "parts": [{"n": part.n, "first": part.first, "frames": part.frames} for part in plan.parts],
    }


def _read_plan(known: Mapping[str, Json]) -> JobPlan:
    price, seed, selects = _object(known.get("price")), known.get("seed"), known.get("mask_selects")
    return JobPlan(
        call=_read_call(known.get("call")),
        drawn_inputs=_texts(known.get("drawn")),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        price=_read_unit_price(price),
        estimate_usd=_number(known.get("estimate_usd")),
        at_most_usd=_number(known.get("at_most_usd")),
        price_basis=_text(known.get("price_basis")) or "",
        on_failure=_truth(known.get("on_failure")),
        on_cancel=_truth(known.get("on_cancel")),
        expected_seconds=_number(known.get("expected_seconds")),
        known_runs=_number(known.get("known_runs")),
        cold_start_seconds=_number(known.get("cold_start_seconds")),
        workload=_text(known.get("workload")) or "",
        picture=_text(known.get("picture")),
        label=_text(known.get("label")) or "mask",
        mask_selects=selects if isinstance(selects, dict) else None,
        media={argument: _texts(links) for argument, links in _object(known.get("media")).items()},
        awaited_jobs=_count(known.get("awaited_jobs")),
        parts=tuple(
            JobPart(*(_count(one.get(name)) for name in ("n", "first", "frames")))
            for one in _objects(known.get("parts"))
        ),
    )


def _read_unit_price(known: Mapping[str, Json]) -> UnitPrice | None:
    usd = _number(known.get("usd"))
    if usd is None:
        return None
    added, minimum = _number(known.get("added_units")) or 0.0, _number(known.get("minimum_usd")) or 0.0
    return UnitPrice(str(known.get("unit")), usd, added, minimum, _number(known.get("billed_unit_usd")))


def _charge_to_json(charge: Charge) -> dict[str, Json]:
    measured: dict[str, Json] = dict(charge.measured)
    return {"charged": charge.is_charged, "charged_usd": charge.usd, "charge_measured": measured}


def _read_call(data: Json) -> Call | None:
    names = ("provider", "endpoint", "form")
    known = _object(data)
    is_readable = all(isinstance(known.get(name), str) for name in names) and isinstance(known.get("input"), dict)
    return call_from_json(known) if is_readable else None


def _read_accepted_run(known: Mapping[str, Json]) -> AcceptedRun | None:
    ticket = _object(known.get("ticket"))
    if not isinstance(ticket.get("id"), str) or not isinstance(ticket.get("endpoint"), str):
        return None
    return AcceptedRun(ticket_from_json(ticket), _number(known.get("accepted_at")))


def _read_run_reference(data: Json) -> RunReference | None:
    known = _object(data)
    name = _text(known.get("id"))
    return RunReference(name, _text(known.get("web_url"))) if name is not None else None


def _watch_to_json(watch: WatchState) -> dict[str, Json]:
    return {
        "watched": watch.seconds,
        "watched_at": watch.noted_at,
        "working_at": watch.working_at,
        "said": watch.model_progress,
        "seen": watch.was_found,
        "silent": watch.silent_seconds,
        "stale_since": watch.stale_since,
    }


def _read_output(known: Mapping[str, Json]) -> ProviderOutput:
    measured = _numbers(known.get("measured"))
    return ProviderOutput(known["output"], _object(known.get("metrics")), measured, _number(known.get("ready_at")))


def _output_to_json(given: ProviderOutput) -> dict[str, Json]:
    keys: dict[str, Json] = {"output": given.output, "metrics": dict(given.metrics)}
    return {**keys, "measured": dict(given.measured), "ready_at": given.ready_at}


def _fetch_effort_to_json(effort: FetchEffort) -> dict[str, Json]:
    held: list[Json] = [{"url": one.url, "sha256": one.sha256, "size": one.size} for one in effort.held]
    return {"unfetched": effort.seconds, "fetched_again": effort.refetches, "held": held}


def _read_held(data: Json) -> tuple[HeldFile, ...]:
    found = [(_text(one.get("url")), _text(one.get("sha256")), _count(one.get("size"))) for one in _objects(data)]
    return tuple(HeldFile(url, sha256, size) for url, sha256, size in found if url is not None and sha256 is not None)


def _result_to_json(result: MeasuredResult) -> dict[str, Json]:
    masks: list[Json] = [dict(mask) for mask in result.masks]
    segments: list[Json] = [dict(segment) for segment in result.segments]
    frames: list[Json] = [dict(frame) for frame in result.frames]
    more: dict[str, Json] = {"frames": frames} if frames else {}
    more |= {"changes": dict(result.changes)} if result.changes is not None else {}
    return {"result": {"text": result.text, "masks": masks, "segments": segments, **more}}


def _read_result(data: Json) -> MeasuredResult | None:
    known = _object(data)
    if not isinstance(data, dict):
        return None
    masks, segments, frames = (_objects(known.get(name)) for name in ("masks", "segments", "frames"))
    changes = known.get("changes")
    shown = changes if isinstance(changes, dict) else None
    return MeasuredResult(_text(known.get("text")), masks, segments, frames, shown)


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> tuple[Mapping[str, Json], ...]:
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length, and some values are a provider's
        return None


def _numbers(value: Json) -> dict[str, float]:
    amounts = {name: _number(amount) for name, amount in _object(value).items()}
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _count(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _truth(value: Json) -> bool | None:
    return value if isinstance(value, bool) else None
