"""What a request does: which wire it speaks, which action it asks for, and about which prediction.

It is read from the name of the app's own route that answers the request: `<wire>:<action>`, such as `fal:submit`.
`<wire>:submit-direct` is a submit that is answered with the result itself; `<wire>:other` is a route that no fault
meets. `check_route_names` refuses an app with a route that has no such name, so that none can be forgotten.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from rotoscope_sandbox.models import all_models

__all__ = ["Action", "Operation", "check_route_names", "find_operation", "prediction_in_reply", "with_model_of"]


class Action(StrEnum):
    """What a request asks for. Only `SUBMIT` costs money; `STREAM` is fal's stream of statuses."""

    SUBMIT = "submit"
    ASK = "ask"
    STREAM = "stream"
    RESULT = "result"
    OUTPUT = "output"
    CANCEL = "cancel"
    UPLOAD = "upload"
    LIST = "list"


_ABOUT_ONE = (Action.ASK, Action.STREAM, Action.RESULT, Action.OUTPUT, Action.CANCEL)
"""What names a prediction in its path."""
_NAME = re.compile(rf"(any|replicate|gateway|fal|segmind):(?:({'|'.join(Action)})(-direct)?|other)")


@dataclass(frozen=True, slots=True)
class Operation:
    """What one request does.

    Attributes:
        action: what it asks for.
        wire: `replicate`, `gateway`, `fal` or `segmind`; empty for an output, whose address names none.
        query: its query.
        model: the model's name on its wire, once known.
        prediction: the prediction it is about, if any.
        is_direct: whether the answer to this submit is the result itself (Segmind's v1, fal's synchronous form).
    """

    action: Action
    wire: str
    query: str = ""
    model: str = ""
    prediction: str = ""
    is_direct: bool = False

    @property
    def family(self) -> str:
        """Whose words the answer is in: a gateway speaks Replicate's."""
        return "replicate" if self.wire == "gateway" else self.wire


def check_route_names(routes: Iterable[BaseRoute]) -> None:
    """Make sure that the name of every route says what its requests do.

    Raises:
        ValueError: the name of one does not.
    """
    for route in routes:
        if not isinstance(route, Route) or _NAME.fullmatch(route.name) is None:
            raise ValueError(f"the name of the route {route} does not say which operation it is")


def find_operation(scope: Scope, routes: Iterable[BaseRoute]) -> Operation | None:
    """What a request does; None for what no fault can meet.

    Args:
        scope: of the request.
        routes: those of the app, in its order: the first that matches answers.
    """
    if scope["method"] == "HEAD":
        return None
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL and isinstance(route, Route):
            return _operation(scope, route.name, found["path_params"])
    return None


def _operation(scope: Scope, route_name: str, parameters: Mapping[str, Any]) -> Operation | None:
    parts = _NAME.fullmatch(route_name)
    if parts is None or parts[2] is None:
        return None
    action, wire = Action(parts[2]), parts[1].removeprefix("any")
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    # fal's synchronous form has the same paths as its queue, on a host of its own.
    is_sync = wire == "fal" and action is Action.SUBMIT and host.partition(":")[0] == "fal.run"
    return Operation(
        action,
        wire,
        query=scope["query_string"].decode("latin-1"),
        model=_model(parameters) if action is Action.SUBMIT else "",
        prediction=str(parameters["id"]) if action in _ABOUT_ONE else "",
        is_direct=parts[3] is not None or is_sync,
    )


def _model(parameters: Mapping[str, Any]) -> str:
    if "owner" in parameters:
        return f"{parameters['owner']}/{parameters['name']}"
    return str(parameters.get("endpoint") or parameters.get("slug") or "")


def with_model_of(operation: Operation, body: bytes) -> Operation:
    """A submit whose path names no model, with the model that its body names (Replicate's `version`)."""
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return operation
    version = str(parsed.get("version") or "") if isinstance(parsed, dict) else ""
    name, _, digits = version.rpartition(":")
    by_digits = (one.name for one in all_models() if one.wire == "replicate" and one.version and one.version == digits)
    return replace(operation, model=name or next(by_digits, version))


def prediction_in_reply(operation: Operation, headers: Mapping[str, str], body: bytes) -> str:
    """The id of the prediction in the answer to a submit; empty when there is none."""
    if operation.is_direct:
        return headers.get("x-request-id" if operation.family == "segmind" else "x-fal-request-id", "")
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return ""
    name = "id" if operation.family == "replicate" else "request_id"
    found = parsed.get(name) if isinstance(parsed, dict) else None
    return found if isinstance(found, str) else ""
