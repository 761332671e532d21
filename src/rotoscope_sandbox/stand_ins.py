"""Files that stand in for those at addresses which the sandbox cannot reach: it has no network.

Snippets of the providers' documents name pictures and films of their own. So that they can be run, a picture, film,
mask or sound of the sandbox (`assets`) takes the place of each, by what the address and the field say that it is, and
the result's log and notice have it. It is asked for (`build_sandbox(stand_ins=True)`): else such an address is an
error, as it is for a provider that cannot fetch it.
"""

import re
from pathlib import Path

__all__ = ["find_stand_in", "is_reachable_elsewhere"]

_ADDRESS = re.compile(r"https?://(?!sandbox\.invalid)[^/\s]+\.[a-z]{2,}(?::\d+)?/\S*", re.IGNORECASE)
_FILM = re.compile(r"\.(mp4|mov|webm|m4v)(\?|#|$)", re.IGNORECASE)
_SOUND = re.compile(r"\.(wav|mp3|m4a|aac|ogg)(\?|#|$)", re.IGNORECASE)
_ASSETS = Path(__file__).parent / "assets"


def is_reachable_elsewhere(reference: str) -> bool:
    """Whether it is an address that a program with a network might read."""
    return _ADDRESS.fullmatch(reference) is not None


def find_stand_in(field_name: str, reference: str) -> Path:
    """The file in the place of what an address names; to be read only.

    Args:
        field_name: the input; one with "mask" in its name gets a mask.
        reference: the address; its ending decides whether it is a film or a sound.
    """
    is_mask = "mask" in field_name
    if _FILM.search(reference):
        return _ASSETS / ("mask.mp4" if is_mask else "film.mp4")
    if _SOUND.search(reference):
        return _ASSETS / "sound.wav"
    return _ASSETS / ("mask.png" if is_mask else "photo.jpg")
