"""The models that the sandbox knows, as data: where they live, what they take, and what computes them.

An engine is a module with a `MODELS` tuple; to add one, name it in `_ENGINES`. Engines are imported with the
first prediction, because they bring numpy, OpenCV and PyAV.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from rotoscope_sandbox.vision.object_net import ObjectNet

__all__ = [
    "Compute",
    "EngineTask",
    "Field",
    "InputProblem",
    "Model",
    "Stopped",
    "UnusableInput",
    "all_models",
    "find_model",
]

_ENGINES = ("rotoscope_sandbox.vision.engine", "rotoscope_sandbox.film.engine")


class Stopped(Exception):
    """The prediction was canceled, or the process is ending: stop computing and leave nothing behind."""


class UnusableInput(Exception):
    """An input that cannot be used, found out while the model ran. `kind` is fal's name for it."""

    def __init__(self, field_name: str, message: str, kind: str = "value_error") -> None:
        super().__init__(message)
        self.field_name = field_name
        self.message = message
        self.kind = kind


class EngineTask(Protocol):
    """What an engine is given: the input, and the only ways to reach the outside."""

    @property
    def input(self) -> Mapping[str, Any]:
        """The model's input as it was sent."""

    def read(self, field_name: str, reference: str) -> bytes:
        """The bytes that a data URI or one of the sandbox's own URLs stands for."""

    def place(self, field_name: str, reference: str) -> Path:
        """A local file with those bytes, for what is too large to hold in memory; to be read only."""

    @property
    def scratch(self) -> Path:
        """A folder for files while the model runs; it is gone afterwards."""

    def open_net(self) -> "ObjectNet | None":
        """The net that finds objects; None where its weights are missing, which the result then says."""

    def save(self, name: str, content: bytes) -> str:
        """Keep an output file; the returned reference becomes its URL in replies."""

    def keep(self, name: str, made: Path) -> str:
        """Keep a file from the scratch folder as an output, as `save` does."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Add what the model measures to the metrics of the prediction."""

    def log(self, line: str) -> None:
        """Add a line to the model's log, which is visible at once; raises `Stopped` when it should end."""


Compute: TypeAlias = Callable[[EngineTask], Any]
"""From a task to the output, a JSON value in which references to kept files stand for their URLs."""


@dataclass(frozen=True, slots=True)
class InputProblem:
    """What is wrong with one input field; `kind` is fal's name for it, such as `missing` or `string_type`."""

    field: str
    message: str
    kind: str


@dataclass(frozen=True, slots=True)
class Field:
    """One input field.

    Attributes:
        type: a JSON type by its Python name.
        required: whether a request without it is refused.
        options: the only values, where there are any.
        least, most: bounds of a number; `most` is the longest length of a string or a list.
        items: the type of a list's items, where it matters.
    """

    type: str
    required: bool = False
    options: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    items: str = ""

    def problem(self, name: str, value: object) -> InputProblem | None:
        """What is wrong with a value, or None."""
        wanted = _TYPES[self.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type != "boolean"):
            return InputProblem(name, f"Input should be a valid {self.type}", f"{self.type}_type")
        if self.options and value not in self.options:
            return InputProblem(name, f"Input should be one of {', '.join(self.options)}", "literal_error")
        return self._out_of_bounds(name, value) or self._wrong_item(name, value)

    def _out_of_bounds(self, name: str, value: Any) -> InputProblem | None:
        sized = isinstance(value, str | list)
        size = len(value) if sized else value
        if self.most is not None and size > self.most:
            words = f"have at most {self.most} {'characters' if isinstance(value, str) else 'items'}" if sized else ""
            return InputProblem(
                name, f"Input should {words or f'be at most {self.most}'}", "too_long" if sized else "too_large"
            )
        if self.least is not None and size < self.least:
            return InputProblem(name, f"Input should be at least {self.least}", "too_small")
        return None

    def _wrong_item(self, name: str, value: Any) -> InputProblem | None:
        if not self.items or all(isinstance(item, _TYPES[self.items]) for item in value):
            return None
        return InputProblem(name, f"Every item should be a valid {self.items}", f"{self.items}_type")


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "list": list,
}


def _no_problem(_: Mapping[str, Any]) -> InputProblem | None:
    return None


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    Attributes:
        wire: `replicate`, `fal` or `segmind`.
        name: its name there.
        fields: what it takes.
        compute: what it does.
        version: the version id of a community model on Replicate; empty for official ones.
        check: finds what no single field shows, such as that neither points nor a box were given.
        run_seconds: the least time a run seems to take.
        answers_with_json: whether Segmind's v1 answers with the output as JSON unless it is a file alone; else with the
            picture at `image` alone.
    """

    wire: str
    name: str
    fields: Mapping[str, Field]
    compute: Compute
    version: str = ""
    check: Callable[[Mapping[str, Any]], InputProblem | None] = field(default=_no_problem)
    run_seconds: float = 0.5
    answers_with_json: bool = False

    def problems(self, given: Mapping[str, Any]) -> list[InputProblem]:
        """Everything wrong with an input, before anything runs; null counts as not given."""
        found = [self._problem(name, given.get(name)) for name in self.fields]
        wrong = [problem for problem in found if problem is not None]
        whole = None if wrong else self.check(given)
        return wrong if whole is None else [whole]

    def _problem(self, name: str, value: object) -> InputProblem | None:
        if value is None:
            return InputProblem(name, "Field required", "missing") if self.fields[name].required else None
        return self.fields[name].problem(name, value)


@cache
def all_models() -> tuple[Model, ...]:
    """Every model of every engine."""
    return tuple(model for engine in _ENGINES for model in import_module(engine).MODELS)


def find_model(wire: str, name: str, more: tuple[Model, ...] = ()) -> Model | None:
    """The model of that name on a wire, of the engines or else of some more; or None."""
    return next((model for model in (*all_models(), *more) if (model.wire, model.name) == (wire, name)), None)
