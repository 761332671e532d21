"""From a request that was checked and planned to the job that would be opened: its plan, price and keys. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rotoscope.models.awaited import AwaitedOutput
from rotoscope.models.catalog import Access
from rotoscope.models.estimate import Estimate, LearnedSeconds
from rotoscope.models.manifest import PROMPTED_TOOLS, Manifest, ToolName
from rotoscope.models.plan import CallPlan, kept_files, replace_media, workload
from rotoscope.models.request_key import combine_keys, request_and_price_keys
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import JobPart, JobPlan, PreparedRequest
from rotoscope.store.money import UnitPrice
from rotoscope.store.openings import SANDBOX_KEY
from rotoscope.store.records import NewJob
from rotoscope.studio.validation import Admission

__all__ = [
    "NO_INPUTS",
    "CheckedRequest",
    "PlannedJob",
    "RequestKeys",
    "StepInputs",
    "build_new_job",
    "compute_request_keys",
    "hoist_steps",
]

_SANDBOX_SECONDS: Mapping[ToolName, float] = {
    "segment_image": 1.5,
    "describe_with_masks": 1.5,
    "generate_video": 6.0,
    "edit_video_with_mask": 10.0,
    "segment_video": 8.0,
}


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that could be opened.

    Attributes:
        new_job: the job, with its price and the principal on whose behalf it runs.
        call_plan: the request that would be sent.
        steps: the jobs that would be opened with it, whose outputs it takes.
    """

    new_job: NewJob
    call_plan: CallPlan
    steps: tuple["PlannedJob", ...] = ()


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What other jobs give to a job that is planned.

    Attributes:
        steps: the jobs whose outputs it takes.
        awaited: the arguments that these fill, each with the number of its job among the awaited ones.
        is_part: whether it is itself a step: the part of a clip, which is cut no further.
        takes_from: of a part, the numbers of `steps` among the steps of the whole, which opens them.
        waits_for: of a part, the ids of open jobs whose outputs it takes as well.
        readable: the hashes of files that were made for it, and that nobody was given.
    """

    steps: tuple[PlannedJob, ...] = ()
    awaited: Mapping[str, AwaitedOutput] = field(default_factory=dict)
    is_part: bool = False
    takes_from: tuple[int, ...] = ()
    waits_for: tuple[str, ...] = ()
    readable: frozenset[str] = frozenset()

    @property
    def new_steps(self) -> tuple[NewJob, ...]:
        """The jobs whose outputs it takes, as they would be opened."""
        return tuple(step.new_job for step in self.steps)


NO_INPUTS = StepInputs()
"""What no other job gives anything to."""


def hoist_steps(step: PlannedJob) -> tuple[PlannedJob, ...]:
    """A step after its own steps: all of them are then steps of one whole, which has no other ones before these."""
    if not step.steps:
        return (step,)
    taken = tuple(range(len(step.steps)))
    return (*step.steps, replace(step, new_job=replace(step.new_job, steps=(), takes_from=taken), steps=()))


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose media were admitted, for one route of its model.

    Attributes:
        view: the model as the route has it.
        fillable: the same, with an argument of its own for each input that an option fills.
        asked: the arguments as understood, the options among them.
        given: what fills the inputs, by argument, before the media were admitted.
        values: what fills the inputs, by argument: files as links, options as arguments of their own.
    """

    view: Manifest
    fillable: Manifest
    asked: Mapping[str, Json]
    given: Mapping[str, Json]
    values: Mapping[str, Json]
    media: Admission


def build_new_job(
    access: Access,
    checked: CheckedRequest,
    planned: CallPlan,
    notes: Sequence[str],
    principal: str,
    learned: LearnedSeconds | None,
    inputs: StepInputs,
    keys: "RequestKeys",
    parts: tuple[JobPart, ...] = (),
) -> NewJob:
    """The job of a planned request; with parts, it joins what these give and sends nothing itself."""
    sandbox, waits_for = access.sandbox, (*checked.media.waits_for, *inputs.waits_for)
    manifest, asked, admitted = checked.view, checked.asked, checked.media
    picture = admitted.first_medium("image")
    price = planned.estimate
    guess = _SANDBOX_SECONDS[manifest.tool] if sandbox else manifest.timing.typical_seconds
    plan = JobPlan(
        call=planned.call,
        drawn_inputs=tuple(planned.drawn_inputs),
        seed=planned.seed,
        price=_unit_price(price),
        estimate_usd=price.typical_usd,
        at_most_usd=price.at_most_usd,
        price_basis=price.basis,
        on_failure=price.on_failure,
        on_cancel=price.on_cancel,
        expected_seconds=learned.median if learned else guess,
        known_runs=learned.runs if learned else 0,
        cold_start_seconds=None if sandbox else manifest.timing.cold_start_seconds,
        workload=workload(manifest, planned.call),
        picture=picture.value if picture else None,
        label=_object_label(manifest.tool, asked),
        mask_selects=admitted.mask_share,
        media=admitted.links,
        awaited_jobs=len(inputs.steps) + len(waits_for),
        parts=parts,
    )
    warnings = (*notes, *_price_notes(price.typical_usd))
    shown = {name: _shorten_data_uris(value) for name, value in asked.items() if value is not None}
    provider = planned.call.provider
    is_complete = not kept_files(manifest, planned.call.input) and not (inputs.steps or waits_for)
    account = None if sandbox else access.account_fingerprint(provider)
    where = (manifest.tool, manifest.id, provider, principal, sandbox)
    return NewJob(
        *where,
        shown,
        plan,
        keys.request,
        price.typical_usd,
        _driver_of(access, planned),
        account,
        admitted.file_hashes,
        keys.price,
        warnings,
        price.at_most_usd,
        PreparedRequest(planned.call.input) if is_complete else None,
        () if inputs.is_part else inputs.new_steps,
        waits_for,
        keys.others,
        takes_from=inputs.takes_from if inputs.is_part else _taken_numbers(inputs, parts),
    )


