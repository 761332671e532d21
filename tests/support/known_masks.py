"""The sandbox's cuts by colours, each computed once in a process: many tests send the same picture and box."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["remember_cuts"]

Cut = Callable[[Frame, NDArray[np.uint8], int], Mask]


def remember_cuts(cut: Cut) -> Cut:
    """The same function, which computes what it was given before only once; its results are equal for equal input."""
    known: dict[bytes, Mask] = {}

    def cut_or_remember(frame: Frame, marks: NDArray[np.uint8], rounds: int) -> Mask:
        given = hashlib.sha256(f"{frame.shape} {marks.shape} {rounds}".encode())
        given.update(np.ascontiguousarray(frame).tobytes())
        given.update(np.ascontiguousarray(marks).tobytes())
        key = given.digest()
        if key not in known:
            known[key] = cut(frame, marks, rounds)
        return known[key].copy()

    return cut_or_remember
