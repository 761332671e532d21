"""The key of a request: equal for every spelling of one request, different for any other. Pure.

A caller that gave up waiting repeats its request with another spelling: a default named, a list left empty, a blank
after the prompt. Comparing what was typed would pay twice. So what is compared is what the model would get: trimmed,
with the provider's defaults filled in, numbers by value and media by the hash of their content.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import CallPlan
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call, call_to_json

__all__ = [
    "call_digest",
    "canonical_request",
    "combine_keys",
    "request_and_price_keys",
    "trim_arguments",
]

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def trim_arguments(manifest: Manifest, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments in one spelling: texts without blanks at their ends, none empty, choices as in the manifest.

    Media stay as they are given: the intake has the better message for a blank one.
    """
    media = {field.argument for field in manifest.inputs.values() if field.is_media}
    texts = {name: value.strip() for name, value in arguments.items() if isinstance(value, str) and name not in media}
    for field in manifest.inputs.values():
        if field.argument in texts:
            texts[field.argument] = field.canonical_choice(texts[field.argument])
    return {name: value for name, value in {**arguments, **texts}.items() if value != ""}


def canonical_request(manifest: Manifest, filled: Mapping[str, Json], skip: Iterable[str] = ()) -> dict[str, Json]:
    """The inputs of a request in one form, equal for every request that means the same.

    Args:
        manifest: the model.
        filled: the inputs as they are sent, media as https URLs or `artifact://` links.
        skip: inputs that do not count.

    Returns:
        The inputs that count, by name: with the documented defaults of those that are not sent, and without those
        that are empty, which mean the same as absent ones.
    """
    every = {name: filled.get(name, cast("Json", field.default)) for name, field in manifest.inputs.items()}
    counted = {name: value for name, value in every.items() if name not in set(skip)}
    plain = {name: _canonical_value(value, is_media=manifest.inputs[name].is_media) for name, value in counted.items()}
    return {name: value for name, value in plain.items() if value not in (None, "", [])}


def _canonical_value(value: Json, *, is_media: bool = False) -> Json:
    match value:
        case list():
            return [_canonical_value(one, is_media=is_media) for one in value]
        case dict():
            return {name: _canonical_value(one) for name, one in value.items()}
        case float() if value.is_integer():
            return int(value)
        case str() if is_media and value.startswith("https://"):
            return _ESCAPE.sub(_canonical_escape, value)
        case str():
            return value.strip()
    return value


def _canonical_escape(escape: re.Match[str]) -> str:
    """A percent escape as RFC 3986 (6.2.2) normalises it: unreserved characters are plain, hex digits upper-case."""
    byte = int(escape[1], 16)
    return chr(byte) if byte in _UNRESERVED else escape[0].upper()


def call_digest(call: Call) -> str:
    """The SHA-256 (hex) of everything that is sent: two requests are the same exactly if theirs are equal."""
    return _hash_json(call_to_json(call))


def request_and_price_keys(
    principal: str, manifest: Manifest, plan: CallPlan, options: Mapping[str, Json]
) -> tuple[str, str]:
    """The key of a request and the key of its price.

    Both are equal for requests of one principal that mean the same: one model at one provider, in one version and form
    (another version is another model), with equal media by content. A retry has the key of what it retries. A drawn
    seed differs each time, so it is no part of the request; no seed is part of the price.

    Args:
        principal: whose request it is.
        manifest: the model.
        plan: the request; its media are https URLs or named by the hash of their content.
        options: what else changes the result or the price.

    Returns:
        The key of the request, and the key of its price.
    """
    call = plan.call
    seeds = tuple(name for name, field in manifest.inputs.items() if field.drawn)
    where: list[Json] = [principal, manifest.tool, manifest.id, call.provider, call.endpoint, call.version, call.form]
    request, price = (canonical_request(manifest, call.input, without) for without in (plan.drawn_inputs, seeds))
    return _hash_json([*where, dict(options), request]), _hash_json(["price", *where, dict(options), price])


def combine_keys(key: str, others: Sequence[str]) -> str:
    """The key of a request that takes what others give: equal where it and all of them are."""
    return _hash_json([key, *others]) if others else key


def _hash_json(value: Json) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
