"""Facts of a manifest in a person's words, for tables."""

from rotoscope.models.manifest import Manifest, Price

__all__ = ["price_in_words", "prompts_in_words"]

_PROMPTS = {"text": "words", "points": "points", "box": "box"}


def prompts_in_words(manifest: Manifest) -> str:
    """What tells the model what is wanted; for a model without kinds of prompt, words and the media beside them."""
    if manifest.prompts:
        joined = " and " if manifest.combines else " or "
        return joined.join(_PROMPTS[kind] for kind in manifest.prompts)
    media = [field.argument for field in manifest.inputs.values() if field.is_media and field.argument]
    return ", ".join(["words", *(argument.replace("_", " ") for argument in media)])


def price_in_words(price: Price | None) -> str:
    """A price; one that nobody has seen is unknown, not free."""
    return f"{price.note} {price.usd:g} USD a {price.unit.replace('_', ' ')}".strip() if price else "unknown"
