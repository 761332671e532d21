"""Reads COCO run lengths with pycocotools, as users of the files will."""

import warnings

import numpy as np
from numpy.typing import NDArray


def mask_of_rle(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """The mask of a compressed string of run lengths."""
    with warnings.catch_warnings():
        # The library calls numpy in the way of numpy 1.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        from pycocotools import mask as reader

        return np.asarray(reader.decode({"size": [height, width], "counts": counts.encode()}), np.bool_)
