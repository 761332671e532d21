"""A task within a task: an engine's model is run with inputs that another model has made of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rotoscope_sandbox.models import EngineTask
from rotoscope_sandbox.predictions import JsonObject

__all__ = ["InnerTask"]


class InnerTask:
    """The task of another model, with the input that an engine's model takes; `metrics` is what that one reports."""

    def __init__(self, task: EngineTask, given: Mapping[str, Any]) -> None:
        self.input = given
        self.metrics: JsonObject = {}
        self.read, self.place = task.read, task.place
        self.save, self.keep = task.save, task.keep
        self.log, self.open_net = task.log, task.open_net
        self._task = task

    @property
    def scratch(self) -> Path:
        return self._task.scratch

    def report(self, metrics: Mapping[str, Any]) -> None:
        self.metrics.update(metrics)
        self._task.report(metrics)
