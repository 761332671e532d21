"""A planned call as the ledger keeps it. Pure."""

import hashlib
import json
from collections.abc import Mapping

from rotoscope.models.manifest import Manifest
from rotoscope.models.meaning import meaning
from rotoscope.models.plan import Plan
from rotoscope.predictions.states import Call
from rotoscope.wire.messages import Json

__all__ = ["call_from_json", "call_to_json", "digest", "keys_of"]


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


def keys_of(principal: str, manifest: Manifest, planned: Plan, how: Mapping[str, Json]) -> tuple[str, str]:
    """What tells a request from every other one, and what tells the price of one from every other price.

    Both are equal for requests of one principal that ask for the same, however it is spelled (`models.meaning`): of
    one model at one provider, in one version and form (another version is another model), with equal media by content.
    A retry has the key of what it retries. A seed that we drew differs each time and is no part of a request; no seed
    is part of a price.

    Args:
        principal: whose request it is.
        manifest: the model.
        planned: the request; its media are https URLs or named by the hash of their content.
        how: what else changes the result or the price.

    Returns:
        The key of the request, and the key of its price.
    """
    call = planned.call
    seeds = tuple(name for name, field in manifest.inputs.items() if field.drawn)
    where: list[Json] = [principal, manifest.tool, manifest.id, call.provider, call.endpoint, call.version, call.form]
    request, price = (meaning(manifest, call.input, without) for without in (planned.drawn, seeds))
    return _sha256([*where, dict(how), request]), _sha256(["price", *where, dict(how), price])


def _sha256(value: Json) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
