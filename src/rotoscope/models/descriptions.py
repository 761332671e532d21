"""Facts of a manifest as short text, for tables."""

from rotoscope.contracts.money import format_price
from rotoscope.errors import InvalidInput
from rotoscope.models.claimed_calls import iterate_base_arguments
from rotoscope.models.estimate import NO_ESTIMATE, Estimate, MediaLength, estimate_price
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.provider import Provider

__all__ = ["describe_price", "describe_prompts", "describe_route_price", "estimate_typical_run"]

_TYPICAL_CLIP = MediaLength(5.0, 120)
"""The edited video of a typical run, where the model's inputs do not say how long the result is."""

_PROMPT_NAMES = {"text": "words", "points": "points", "box": "box", "mask": "mask"}


def describe_prompts(manifest: Manifest) -> str:
    """The kinds of prompt that a model takes; for a model without such kinds, text and its media."""
    if manifest.prompts:
        joined = " and " if manifest.combines else " or "
        return joined.join(_PROMPT_NAMES[kind] for kind in manifest.prompts)
    media = [field.argument for field in manifest.inputs.values() if field.is_media and field.argument]
    return ", ".join(["words", *(argument.replace("_", " ") for argument in dict.fromkeys(media))])


def estimate_typical_run(view: Manifest, provider: Provider) -> Estimate:
    """What a run costs with nothing given but what the tool requires; for an edit, of a clip of five seconds.

    Args:
        view: the model as one of its routes has it.
        provider: that route's provider.
    """
    route = view.routes[0]
    try:
        filled = dict(plan_call(view, route, next(iterate_base_arguments(view)), lambda: 0).call.input)
    except InvalidInput:
        return NO_ESTIMATE
    clips = [str(filled[name]) for name, field in view.inputs.items() if field.argument == "video" and name in filled]
    return estimate_price(
        view,
        filled,
        dict.fromkeys(clips, _TYPICAL_CLIP),
        stops_at_deadline=provider.stops_at_deadline,
        provider_title=provider.title,
    )


def describe_price(estimate: Estimate) -> str:
    """The price of a run as text; one that is not known is unknown, not free."""
    if estimate.typical_usd is None:
        return "unknown"
    return format_price(estimate.typical_usd, estimate.at_most_usd)


def describe_route_price(view: Manifest, provider: Provider) -> str:
    """What a typical run of a model costs by one of its routes, as text."""
    return describe_price(estimate_typical_run(view, provider))
