"""Facts of a manifest as short text, for tables."""

from rotoscope.models.manifest import Manifest, Price, Route

__all__ = ["describe_price", "describe_prompts", "describe_route_price"]

_PROMPT_NAMES = {"text": "words", "points": "points", "box": "box"}


def describe_prompts(manifest: Manifest) -> str:
    """The kinds of prompt that a model takes; for a model without such kinds, text and its media."""
    if manifest.prompts:
        joined = " and " if manifest.combines else " or "
        return joined.join(_PROMPT_NAMES[kind] for kind in manifest.prompts)
    media = [field.argument for field in manifest.inputs.values() if field.is_media and field.argument]
    return ", ".join(["words", *(argument.replace("_", " ") for argument in media)])


def describe_price(price: Price | None) -> str:
    """A price as text; an absent one is unknown, not free."""
    return f"{price.note} {price.usd:g} USD a {price.unit.replace('_', ' ')}".strip() if price else "unknown"


def describe_route_price(manifest: Manifest, route: Route) -> str:  # noqa: ARG001 - the price is the model's, by every route
    """What a typical run of a model costs by one of its routes, as text."""
    return describe_price(manifest.price)
