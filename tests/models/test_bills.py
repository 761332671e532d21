"""Prices against bills: for random requests, what the sandbox's own writing of the providers' rules charges is never
more than the estimate's bound, and about its typical amount.
"""

import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.claimed_calls import MEDIA_ARGUMENTS, argument_kind
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.estimate import MediaLength
from rotoscope.models.manifest import Input, Manifest, Route
from rotoscope.models.plan import CallPlan, plan_call
from rotoscope.models.spelling import read_number
from rotoscope_sandbox.billing import Bill, Measured, bill_run
from rotoscope_sandbox.film.seedance import SIZES
from rotoscope_sandbox.predictions import RunStatus

CATALOG = load_catalog(manifest_folder())
ROUTES = [(manifest, route) for manifest in CATALOG.models.values() for route in manifest.routes]
RUNS = 1_000
BOX = {"left": 1, "top": 2, "right": 30, "bottom": 40}
TRIES = 20  # random inputs that exclude each other are drawn again


@dataclass(frozen=True)
class Request:
    """A random request that a route takes: its plan, and the lengths of its media by link."""

    plan: CallPlan
    media: dict[str, MediaLength]


def random_length(chance: random.Random, most: float, least: float = 0.5) -> MediaLength:
    rate = chance.choice((12.0, 16.0, 23.976, 24.0, 25.0, 30.0, 60.0))
    frames = max(1, round(chance.uniform(least, most) * rate))
    return MediaLength(frames / rate, frames)


def random_value(chance: random.Random, manifest: Manifest, field: Input) -> Any:
    """A value of a tool argument that the facts of its input allow."""
    assert field.argument is not None
    kind = argument_kind(manifest.tool, field.argument)
    if kind == "boolean":
        return chance.random() < 0.5
    if field.choices:
        spelled = [*field.choices, *field.aliases]
        if kind != "integer":
            return chance.choice([str(one) for one in spelled])
        return int(chance.choice([n for one in spelled if (n := read_number(field, str(one))) is not None]))
    if kind == "integer":
        low, high = int(field.minimum or 0), int(field.maximum or 100)
        drawn = chance.choice((*field.also, *(chance.randint(low, high) for _ in range(9))))
        step = field.step or 1
        return drawn if step == 1 else min(low + (drawn - low) // step * step, high)
    return {"points": [{"x": 10, "y": 20, "keep": True}], "box": BOX}.get(field.argument, "a red car")


def random_request(chance: random.Random, view: Manifest, route: Route) -> Request:
    """Some of the arguments that the model takes, with media of random length, as the studio would plan them."""
    given: dict[str, Any] = {}
    media: dict[str, MediaLength] = {}
    for field in view.inputs.values():
        if field.argument is None or field.argument in given or field.fits == "seconds":
            continue
        kind, many = MEDIA_ARGUMENTS.get(field.argument, ("", False))
        needed = field.required or field.argument in ("video", "mask")
        if not needed and chance.random() < (0.7 if kind else 0.4):
            continue
        if not kind:
            given[field.argument] = random_value(chance, view, field)
            continue
        links = [f"artifact://{field.argument}{n}" for n in range(chance.randint(1, 3) if many else 1)]
        if kind in ("video", "audio") or field.kind == "video":
            longest = (field.max_total_seconds or 40) if field.argument in ("video", "mask") else 5
            least = (field.film.min_seconds if field.film else None) or 0.5
            media |= {link: random_length(chance, longest, least) for link in links}
        given[field.argument] = links if many else links[0]
    if "artifact://video0" in media:
        edited = media["artifact://video0"]
        clip = ClipShape(1280, 720, edited.frames or 1, edited.seconds)
        given |= arguments_for_clip(view, given, clip)[0]
    provider = CATALOG.providers[route.provider]
    return Request(plan_call(view, route, given, lambda: 7, media, provider=provider), media)


def iterate_requests(chance: random.Random, view: Manifest, route: Route) -> Iterator[Request]:
    for _ in range(RUNS):
        for _ in range(TRIES):
            try:
                found = random_request(chance, view, route)
            except InvalidInput:
                continue
            yield found
            break
        else:
            raise AssertionError(f"no valid request for {view.id} in {TRIES} tries")


def bill_of(chance: random.Random, view: Manifest, request: Request) -> Bill:
    """What the run is charged: a film of about the length that was asked for, or a random time of computing."""
    call = request.plan.call
    given, wire = call.input, CATALOG.providers[call.provider].dialect
    films = [str(link) for name in ("video_urls", "reference_videos") for link in _as_list(given.get(name))]
    duration = str(given.get("duration", "5"))
    asked = float(duration) if duration.isdecimal() else float(chance.randint(4, 15))
    if view.edits_by_words and "duration" not in given:
        asked = request.media["artifact://video0"].seconds  # as long as the clip
    table = SIZES.get(str(given.get("resolution")), SIZES["720p"])
    width, height = table.get(str(given.get("aspect_ratio"))) or chance.choice(list(table.values()))
    # Where the provider does not stop a run, the longest time is what its own bound is of.
    longest = view.timing.deadline_seconds
    measured = Measured(
        computing_seconds=min(view.timing.typical_seconds * chance.lognormvariate(0, 1.5), longest),
        seconds=asked + chance.uniform(0, 1 / 24),
        frames=int(given.get("num_frames", 81)),  # type: ignore[arg-type]
        width=width,
        height=height,
        input_seconds=sum(request.media[film].seconds for film in films),
        input_frames=max(
            (one.frames or 0 for link, one in request.media.items() if link == given.get("video_url")), default=0
        ),
    )
    return bill_run(wire, call.endpoint, given, measured, RunStatus.SUCCEEDED)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@pytest.mark.parametrize(("manifest", "route"), ROUTES, ids=[f"{m.id}@{r.provider}" for m, r in ROUTES])
def test_no_bill_exceeds_the_bound_and_half_of_them_are_near_the_typical_amount(
    manifest: Manifest, route: Route
) -> None:
    view = manifest.at(route)
    assert view.price is not None, "every shipped route says what it costs, or that this is unknown"
    chance = random.Random(f"{manifest.id}@{route.provider}")
    errors = []
    for request in iterate_requests(chance, view, route):
        estimate = request.plan.estimate
        if view.price.unit == "unknown":
            assert (estimate.typical_usd, estimate.at_most_usd) == (None, None)
            continue
        charged = bill_of(chance, view, request).usd
        assert estimate.typical_usd is not None
        assert estimate.at_most_usd is not None
        assert charged <= estimate.at_most_usd + 1e-9, (request.plan.call, estimate)
        errors.append(abs(estimate.typical_usd - charged) / charged)
    # Whether the films in are billed too is not known of some: then all that may be billed is expected.
    is_known = "adds_seconds_of" not in view.price.inferred or not view.edits_by_words
    if view.price.unit not in ("unknown", "run_second") and is_known:
        assert statistics.median(errors) < 0.05
