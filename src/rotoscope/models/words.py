"""Facts of a manifest in a person's words, for tables."""

from rotoscope.models.manifest import Manifest, Price

__all__ = ["price_in_words", "prompts_in_words"]

_PROMPTS = {"text": "words", "points": "points", "box": "box"}


def prompts_in_words(manifest: Manifest) -> str:
    """What tells the model what is wanted."""
    joined = " and " if manifest.combines else " or "
    return joined.join(_PROMPTS[kind] for kind in manifest.prompts) or "words"


def price_in_words(price: Price | None) -> str:
    """A price; one that nobody has seen is unknown, not free."""
    return f"{price.note} {price.usd:g} USD a {price.unit.replace('_', ' ')}".strip() if price else "unknown"
