"""Which of a model's routes a request takes: one that takes it whole, and of those the cheapest. Pure."""

import math
from collections.abc import Mapping, Sequence

from rotoscope.errors import InvalidInput
from rotoscope.models.manifest import Manifest, Route
from rotoscope.models.options import OPTIONS_ARGUMENT, apply_options
from rotoscope.models.plan import plan_call
from rotoscope.models.provider import Provider
from rotoscope.models.request_key import trim_arguments
from rotoscope.providers.http.messages import Json

__all__ = ["rank_routes"]

# Arguments that no provider gets; options that none takes are refused.
_NOT_SENT = ("overlay", "keep_outside", OPTIONS_ARGUMENT)


def rank_routes(
    manifest: Manifest,
    routes: Sequence[Route],
    arguments: Mapping[str, Json],
    providers: Mapping[str, Provider],
) -> tuple[Route, ...]:
    """The routes, the best one for a request first.

    A route that would leave an argument out, such as a seed, comes after those that take all of them, also after one
    that refuses its value: the caller should hear of that. Then one that refuses the request comes last. Of equal ones
    the cheapest is first; an unknown price is the dearest, and what the manifest names first wins where prices are
    equal. Prices are those of the manifest, so equal requests take equal routes.

    Args:
        manifest: the model.
        routes: those of its routes that can be used.
        arguments: as the tool was called, media as they were given.
        providers: the providers by name.
    """
    if len(routes) == 1:
        return tuple(routes)

    def rank(route: Route) -> tuple[int, bool, float]:
        view = manifest.at(route)
        omitted = _count_omitted(view, arguments)
        try:
            fillable, values = apply_options(view, trim_arguments(view, arguments))
            plan = plan_call(fillable, route, values, lambda: 0, provider=providers[route.provider], priced_as=view)
        except InvalidInput:
            return omitted, True, math.inf
        usd = plan.estimate.typical_usd
        return omitted, False, math.inf if usd is None else usd

    return tuple(sorted(routes, key=rank))


def _count_omitted(view: Manifest, arguments: Mapping[str, Json]) -> int:
    """How many of the given arguments no input of the model takes."""
    taken = {field.argument for field in view.inputs.values()}
    given = (name for name, value in arguments.items() if value not in (None, "", [], {}) and name not in _NOT_SENT)
    return sum(name not in taken for name in given)
