"""Other models that a request could go to: of the same tool, for the same prompts and media. Pure."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rotoscope.models.catalog import Catalog, can_take_prompts
from rotoscope.models.manifest import Manifest, PromptKind, Route
from rotoscope.models.provider import Provider

__all__ = ["MAX_ALTERNATIVES", "Alternative", "PriceText", "describe_alternatives", "list_alternatives"]

MAX_ALTERNATIVES = 3
"""How many are named: more would be a list to read, and `rotoscope models` has all."""

PriceText = Callable[[Manifest, Provider], str]
"""What a model costs, as one of its routes has it, at that route's provider, as short text."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A model that could be named instead.

    Attributes:
        model: its id.
        price: what it costs, as text.
        needs: the variables that must be set before it can be used; empty where it can be used now.
    """

    model: str
    price: str
    needs: str = ""


def list_alternatives(
    catalog: Catalog,
    manifest: Manifest,
    is_usable: Callable[[str], bool],
    price_text: PriceText,
    kinds: frozenset[PromptKind] | None = None,
    media: Collection[str] = (),
    *,
    needs_words: bool = False,
) -> tuple[Alternative, ...]:
    """The other models of a model's tool, those that can be used now first, then by rank; at most `MAX_ALTERNATIVES`.

    Args:
        catalog: every model there is.
        manifest: the model that was chosen.
        is_usable: whether a provider can be used, by its name.
        price_text: what a model costs by a route.
        kinds: the kinds of prompt that were given, which the others must take together; None: nothing was asked yet, so
            one kind that both take is enough.
        media: the tool's arguments for media that were given, which the others must take too.
        needs_words: whether nothing but the prompt says what an edit is to change.
    """

    def can_stand_in(other: Manifest) -> bool:
        takes = {field.argument for route in other.routes for field in other.at(route).inputs.values()}
        is_other = other.tool == manifest.tool and other.id != manifest.id
        is_known = other.edits_by_words or not needs_words
        return is_other and is_known and _takes_prompts(other, manifest, kinds) and set(media) <= takes

    found = [(one, *_best_route(one, is_usable)) for one in catalog.models.values() if can_stand_in(one)]
    found.sort(key=lambda one: (not one[2], one[0].rank, one[0].id))
    return tuple(
        Alternative(
            other.id,
            price_text(other.at(route), catalog.providers[route.provider]),
            "" if is_ready else catalog.providers[route.provider].setup_variables,
        )
        for other, route, is_ready in found[:MAX_ALTERNATIVES]
    )


def describe_alternatives(alternatives: Sequence[Alternative]) -> str:
    """Some alternatives as one sentence; empty where there are none."""
    shown = [f"{one.model} ({one.price}{f'; needs {one.needs}' if one.needs else ''})" for one in alternatives]
    return f"Other models that take this, with the price of a usual run: {', '.join(shown)}." if shown else ""


def _takes_prompts(other: Manifest, manifest: Manifest, kinds: frozenset[PromptKind] | None) -> bool:
    if kinds is not None:
        return can_take_prompts(other, kinds)
    return not manifest.prompts or any(can_take_prompts(other, frozenset({kind})) for kind in manifest.prompts)


def _best_route(manifest: Manifest, is_usable: Callable[[str], bool]) -> tuple[Route, bool]:
    """The route that a request would take now, else the first; and whether it can be used."""
    ready = next((route for route in manifest.routes if is_usable(route.provider)), None)
    return (manifest.routes[0], False) if ready is None else (ready, True)
