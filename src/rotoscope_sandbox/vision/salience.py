"""The most salient region of a picture, by colours and places alone.

Background is what reaches the border of the picture without crossing an edge (geodesic salience); the middle
counts a little more than the sides. No text plays any part in it.
"""

import heapq

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.grabcut import resize_mask
from rotoscope_sandbox.vision.pixels import Frame, Mask, largest_components, shrink_to_side
from rotoscope_sandbox.vision.region_merge import RegionTree, build_region_tree
from rotoscope_sandbox.vision.segmentation import Segmentation, segment_rough_mask

__all__ = ["most_salient_region"]

_SIDE = 320
"""Longer side in pixels at which salience is computed."""

_SHADING = 4.0
"""Lab distance between neighbours up to which a change of colour is shading, and costs nothing to cross."""

_MIDDLE_SPREAD = 0.3
"""Sigma of the weight around the middle, as a share of the picture's sides."""

_MOST_CONFIDENCE = 0.25
"""Nobody asked for this region: its confidence is never higher."""


def most_salient_region(frame: Frame) -> Segmentation:
    """The region that stands out most; its confidence is at most 0.25."""
    small, _ = shrink_to_side(frame, _SIDE)
    tree = build_region_tree(small)
    scores = _salience_scores(tree)
    likely = largest_components(_above_otsu_threshold(scores)[tree.labels], share=0.5)
    rough = resize_mask(likely, frame.shape[:2])
    found = segment_rough_mask(frame, rough)
    return Segmentation(found.mask, "salience, then grabcut", round(min(_MOST_CONFIDENCE, found.confidence / 3), 2))


def _salience_scores(tree: RegionTree) -> NDArray[np.float64]:
    """0 to 1 for every superpixel: distance from the border in Lab units, times how central it lies."""
    count = tree.leaves
    far = _distance_from_border(tree)
    height, width = tree.labels.shape
    rows, columns = np.mgrid[0:height, 0:width]
    sizes = np.asarray(tree.sizes[:count])
    y = np.bincount(tree.labels.ravel(), rows.ravel(), count) / sizes / height - 0.5
    x = np.bincount(tree.labels.ravel(), columns.ravel(), count) / sizes / width - 0.5
    central = np.exp(-(x**2 + y**2) / (2 * _MIDDLE_SPREAD**2))
    scores: NDArray[np.float64] = far / max(float(far.max()), 1e-6) * central
    return scores


def _distance_from_border(tree: RegionTree) -> NDArray[np.float64]:
    """Cost of the cheapest path from every superpixel out of the picture (Dijkstra), in Lab units."""
    far = np.full(tree.leaves, np.inf)
    heap = [(cost, leaf) for leaf, cost in _border_costs(tree).items()]
    heapq.heapify(heap)
    while heap:
        cost, leaf = heapq.heappop(heap)
        if cost >= far[leaf]:
            continue
        far[leaf] = cost
        for other in tree.neighbours[leaf]:
            step = float(np.linalg.norm(tree.colours[leaf] - tree.colours[other]))
            heapq.heappush(heap, (cost + max(0.0, step - _SHADING), other))
    return far


def _border_costs(tree: RegionTree) -> dict[int, float]:
    """What it costs to leave the picture at each superpixel of its border."""
    labels = tree.labels
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    colours = np.stack([tree.colours[leaf] for leaf in edge])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    # A superpixel unlike most of the border is likely part of an object that the frame cuts off: leaving there costs.
    odd = np.median(apart, axis=1)
    return {int(leaf): float(max(0.0, cost - odd.min())) for leaf, cost in zip(edge, odd, strict=True)}


def _above_otsu_threshold(scores: NDArray[np.float64]) -> Mask:
    """Which scores are in the upper of two groups; never none."""
    levels = np.round(scores / max(float(scores.max()), 1e-6) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    chosen = levels > threshold
    return chosen if chosen.any() else np.asarray(levels == levels.max())
