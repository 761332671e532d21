"""A planned call as the ledger keeps it. Pure."""

import hashlib
import json
from collections.abc import Mapping

from rotoscope.predictions.states import Call
from rotoscope.wire.messages import Json

__all__ = ["call_from_json", "call_to_json", "digest", "request_key"]


def call_to_json(call: Call) -> dict[str, Json]:
    """A call as plain JSON data."""
    return {
        "provider": call.provider,
        "endpoint": call.endpoint,
        "input": dict(call.input),
        "version": call.version,
        "form": call.form,
        "deadline_seconds": call.deadline_seconds,
    }


def call_from_json(data: Json) -> Call:
    """The call that `call_to_json` wrote."""
    known = _record(data)
    version, deadline = known.get("version"), known.get("deadline_seconds")
    return Call(
        provider=str(known["provider"]),
        endpoint=str(known["endpoint"]),
        input=_record(known["input"]),
        version=str(version) if version is not None else None,
        form=str(known["form"]),
        deadline_seconds=int(deadline) if isinstance(deadline, int) else None,
    )


def _record(data: Json) -> dict[str, Json]:
    return data if isinstance(data, dict) else {}


def digest(call: Call) -> str:
    """What tells one request from another: the SHA-256 (hex) of everything that is sent."""
    return _sha256(call_to_json(call))


def request_key(
    principal: str, tool: str, model: str, call: Call, drawn: tuple[str, ...], how: Mapping[str, Json]
) -> str:
    """Equal for requests that ask for the same thing: a retry has the key of what it retries.

    Args:
        principal: whose request it is.
        tool: the tool.
        model: the model.
        call: the plan; its media are named by the hash of their content.
        drawn: the inputs that we drew ourselves; they differ each time and do not count.
        how: what else changes the result.
    """
    given = {name: value for name, value in call.input.items() if name not in drawn}
    asked: list[Json] = [principal, tool, model, call.provider, call.endpoint, given, dict(how)]
    return _sha256(asked)


def _sha256(value: Json) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
