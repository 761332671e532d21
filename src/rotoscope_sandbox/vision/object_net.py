"""The object net: how probably each pixel of a picture belongs to its most salient object.

It is the small U-2-Net (`u2netp`; Qin et al., "U^2-Net: Going Deeper with Nested U-Structure for Salient Object
Detection", 2020), an ONNX file that OpenCV computes. The file is not part of this package: see `weights`. What goes in
and out is prepared as for its training: a square, 320x320 pixels or smaller, divided by the largest value, less
ImageNet's mean, divided by ImageNet's deviation; the first output, stretched to 0 to 1.

A pass at 320 pixels takes 250 MB while it is computed, one at 224 pixels 130 MB and half the time. Of 13 objects whose
masks people made, most of them in clips, what fills a crop is found as well at 224 (mean intersection over union 0.82
and 0.82); what is anywhere in a whole picture is not (0.32 and 0.49), so that is shown at 320.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rotoscope_sandbox.vision.net_graph import add_outputs, feature_names
from rotoscope_sandbox.vision.pixels import Frame, Plane

__all__ = ["CROP_SIDE", "WHOLE_SIDE", "NetView", "ObjectNet", "UnusableWeights", "load_object_net"]

WHOLE_SIDE = 320
"""Side in pixels at which whole pictures are shown."""

CROP_SIDE = 224
"""Side in pixels at which crops are shown that an object fills."""

_TRIAL_SIDE = 64

_MOST_CHANNELS = 400
"""Channels of all features together with which they are used: the small net has 320. The large one has 1,664, for which
what learns from them would take seconds a frame.
"""

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_FOUND = 0.2
"""Spread of the net's answers from which it has found something: stretched, the noise of a plain picture (0.06) would
become an object. In photographs it is above 0.98.
"""

_MOST_BYTES = 256 * 1024 * 1024
"""The large U-2-Net, which fits as well, has 176 MB."""


class UnusableWeights(Exception):
    """A file holds no net that finds objects."""


@dataclass(frozen=True, slots=True)
class NetView:
    """What the net makes of a square picture.

    Attributes:
        picture: the square that it was shown, RGB.
        salient: how probably each pixel belongs to the most salient object, 0 to 1, not stretched.
        features: planes of channels (height x width x channels), of smaller sides than the picture.
    """

    picture: Frame
    salient: Plane
    features: tuple[Plane, ...]


class ObjectNet:
    """A net that is loaded. Threads may share it; they take turns, for each forward pass uses every processor.

    Args:
        net: what OpenCV has read.
        features: its outputs that hold features, if any.

    Attributes:
        has_features: whether `view` may be called.

    Raises:
        UnusableWeights: it does not answer a square picture with a plane of its size.
    """

    has_features = False

    def __init__(self, net: cv2.dnn.Net, features: Sequence[str] = ()) -> None:
        self._net = net
        self._turn = threading.Lock()
        self._features = tuple(features)
        try:
            self._output = net.getUnconnectedOutLayersNames()[0]
            shape = self._forward(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.float32)).shape
        except (cv2.error, IndexError) as problem:
            raise UnusableWeights("The net does not take square pictures.") from problem
        if shape != (_TRIAL_SIDE, _TRIAL_SIDE):
            raise UnusableWeights(f"The net answers {_TRIAL_SIDE}x{_TRIAL_SIDE} pixels with {shape} values.")
        self.has_features = self._gives_features()

    def find_object(self, frame: Frame, side: int = CROP_SIDE) -> Plane:
        """How probably each pixel belongs to the object, 0 to 1, at the picture's own size; 0 where nothing is.

        Args:
            frame: the picture, RGB.
            side: of the square, in pixels, at which the net is shown it.
        """
        _, prepared = _prepare(frame, side)
        found = self._forward(prepared)
        least, most = float(found.min()), float(found.max())
        stretched = (found - least) / (most - least) if most - least >= _FOUND else np.zeros_like(found)
        return np.asarray(cv2.resize(stretched, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def view(self, frame: Frame, side: int) -> NetView:
        """The picture as the net sees it, shown at that side in pixels; only where it has features."""
        picture, prepared = _prepare(frame, side)
        answers = self._forward_all(prepared)
        features = tuple(np.ascontiguousarray(answers[name][0].transpose(1, 2, 0)) for name in self._features)
        return NetView(picture, answers[self._output].reshape(side, side), features)

    def _gives_features(self) -> bool:
        """Whether the features are planes of channels, and few enough."""
        try:
            answers = self._forward_all(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.float32))
        except cv2.error:
            return False
        shapes = [answers[name].shape if name in answers else () for name in self._features]
        is_planes = all(len(shape) == 4 and shape[2] == shape[3] > 1 for shape in shapes)  # noqa: PLR2004 - NCHW
        return bool(shapes) and is_planes and sum(shape[1] for shape in shapes) <= _MOST_CHANNELS

    def _forward_all(self, picture: Plane) -> dict[str, Plane]:
        """All outputs by their names; NaN counts as 0."""
        names = self._net.getUnconnectedOutLayersNames()
        with self._turn:
            self._net.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
            answers = [np.nan_to_num(np.array(answer, np.float32)) for answer in self._net.forward(names)]
        return dict(zip(names, answers, strict=True))

    def _forward(self, picture: Plane) -> Plane:
        """The first output, as a plane; NaN, which a damaged file gives, counts as 0."""
        with self._turn:
            self._net.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
            answer = np.array(self._net.forward(self._output), np.float32)
        is_plane = answer.size == picture.shape[0] * picture.shape[1]
        return np.nan_to_num(answer.reshape(answer.shape[-2:] if is_plane else answer.shape))


def _prepare(frame: Frame, side: int) -> tuple[Frame, Plane]:
    """The square that the net is shown, and the values that it takes for it."""
    shrinks = max(frame.shape[:2]) > side
    small = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scaled = small.astype(np.float32) / np.float32(max(int(small.max()), 1))
    return np.asarray(small, np.uint8), (scaled - _MEAN) / _DEVIATION


def load_object_net(path: Path) -> ObjectNet:
    """The net in an ONNX file.

    Raises:
        UnusableWeights: it is too large, no ONNX file, or another kind of net.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise UnusableWeights("The file is larger than any net that is used here.")
    content = path.read_bytes()
    return _load_with_features(content) or ObjectNet(_read_net(content))


def _load_with_features(content: bytes) -> ObjectNet | None:
    """The net with its features as outputs, or None where it has none that can be used."""
    if not (names := feature_names(content)):
        return None
    try:
        net = ObjectNet(_read_net(add_outputs(content, names)), names)
    except UnusableWeights:
        return None
    return net if net.has_features else None


def _read_net(content: bytes) -> cv2.dnn.Net:
    """From memory: OpenCV opens no path that Windows writes in other letters than its own."""
    try:
        return cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    except cv2.error as problem:
        raise UnusableWeights("The file is no ONNX file that OpenCV can read.") from problem
