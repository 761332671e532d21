"""How a file of ours reaches a provider: uploaded, inside the request, or not at all. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.models.manifest import Provider, Route

__all__ = ["Carrier", "first_that_carries", "largest_carrier", "refusal"]

_HINT = "Give a smaller file, or a public https URL."


def refusal(provider: Provider, size: int) -> TooLarge | None:
    """Why a file of `size` bytes cannot be brought to a provider; None when it can."""
    if provider.can_upload:
        most = provider.upload_bytes
        if most is None or size <= most:
            return None
        return TooLarge(
            f"{provider.title} takes files of up to {most / 1e6:g} MB, and this one has {size / 1e6:.1f} MB.",
            hint=_HINT,
        )
    if size <= provider.inline_bytes:
        return None
    return TooLarge(
        f"{provider.title} takes no uploads, and this file has {size / 1000:.0f} kB; "
        f"at most {provider.inline_bytes / 1000:.0f} kB travel inside a request.",
        hint=_HINT,
    )


@dataclass(frozen=True, slots=True)
class Carrier:
    """The provider that takes the largest files, by its title, and how many bytes these have at most."""

    title: str
    most_bytes: int


def largest_carrier(routes: Sequence[Route], providers: Mapping[str, Provider]) -> Carrier | None:
    """Whoever takes the largest files, of the routes to a model; None where one has no limit that is known."""
    found: Carrier | None = None
    for provider in (providers[route.provider] for route in routes):
        most = provider.upload_bytes if provider.can_upload else provider.inline_bytes
        if most is None:
            return None
        if found is None or most > found.most_bytes:
            found = Carrier(provider.title, most)
    return found


def first_that_carries(routes: Sequence[Route], providers: Mapping[str, Provider], sizes: Iterable[int]) -> Route:
    """The first route whose provider takes every file.

    Raises:
        TooLarge: none does; says why the first does not.
    """
    largest = max(sizes, default=0)
    for route in routes:
        if refusal(providers[route.provider], largest) is None:
            return route
    refused = refusal(providers[routes[0].provider], largest)
    assert refused is not None
    raise refused
