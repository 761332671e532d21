"""A picture's superpixels, merged pair by pair into one tree.

OpenCV's headless build has no SLIC, so superpixels are watershed basins that grow from a seed grid. The merge
cost is Ward's (colour distance, weighted by size) times the strength of the edge between the two: areas of one
colour merge early, and a part that is bounded by strong edges late.
"""

import heapq
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, Labels, Mask, Plane, to_lab

__all__ = ["RegionTree", "build_region_tree", "label_superpixels"]

_STEP = 11
"""Pixels between two seeds: about 600 superpixels in a picture of 320x240."""

_EDGE_SCALE = 12.0
"""Edge strength (Lab units) that doubles the cost of a merge."""


def label_superpixels(frame: Frame, step: int = _STEP) -> Labels:
    """Small areas of one colour, numbered from 0; about one for every `step` x `step` pixels."""
    height, width = frame.shape[:2]
    markers = np.zeros((height, width), np.int32)
    rows = np.arange(min(step // 2, height - 1), height, step)
    columns = np.arange(min(step // 2, width - 1), width, step)
    edges = _edge_strength(frame)
    number = 0
    for row in rows:
        for column in columns:
            number += 1
            markers[_weakest_edge_near(edges, int(row), int(column), step // 3)] = number
    cv2.watershed(np.ascontiguousarray(frame), markers)
    return (
        np.unique(_fill_watershed_lines(markers, frame), return_inverse=True)[1].reshape(height, width).astype(np.int32)
    )


def _edge_strength(frame: Frame) -> Plane:
    """Edge strength at every pixel, of the channel that changes most: a step of 1 Lab unit counts about 1."""
    smooth = cv2.GaussianBlur(to_lab(frame), (0, 0), 1.0)
    steps = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.asarray(steps.max(axis=2) / 4, dtype=np.float32)


def _weakest_edge_near(edges: Plane, row: int, column: int, reach: int) -> tuple[int, int]:
    """Row and column of the weakest edge near a seed: a seed on an edge would belong to both sides."""
    top, left = max(0, row - reach), max(0, column - reach)
    patch = edges[top : row + reach + 1, left : column + reach + 1]
    y, x = np.unravel_index(int(patch.argmin()), patch.shape)
    return top + int(y), left + int(x)


def _fill_watershed_lines(markers: Labels, frame: Frame) -> Labels:
    """Watershed marks lines between basins, and the rim, as -1; each such pixel joins the most alike neighbour."""
    if not (markers > 0).any():
        return np.ones_like(markers)
    labels = markers.copy()
    colours = np.pad(frame.astype(np.int32), ((1, 1), (1, 1), (0, 0)))
    while (lines := labels < 1).any():
        rows, columns = np.nonzero(lines)
        around = np.pad(labels, 1)
        places = [(rows + 1 + down, columns + 1 + across) for down, across in ((0, -1), (-1, 0), (0, 1), (1, 0))]
        names = np.stack([around[place] for place in places])
        apart = np.stack([np.abs(colours[place] - frame[rows, columns]).sum(axis=1) for place in places])
        apart[names < 1] = np.iinfo(np.int32).max
        likest = np.maximum(names[apart.argmin(axis=0), np.arange(len(rows))], 0)
        labels[rows, columns] = likest
    return labels


@dataclass(slots=True)
class RegionTree:
    """Leaves are superpixels; every later node is the union of two earlier ones, the last one the whole picture.

    Attributes:
        labels: the leaf of every pixel.
        sizes: pixels of every node.
        colours: mean Lab colour of every node.
        costs: what the merge that made a node cost; 0 for leaves; never falling from child to parent.
        parents: the node that a node was merged into; -1 for the root.
        neighbours: of every leaf, the leaves that touch it, and the strength of the edge between them.
    """

    labels: Labels
    sizes: list[float]
    colours: list[NDArray[np.float64]]
    neighbours: list[dict[int, float]]
    costs: list[float] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    @property
    def leaves(self) -> int:
        return len(self.neighbours)

    def members(self, cut: list[int]) -> NDArray[np.int32]:
        """For every leaf, the place in `cut` of the node that it lies under; -1 under none."""
        under = np.full(len(self.parents), -1, np.int32)
        under[cut] = np.arange(len(cut))
        for node in range(len(self.parents) - 1, -1, -1):
            if under[node] < 0 and self.parents[node] >= 0:
                under[node] = under[self.parents[node]]
        return under[: self.leaves]

    def mask(self, node: int) -> Mask:
        """The pixels of one node."""
        leaves: Mask = self.members([node]) == 0
        return np.asarray(leaves[self.labels])

    def nodes_at(self, count: int) -> list[int]:
        """The `count` nodes that are left when merging stops there."""
        last = max(len(self.parents) - count + 1, self.leaves)
        return [node for node in range(last) if self.parents[node] >= last or self.parents[node] < 0]

    def ancestors(self, leaf: int) -> list[int]:
        """A leaf and everything that it became part of, up to the root."""
        nodes = [leaf]
        while self.parents[nodes[-1]] >= 0:
            nodes.append(self.parents[nodes[-1]])
        return nodes


def build_region_tree(frame: Frame, step: int = _STEP) -> RegionTree:
    """The merge tree of a picture; meant for pictures of a few hundred pixels a side."""
    labels = label_superpixels(frame, step)
    count = int(labels.max()) + 1
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=count).astype(np.float64)
    colour = to_lab(frame).reshape(-1, 3)
    sums = np.stack([np.bincount(flat, colour[:, channel], count) for channel in range(3)], axis=1)
    means = sums / np.maximum(sizes, 1)[:, None]
    tree = RegionTree(labels, sizes.tolist(), list(means), _neighbour_edges(labels, _edge_strength(frame), count))
    tree.costs, tree.parents = [0.0] * count, [-1] * count
    _merge_all(tree)
    return tree


def _neighbour_edges(labels: Labels, edges: Plane, count: int) -> list[dict[int, float]]:
    """For every superpixel, those that touch it, with the mean strength of the edge along their border."""
    across = [(labels[:, :-1], labels[:, 1:], np.maximum(edges[:, :-1], edges[:, 1:]))]
    across.append((labels[:-1], labels[1:], np.maximum(edges[:-1], edges[1:])))
    pairs = np.concatenate([(np.minimum(a, b) * np.int64(count) + np.maximum(a, b))[a != b] for a, b, _ in across])
    strengths = np.concatenate([edge[a != b] for a, b, edge in across])
    keys, places = np.unique(pairs, return_inverse=True)
    means = np.bincount(places, strengths) / np.bincount(places)
    neighbours: list[dict[int, float]] = [{} for _ in range(count)]
    for key, strength in zip(keys.tolist(), means.tolist(), strict=True):
        one, other = divmod(key, count)
        neighbours[one][other] = neighbours[other][one] = strength
    return neighbours


def _merge_all(tree: RegionTree) -> None:
    """Merge the cheapest pair until one node is left, in place; pairs in the heap with a merged node are skipped."""
    borders = [dict(row) for row in tree.neighbours]
    heap = [(_merge_cost(tree, a, b, edge), a, b) for a, row in enumerate(borders) for b, edge in row.items() if a < b]
    heapq.heapify(heap)
    while heap:
        cost, one, other = heapq.heappop(heap)
        if tree.parents[one] >= 0 or tree.parents[other] >= 0:
            continue
        node = _merge_pair(tree, borders, one, other, cost)
        for neighbour, edge in borders[node].items():
            heapq.heappush(heap, (_merge_cost(tree, neighbour, node, edge), neighbour, node))


def _merge_cost(tree: RegionTree, one: int, other: int, edge: float) -> float:
    """Ward's cost of joining two nodes, made higher by the strength of the edge between them."""
    size, more = tree.sizes[one], tree.sizes[other]
    apart = float(np.linalg.norm(tree.colours[one] - tree.colours[other]))
    return float((size * more / (size + more)) ** 0.5 * (apart + 1) * (1 + edge / _EDGE_SCALE))


def _merge_pair(tree: RegionTree, borders: list[dict[int, float]], one: int, other: int, cost: float) -> int:
    """Add the union of two nodes to the tree; its number. Edges that both have with a neighbour are averaged."""
    node = len(tree.parents)
    size, more = tree.sizes[one], tree.sizes[other]
    tree.sizes.append(size + more)
    tree.colours.append((tree.colours[one] * size + tree.colours[other] * more) / (size + more))
    tree.costs.append(max(cost, tree.costs[one], tree.costs[other]))
    tree.parents.append(-1)
    tree.parents[one] = tree.parents[other] = node
    around: dict[int, float] = {}
    for child in (one, other):
        for neighbour, edge in borders[child].items():
            if neighbour not in (one, other):
                around[neighbour] = (around[neighbour] + edge) / 2 if neighbour in around else edge
                borders[neighbour].pop(child, None)
    for neighbour, edge in around.items():
        borders[neighbour][node] = edge
    borders.append(around)
    return node
