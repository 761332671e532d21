"""Prices of the operator's own, such as what a reseller charges: `prices.toml` beside the operator's manifests."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rotoscope.errors import InvalidInput
from rotoscope.models.manifest import Manifest
from rotoscope.models.price import Price
from rotoscope.models.toml_facts import parse_toml, validate_facts

__all__ = ["apply_own_prices"]


class _Prices(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prices: dict[str, Price]


def apply_own_prices(file: Path, models: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The models whose price a file tells, by `MODEL@PROVIDER`, with that price on that route.

    Raises:
        InvalidInput: it cannot be read, a fact in it is wrong, or it names no route or no input of one.
    """
    changed: dict[str, Manifest] = {}
    for key, price in validate_facts(_Prices, {"prices": parse_toml(file)}, file).prices.items():
        name, _, provider = key.rpartition("@")
        manifest = changed.get(name) or models.get(name)
        if manifest is None or provider not in {route.provider for route in manifest.routes}:
            known = ", ".join(sorted(f"{one.id}@{route.provider}" for one in models.values() for route in one.routes))
            raise InvalidInput(f"{file.name}: there is no route {key[:200]!r}.", hint=f"Routes: {known}.")
        routes = [
            {**route.model_dump(exclude_unset=True), "price": price} if route.provider == provider else route
            for route in manifest.routes
        ]
        facts = manifest.model_dump(exclude_unset=True) | {"routes": routes}
        changed[name] = validate_facts(Manifest, facts, file)
    return changed