def _taken_numbers(inputs: StepInputs, parts: Sequence[JobPart]) -> tuple[int, ...]:
    """The numbers of its own steps that a job takes outputs of itself."""
    numbers = {*(one.n for one in inputs.awaited.values()), *(part.n for part in parts)}
    return tuple(sorted(number for number in numbers if number < len(inputs.steps)))


class RequestKeys(NamedTuple):
    """The keys of a request, of its price, and others that an equal request may have been opened under."""

    request: str
    price: str
    others: tuple[str, ...]


def compute_request_keys(
    principal: str,
    checked: CheckedRequest,
    planned: CallPlan,
    inputs: StepInputs,
    access: Access,
    job_form: CallPlan | None,
) -> RequestKeys:
    """The keys of a request. While a job goes on, its output has no content to compare: then its link is compared.

    An equal request that comes when that job has ended compares contents, and links as well.

    Args:
        principal: whose request it is.
        checked: what is asked.
        planned: the request.
        inputs: the jobs whose outputs it takes.
        access: the providers that can be used.
        job_form: the request while the jobs go on whose outputs it names.
    """
    manifest, named = checked.view, checked.media.job_form
    driver = _driver_of(access, planned)
    how: dict[str, Json] = {"driver": driver, "overlay": checked.asked.get("overlay")}
    if checked.asked.get("keep_outside"):  # named only where it is, so that the keys of older versions stay
        how["keep_outside"] = True
    mask = checked.media.judging_mask
    if mask is not None:  # it is in no request, and what is found out about the result is another with another mask
        how["judging_mask"] = mask
    key, price = request_and_price_keys(principal, manifest, planned, how)
    others: tuple[str, ...] = ()
    if job_form is not None and named is not None:
        linked = replace(job_form.call, input=replace_media(manifest, job_form.call.input, named.names))
        if mask is not None:
            link = str(named.values.get("mask", mask))
            how = {**how, "judging_mask": named.names.get(link, link)}
        by_links = request_and_price_keys(principal, manifest, replace(job_form, call=linked), how)
        if checked.media.waits_for:
            key, price = by_links
        else:
            others = (by_links[0],)
    step_keys = [*(str(one.request_key) for one in inputs.new_steps), *inputs.waits_for]
    step_prices = [*(one.quote_key for one in inputs.new_steps), *inputs.waits_for]
    return RequestKeys(combine_keys(key, step_keys), combine_keys(price, step_prices), others)


def _driver_of(access: Access, planned: CallPlan) -> str:
    return SANDBOX_KEY if access.sandbox else access.driver_key(planned.call.provider)


def _object_label(tool: ToolName, asked: Mapping[str, Json]) -> str:
    words = asked.get("instruction") if tool in PROMPTED_TOOLS else None
    return str(words).strip()[:200] if words else ("object" if tool in PROMPTED_TOOLS else "area")


def _shorten_data_uris(given: Json) -> Json:
    """A data URI is bytes: they are not repeated in results."""
    if isinstance(given, list):
        return [_shorten_data_uris(one) for one in given]
    if isinstance(given, dict):
        return {name: _shorten_data_uris(one) for name, one in given.items()}
    is_data = isinstance(given, str) and given.lstrip()[:5].lower() == "data:"
    return f"{given.strip()[:40]}…" if isinstance(given, str) and is_data else given


def _unit_price(price: Estimate) -> UnitPrice | None:
    if price.unit_usd is not None:
        return UnitPrice(price.unit, price.unit_usd, price.added_units, price.minimum_usd, price.billed_unit_usd)
    # Without a price of its own only what the provider bills can be counted.
    return None if price.billed_unit_usd is None else UnitPrice("unknown", 0.0, billed_unit_usd=price.billed_unit_usd)


def _price_notes(estimate_usd: float | None) -> list[str]:
    words = "The price of this model is not known, so the spending caps cannot count it."
    return [words] if estimate_usd is None else []
