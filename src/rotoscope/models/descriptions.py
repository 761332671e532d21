"""Facts of a manifest in a person's words, for tables."""

from rotoscope.models.manifest import Manifest, Price

__all__ = ["describe_price", "describe_prompts"]

_PROMPT_NAMES = {"text": "words", "points": "points", "box": "box"}


def describe_prompts(manifest: Manifest) -> str:
    """What tells the model what is wanted; for a model without kinds of prompt, words and the media beside them."""
    if manifest.prompts:
        joined = " and " if manifest.combines else " or "
        return joined.join(_PROMPT_NAMES[kind] for kind in manifest.prompts)
    media = [field.argument for field in manifest.inputs.values() if field.is_media and field.argument]
    return ", ".join(["words", *(argument.replace("_", " ") for argument in media)])


def describe_price(price: Price | None) -> str:
    """A price; one that nobody has seen is unknown, not free."""
    return f"{price.note} {price.usd:g} USD a {price.unit.replace('_', ' ')}".strip() if price else "unknown"
