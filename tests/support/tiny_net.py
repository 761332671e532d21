"""Object nets of a few numbers, so that no test but those of the real one needs its weights.

`redness_net` finds what is red; `blocks_net` does so as well and has as many sums as a U-2-Net, which give features;
`undersized_net` answers with a size that no object net has. `ShownNet` is a net in Python: a function of the picture
that it is shown, which it remembers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rotoscope_sandbox.vision.object_net import CROP_SIDE, ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Plane

__all__ = ["ShownNet", "blocks_net", "redness_net", "undersized_net"]

_SIDE = 320


def redness_net(path: Path, weights: Sequence[float] = (1.0, -0.5, -0.5)) -> Path:
    """One 1x1 convolution: weights of red, green and blue."""
    return _write(path, weights, (1, 1, _SIDE, _SIDE), kernel=1)


def undersized_net(path: Path) -> Path:
    """Its answer is two pixels smaller than the picture."""
    return _write(path, (1.0, 0.0, 0.0), (1, 1, _SIDE - 2, _SIDE - 2), kernel=3)


def blocks_net(path: Path, blocks: int = 11) -> Path:
    """Half the picture's side, 8 mixtures of its colours, in each block added to mixtures of them."""
    chance, channels = np.random.default_rng(5), 8
    shapes = {"first": (channels, 3, 3, 3)} | {f"mix{n}": (channels, channels, 1, 1) for n in range(blocks)}
    held = {name: chance.normal(0, shape[1] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    held["red"] = np.array([1.0, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["picture", "first"], ["sum0"], strides=[2, 2], pads=[1, 1, 1, 1])]
    for n in range(blocks):
        mixed = helper.make_node("Conv", [f"sum{n}", f"mix{n}"], [f"mixed{n}"])
        rectified = helper.make_node("Relu", [f"mixed{n}"], [f"relu{n}"])
        nodes += [mixed, rectified, helper.make_node("Add", [f"relu{n}", f"sum{n}"], [f"sum{n + 1}"])]
    nodes.append(helper.make_node("Conv", ["picture", "red"], ["found"]))
    weights = [numpy_helper.from_array(numbers, name) for name, numbers in held.items()]
    return _save(path, nodes, weights, (1, 1, _SIDE, _SIDE))


def _write(path: Path, weights: Sequence[float], shape: Sequence[int], kernel: int) -> Path:
    numbers = np.repeat(np.array(weights, np.float32), kernel * kernel).reshape(1, 3, kernel, kernel)
    node = helper.make_node("Conv", ["picture", "weights"], ["found"])
    return _save(path, [node], [numpy_helper.from_array(numbers, "weights")], shape)


def _save(
    path: Path, nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], shape: Sequence[int]
) -> Path:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, list(shape))
    graph = helper.make_graph(list(nodes), "tiny", [picture], [found], list(weights))
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
