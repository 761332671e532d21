"""What a request is about: which wire, what is done there, and to which prediction. Pure: only words are read."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rotoscope_sandbox.models import all_models

__all__ = ["Deed", "What", "deed_of", "id_told", "naming_model"]


class What(StrEnum):
    """What a request does. Only `SUBMIT` costs money; `STREAM` is fal's stream of statuses."""

    SUBMIT = "submit"
    ASK = "ask"
    STREAM = "stream"
    RESULT = "result"
    OUTPUT = "output"
    CANCEL = "cancel"
    UPLOAD = "upload"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Deed:
    """One request, understood.

    Attributes:
        what: what it does.
        wire: `replicate`, `gateway`, `fal` or `segmind`; empty for an output, whose address names none.
        path: the request's path.
        query: its query.
        model: the model's name on its wire, once known.
        prediction: the prediction it is about, if any.
        direct: whether the answer to this submit is the result itself (Segmind's v1, fal's synchronous form).
    """

    what: What
    wire: str
    path: str
    query: str = ""
    model: str = ""
    prediction: str = ""
    direct: bool = False

    @property
    def family(self) -> str:
        """Whose words the answer is in: a gateway speaks Replicate's."""
        return "replicate" if self.wire == "gateway" else self.wire


def _replicate(match: re.Match[str]) -> dict[str, Any]:
    return {"wire": "gateway" if match["gateway"] else "replicate"}


def _fal(_: re.Match[str]) -> dict[str, Any]:
    return {"wire": "fal"}


def _segmind(_: re.Match[str]) -> dict[str, Any]:
    return {"wire": "segmind"}


def _anywhere(_: re.Match[str]) -> dict[str, Any]:
    return {"wire": ""}


_V1 = r"(?P<gateway>/replicate)?/v1"
_FAL = r"/[^/]+/[^/]+/requests/(?P<prediction>[^/]+)"
_Read = Callable[[re.Match[str]], dict[str, Any]]
# In the order of the app's own routes: the first that fits counts.
_TABLE: tuple[tuple[str, str, What | None, _Read], ...] = (
    ("GET", r"/outputs/(?P<prediction>[^/]+)/[^/]+", What.OUTPUT, _anywhere),
    ("GET", r"/(?:files/.+|sandbox/.+|\.well-known/.+)", None, _anywhere),
    ("POST", r"/storage/.+|/files/upload.*|/files/.+/multipart/.+", What.UPLOAD, _fal),
    ("PUT", r"/storage/.+|/files/.+/multipart/.+", What.UPLOAD, _fal),
    ("GET", r"/v1/models/requests/by-endpoint", What.LIST, _fal),
    ("GET", rf"{_V1}/predictions", What.LIST, _replicate),
    ("POST", rf"{_V1}/predictions", What.SUBMIT, _replicate),
    ("POST", rf"{_V1}/models/(?P<model>[^/]+/[^/]+)/predictions", What.SUBMIT, _replicate),
    ("GET", rf"{_V1}/predictions/(?P<prediction>[^/]+)", What.ASK, _replicate),
    ("POST", rf"{_V1}/predictions/(?P<prediction>[^/]+)/cancel", What.CANCEL, _replicate),
    ("POST", rf"{_V1}/files", What.UPLOAD, _replicate),
    ("GET", rf"{_V1}/.*", None, _replicate),
    ("POST", r"/upload-asset", What.UPLOAD, _segmind),
    ("GET", r"/inference-request/request-history(?:/.+)?", What.LIST, _segmind),
    ("GET", r"/v2/requests/(?P<prediction>[^/]+)/status", What.ASK, _segmind),
    ("GET", r"/v2/requests/(?P<prediction>[^/]+)", What.RESULT, _segmind),
    ("POST", r"/v2/(?P<model>[^/]+)", What.SUBMIT, _segmind),
    ("POST", r"/v1/(?P<model>[^/]+)", What.SUBMIT, lambda _: {"wire": "segmind", "direct": True}),
    ("GET", rf"{_FAL}/status", What.ASK, _fal),
    ("GET", rf"{_FAL}/status/stream", What.STREAM, _fal),
    ("PUT", rf"{_FAL}/cancel", What.CANCEL, _fal),
    ("GET", _FAL, What.RESULT, _fal),
    ("POST", r"/sync/(?P<model>.+)", What.SUBMIT, lambda _: {"wire": "fal", "direct": True}),
    ("POST", r"/(?P<model>[^/]+/.+)", What.SUBMIT, _fal),
)


def deed_of(method: str, path: str, query: str = "", host: str = "") -> Deed | None:
    """What a request does; None where no fault can concern it.

    Args:
        method: as it came, upper case.
        path: without the query.
        query: what stands behind the question mark.
        host: the Host header: `fal.run` is fal's synchronous form.
    """
    for verb, pattern, what, read in _TABLE:
        if verb == method and (match := re.fullmatch(pattern, path)):
            return None if what is None else _read(what, match, read(match), path, query, host)
    return None


def _read(what: What, match: re.Match[str], more: dict[str, Any], path: str, query: str, host: str) -> Deed:
    named = match.groupdict()
    deed = Deed(what, path=path, query=query, model=named.get("model") or "", prediction=named.get("prediction") or "",
                **more)  # fmt: skip
    at_once = deed.wire == "fal" and what is What.SUBMIT and host.partition(":")[0] == "fal.run"
    return replace(deed, direct=True) if at_once else deed


def naming_model(deed: Deed, body: bytes) -> Deed:
    """A submit whose path names no model, with the model that its body names (Replicate's `version`)."""
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return deed
    version = str(parsed.get("version") or "") if isinstance(parsed, dict) else ""
    name, _, digits = version.rpartition(":")
    by_digits = (one.name for one in all_models() if one.wire == "replicate" and one.version and one.version == digits)
    return replace(deed, model=name or next(by_digits, version))


def id_told(deed: Deed, headers: dict[str, str], body: bytes) -> str:
    """The id of the prediction that a submit's answer tells of; empty when it tells none."""
    if deed.direct:
        return headers.get("x-request-id" if deed.family == "segmind" else "x-fal-request-id", "")
    try:
        told: Any = json.loads(body)
    except ValueError:
        return ""
    found = told.get("id" if deed.family == "replicate" else "request_id") if isinstance(told, dict) else None
    return found if isinstance(found, str) else ""
