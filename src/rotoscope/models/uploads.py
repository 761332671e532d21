"""How a file of ours reaches a provider: uploaded, inside the request, or not at all. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.models.manifest import Route
from rotoscope.models.provider import Provider

__all__ = ["UploadLimit", "file_size_error", "first_route_for_sizes", "largest_upload_limit"]

_HINT = "Give a smaller file, or a public https URL."


def file_size_error(provider: Provider, size: int) -> TooLarge | None:
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
class UploadLimit:
    """The provider that takes the largest files, by its title, and how many bytes these have at most."""

    title: str
    max_bytes: int


def largest_upload_limit(routes: Sequence[Route], providers: Mapping[str, Provider]) -> UploadLimit | None:
    """Whoever takes the largest files, of the routes to a model; None where one has no limit that is known."""
    found: UploadLimit | None = None
    for provider in (providers[route.provider] for route in routes):
        most = provider.upload_bytes if provider.can_upload else provider.inline_bytes
        if most is None:
            return None
        if found is None or most > found.max_bytes:
            found = UploadLimit(provider.title, most)
    return found


def first_route_for_sizes(routes: Sequence[Route], providers: Mapping[str, Provider], sizes: Iterable[int]) -> Route:
    """The first route whose provider takes every file.

    Raises:
        TooLarge: none does; says why the first does not.
    """
    largest = max(sizes, default=0)
    for route in routes:
        if file_size_error(providers[route.provider], largest) is None:
            return route
    refused = file_size_error(providers[routes[0].provider], largest)
    assert refused is not None
    raise refused
