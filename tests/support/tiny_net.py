"""Object nets of a few numbers, so that no test but those of the real one needs its weights.

`redness_net` finds what is red, and `undersized_net` answers with a size that no object net has. `ShownNet` is a net in
Python: a function of the picture that it is shown, which it remembers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rotoscope_sandbox.vision.object_net import CROP_SIDE, ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Plane

__all__ = ["ShownNet", "redness_net", "undersized_net"]

_SIDE = 320


def redness_net(path: Path, weights: Sequence[float] = (1.0, -0.5, -0.5)) -> Path:
    """One 1x1 convolution: weights of red, green and blue."""
    return _write(path, weights, (1, 1, _SIDE, _SIDE), kernel=1)


def undersized_net(path: Path) -> Path:
    """Its answer is two pixels smaller than the picture."""
    return _write(path, (1.0, 0.0, 0.0), (1, 1, _SIDE - 2, _SIDE - 2), kernel=3)


def _write(path: Path, weights: Sequence[float], shape: Sequence[int], kernel: int) -> Path:
    numbers = np.repeat(np.array(weights, np.float32), kernel * kernel).reshape(1, 3, kernel, kernel)
    node = helper.make_node("Conv", ["picture", "weights"], ["found"])
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, list(shape))
    graph = helper.make_graph([node], "tiny", [picture], [found], [numpy_helper.from_array(numbers, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


class ShownNet(ObjectNet):
    """A net whose answer is a function of the picture; `shown` holds the sizes (width, height) of what it was shown."""

    def __init__(self, answer: Callable[[Frame], NDArray[np.bool_]]) -> None:
        self._answer = answer
        self.shown: list[tuple[int, int]] = []

    def find_object(self, frame: Frame, side: int = CROP_SIDE) -> Plane:
        self.shown.append((frame.shape[1], frame.shape[0]))
        return self._answer(frame).astype(np.float32)
