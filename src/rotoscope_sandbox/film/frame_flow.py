"""Dense optical flow from each frame to the one before it, and what it carries, at a working size."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, Plane

__all__ = ["FLOW_SIDE", "FlowStep", "FrameFlow"]

FLOW_SIDE = 480
"""Longer side in pixels of the working size, or the frame's own if that is less."""

_LEAST_SIDE = 32
"""Least side of the working size: with less, the flow of OpenCV 5.0 ends the process."""

_SAME_PLACE, _SAME_PLACE_SHARE = 1.5, 0.1
"""Distance from a pixel to where there and back leads, in pixels and more as a share of the way, at which it is half
sure that both frames show the same place.
"""

_TRUST_BLUR = 2.0
"""Sigma in pixels by which that is smoothed."""


@dataclass(frozen=True, slots=True)
class FlowStep:
    """From every pixel of a frame to where it was in the one before.

    Attributes:
        back: how far, height x width x 2 in pixels.
        x, y: where.
    """

    back: Plane
    x: Plane
    y: Plane

    def carry(self, plane: Plane) -> Plane:
        """A plane of the frame before, or several channels of it, as this frame shows it."""
        carried = cv2.remap(plane, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(carried, np.float32)


class FrameFlow:
    """The flow through a clip, frame by frame.

    Args:
        frame: the first one, RGB.

    Attributes:
        size: the working size, width and height.
        scale: working pixels to one of the frame, across and down.
    """

    def __init__(self, frame: Frame) -> None:
        height, width = frame.shape[:2]
        shrink = min(1.0, FLOW_SIDE / max(height, width))
        self.size = max(_LEAST_SIDE, round(width * shrink)), max(_LEAST_SIDE, round(height * shrink))
        self.scale = self.size[0] / width, self.size[1] / height
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        columns, rows = np.meshgrid(np.arange(self.size[0]), np.arange(self.size[1]))
        self._x, self._y = columns.astype(np.float32), rows.astype(np.float32)
        self._grey = self._before = _to_grey(self.shrink(frame))

    def shrink(self, frame: Frame) -> Frame:
        """The frame at the working size."""
        return np.asarray(cv2.resize(np.ascontiguousarray(frame), self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def advance(self, small: Frame) -> FlowStep:
        """Go on to the next frame, at the working size."""
        self._before, self._grey = self._grey, _to_grey(small)
        back = self._between(self._grey, self._before)
        return FlowStep(back, self._x + back[..., 0], self._y + back[..., 1])

    def trust(self, step: FlowStep) -> Plane:
        """How far the last step leads to the same place, 0 to 1, from the way there and back.

        Low where something comes into sight, which the frame before does not show, or flow is lost.
        """
        error = step.back + step.carry(self._between(self._before, self._grey))
        bound = _SAME_PLACE + _SAME_PLACE_SHARE * np.linalg.norm(step.back, axis=2)
        trust = 1 / (1 + (np.linalg.norm(error, axis=2) / bound) ** 2)
        return np.asarray(cv2.GaussianBlur(trust.astype(np.float32), (0, 0), _TRUST_BLUR), np.float32)

    def _between(self, start: NDArray[np.uint8], end: NDArray[np.uint8]) -> Plane:
        flow = self._dis.calc(start, end, None)  # type: ignore[call-overload]  # None: no first guess
        return np.asarray(flow, np.float32)


def _to_grey(small: Frame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
