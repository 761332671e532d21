"""How much of an edit is compared and laid back at most."""

__all__ = ["LARGEST_LAYING_BACK", "MAX_FRAMES"]

MAX_FRAMES = 2_000
"""Frames of either film that are decoded at most; none after these is compared."""

LARGEST_LAYING_BACK = 1_200_000_000
"""Pixels of all frames of a film that is laid back at most: 144 frames of 4K, and two minutes of work."""
