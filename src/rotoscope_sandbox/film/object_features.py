"""What is known of each part of a crop: the object net's features, and colours."""

from dataclasses import dataclass

import cv2
import numpy as np

from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, PixelBox, Plane, box_slices

__all__ = ["GRID_SIDE", "VIEW_SIDE", "CropView", "Window", "view_crop"]

VIEW_SIDE = 192
"""Side in pixels at which the net is shown a crop: at 224 a pass takes 1.4 times as long."""

GRID_SIDE = VIEW_SIDE // 4
"""Cells of the grid of features, across and down."""

_COLOUR_SCALE, _COLOUR_MIDDLE = 64.0, 2.0
"""By which and from which L*a*b* colours of 0 to 255 are brought to the size of the features."""

_CONSTANT = 2.0
"""The last feature, the same everywhere."""


@dataclass(frozen=True, slots=True)
class Window:
    """A box of the frame, between three planes: the frame, the working plane of the whole frame, and the crop's view.

    Attributes:
        box: in pixels of the frame.
        scale: working pixels to one of the frame, across and down.
    """

    box: PixelBox
    scale: tuple[float, float]

    @property
    def _to_working(self) -> Plane:
        """From pixels of the view to working pixels, as an affine matrix; the middles of pixels are whole numbers."""
        (across, down), box = self.scale, self.box
        wide, high = across * box.width / VIEW_SIDE, down * box.height / VIEW_SIDE
        left, top = across * box.left + (wide - 1) / 2, down * box.top + (high - 1) / 2
        return np.array([[wide, 0, left], [0, high, top]], np.float32)

    def cut(self, working: Plane) -> Plane:
        """A working plane as the view shows it."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = VIEW_SIDE, VIEW_SIDE
        cut = cv2.warpAffine(working, self._to_working, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cut, np.float32)

    def paste(self, view: Plane, shape: tuple[int, ...]) -> Plane:
        """A plane of the view as a working plane of (height, width), 0 outside of the box."""
        return np.asarray(cv2.warpAffine(view, self._to_working, shape[1::-1], flags=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True, slots=True)
class CropView:
    """What is seen in a window.

    Attributes:
        window: where it is.
        picture: the crop at the view's size, RGB.
        salient: how probably each pixel of the view belongs to the most salient object, 0 to 1.
        features: a row for every cell of the grid.
    """

    window: Window
    picture: Frame
    salient: Plane
    features: Plane


def view_crop(net: ObjectNet, frame: Frame, window: Window) -> CropView:
    """Show the net a window of the frame."""
    seen = net.view(np.ascontiguousarray(frame[box_slices(window.box)]), VIEW_SIDE)
    planes = [_normalise(_fit_to_grid(plane)) for plane in seen.features]
    lab = cv2.cvtColor(_fit_to_grid(seen.picture), cv2.COLOR_RGB2LAB).astype(np.float32)
    colours = lab / np.float32(_COLOUR_SCALE) - np.float32(_COLOUR_MIDDLE)
    constant = np.full((GRID_SIDE, GRID_SIDE, 1), _CONSTANT, np.float32)
    # With squares and products a linear rule can mark off a range of colours.
    products = colours * colours[..., [1, 2, 0]]
    stacked = np.concatenate([*planes, colours, colours * colours, products, constant], axis=2)
    return CropView(window, seen.picture, seen.salient, stacked.reshape(GRID_SIDE * GRID_SIDE, -1))


def _fit_to_grid(plane: Plane | Frame) -> Plane:
    shrinks = plane.shape[0] > GRID_SIDE
    size = GRID_SIDE, GRID_SIDE
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _normalise(plane: Plane) -> Plane:
    """To a mean square of 1, so that no depth of the net outweighs another."""
    return plane / np.float32(np.sqrt(float(np.mean(plane * plane))) + 1e-6)
