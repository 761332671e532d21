"""Every way to every model as rows of a table: for `rotoscope models` and the README. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotoscope.models.alternatives import PriceText
from rotoscope.models.catalog import Access, Catalog
from rotoscope.models.descriptions import describe_prompts

__all__ = ["ModelRow", "group_by_model", "list_model_rows"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One way to one model.

    Attributes:
        tool: the tool that it serves.
        model: its id.
        takes: the kinds of prompt that it takes, or its media.
        provider: the provider's name in `providers.toml`, as in MODEL@PROVIDER.
        title: the provider's name for people.
        price: what a typical run costs, as text.
        typical_seconds: how long a typical run works.
        key: `yes` where it is set, `sandbox`, or which variables must be set.
    """

    tool: str
    model: str
    takes: str
    provider: str
    title: str
    price: str
    typical_seconds: float
    key: str


def list_model_rows(catalog: Catalog, price_text: PriceText, access: Access | None = None) -> tuple[ModelRow, ...]:
    """A row for every route of every model: by tool, then the order in which models are chosen, then best route first.

    Args:
        catalog: the models and providers.
        price_text: what a model costs by a route.
        access: which keys are set; None: nobody's, as on a page.
    """
    ranked = sorted(catalog.models.values(), key=lambda one: (one.tool, one.rank, one.id))
    return tuple(
        ModelRow(
            tool=manifest.tool,
            model=manifest.id,
            takes=describe_prompts(manifest.at(route)),
            provider=route.provider,
            title=catalog.providers[route.provider].title,
            price=price_text(manifest.at(route), catalog.providers[route.provider]),
            typical_seconds=manifest.at(route).timing.typical_seconds,
            key=_key_state(catalog, access, route.provider),
        )
        for manifest in ranked
        for route in manifest.routes
    )


def group_by_model(rows: Sequence[ModelRow]) -> Mapping[str, Sequence[ModelRow]]:
    """The rows of each model, in their order."""
    grouped: dict[str, list[ModelRow]] = {}
    for row in rows:
        grouped.setdefault(row.model, []).append(row)
    return grouped


def _key_state(catalog: Catalog, access: Access | None, provider: str) -> str:
    if access is not None and access.sandbox:
        return "sandbox"
    if access is not None and access.is_usable(provider):
        return "yes"
    return f"no: set {catalog.providers[provider].setup_variables}"
