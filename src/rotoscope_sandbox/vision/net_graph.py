"""The graph in an ONNX file: which of a U-2-Net's inner values hold features, and how to make them outputs as well.

OpenCV gives only what a file calls an output. A file is a message of Protocol Buffers (https://protobuf.dev,
"Encoding"), where a field that comes twice is merged: outputs are added by bytes behind the file's own, which stay as
they are. Field numbers are those of `onnx.proto`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["add_outputs", "feature_names"]

_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_OUTPUT = 7, 1, 12
_NODE_OUTPUT, _NODE_OPERATOR = 2, 4
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _FLOAT = 1, 2, 1, 1, 2, 1
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_WIRE_BITS, _WIRE_MASK = 3, 7
_CONTINUES, _LOW_BITS, _MOST_SHIFT = 0x80, 0x7F, 63

_BLOCKS = 11
"""A U-2-Net has six blocks on the way down and five on the way up; each ends by adding what went into it, and nothing
else in the net is a sum.
"""

_FEATURE_BLOCKS = (2, 3, 7, 8, 9)
"""The third and fourth block on the way down, the second to fourth on the way up: of an eighth to a half of the
picture's side, they tell parts of pictures apart. The last block knows only what is salient.
"""


class _NotReadable(Exception):
    """The bytes are no message."""


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    value: memoryview


def feature_names(model: bytes) -> tuple[str, ...]:
    """The values that hold features, as the file names them; none where it is no U-2-Net or cannot be read."""
    try:
        sums = [
            _output_name(node.value)
            for graph in _read_fields(memoryview(model))
            if graph.number == _MODEL_GRAPH
            for node in _read_fields(graph.value)
            if node.number == _GRAPH_NODE and _is_sum(node.value)
        ]
        return tuple(sums[block] for block in _FEATURE_BLOCKS) if len(sums) == _BLOCKS and all(sums) else ()
    except (_NotReadable, UnicodeDecodeError):
        return ()


def add_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The file with those values, of 32-bit floats and any shape, behind the outputs that it has."""
    tensor = _write_number(_TENSOR_ELEMENT, _FLOAT) + _write_field(_TENSOR_SHAPE, b"")
    kind = _write_field(_VALUE_TYPE, _write_field(_TYPE_TENSOR, tensor))
    outputs = (_write_field(_GRAPH_OUTPUT, _write_field(_VALUE_NAME, name.encode()) + kind) for name in names)
    return model + _write_field(_MODEL_GRAPH, b"".join(outputs))


def _is_sum(node: memoryview) -> bool:
    return any(field.number == _NODE_OPERATOR and bytes(field.value) == b"Add" for field in _read_fields(node))


def _output_name(node: memoryview) -> str:
    return next((str(field.value, "utf-8") for field in _read_fields(node) if field.number == _NODE_OUTPUT), "")


def _read_fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message; those that hold numbers are left out."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & _WIRE_MASK
        if kind == _VARINT:
            _, at = _read_varint(message, at)
            continue
        if kind == _LENGTH:
            length, at = _read_varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _NotReadable
        if at + length > len(message):
            raise _NotReadable
        if kind == _LENGTH:
            yield _Field(key >> _WIRE_BITS, message[at : at + length])
        at += length


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, seven bits a byte from the lowest on, and where the next field begins."""
    number = shift = 0
    while at < len(message) and shift <= _MOST_SHIFT:
        byte = message[at]
        at += 1
        number |= (byte & _LOW_BITS) << shift
        if not byte & _CONTINUES:
            return number, at
        shift += 7
    raise _NotReadable


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number > _LOW_BITS:
        written.append(number & _LOW_BITS | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


def _write_number(field: int, number: int) -> bytes:
    return _write_varint(field << _WIRE_BITS | _VARINT) + _write_varint(number)


def _write_field(field: int, content: bytes) -> bytes:
    return _write_varint(field << _WIRE_BITS | _LENGTH) + _write_varint(len(content)) + content
