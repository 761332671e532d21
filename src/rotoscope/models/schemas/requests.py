"""The requests by which a provider's document about a model, and its price, are asked for, and what they answer. Pure.

fal answers without a key; with one it tells prices too. Replicate answers with a key alone, and tells no price.
"""

from collections.abc import Mapping
from urllib.parse import quote

from rotoscope.contracts.characters import one_line
from rotoscope.errors import InvalidInput, ProviderDown, Refused, UnknownModel
from rotoscope.models.manifest import Price
from rotoscope.models.schemas.documents import ModelName
from rotoscope.providers.http.messages import ECHO_BYTES, HttpCall, Json, Reply, versioned_base

__all__ = [
    "document_calls",
    "join_documents",
    "parse_document",
    "price_call",
    "read_document_reply",
    "read_price",
]

_NOT_FOUND, _REFUSED = (404, 410), (401, 403)
_MAX_UNIT, _MAX_USD = 60, 10_000
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("image", "images", "video", "videos", "request", "requests"), "run"),
    **dict.fromkeys(("second", "seconds"), "output_second"),
    **dict.fromkeys(("compute second", "compute seconds"), "run_second"),
}
"""What fal's words for units mean in a manifest; it has others."""


def document_calls(name: ModelName, bases: Mapping[str, str], *, has_key: bool) -> tuple[HttpCall, ...]:
    """The requests for a model's document: of fal the first one that is answered counts, of Replicate all do."""
    if name.provider == "fal":
        query = f"endpoint_id={quote(name.endpoint, safe='/')}"
        site = bases.get("site", "https://fal.ai")
        return (
            _get(f"{site}/api/openapi/queue/openapi.json?{query}", with_key=False),
            _get(f"{bases['platform']}/v1/models?{query}&expand=openapi-3.0", with_key=has_key),
        )
    model = f"{versioned_base(bases['api'])}/models/{quote(name.endpoint, safe='/')}"
    calls = [_get(model, with_key=True)]
    if name.version is not None:
        calls.append(_get(f"{model}/versions/{quote(name.version, safe='')}", with_key=True))
    return tuple(calls)


def price_call(name: ModelName, bases: Mapping[str, str]) -> HttpCall | None:
    """The request for a model's price; None where the provider tells none."""
    if name.provider != "fal":
        return None
    return _get(f"{bases['platform']}/v1/models/pricing?endpoint_id={quote(name.endpoint, safe='/')}", with_key=True)


def _get(url: str, *, with_key: bool) -> HttpCall:
    return HttpCall("GET", url, {"Accept": "application/json"}, with_key=with_key, max_reply_bytes=ECHO_BYTES)


def read_document_reply(name: ModelName, reply: Reply) -> Json:
    """The document in a reply.

    Raises:
        UnknownModel: the provider has no such model, or shows it to others.
        Refused: it does not accept the key.
        ProviderDown: it answers otherwise, or not with JSON.
    """
    if reply.status in _NOT_FOUND:
        raise UnknownModel(f"The provider has no model {name}.", hint="Check its name on the provider's page.")
    if reply.status in _REFUSED:
        raise Refused(f"{name.provider} does not accept the key.", hint="Check the key.")
    document = reply.json()
    if not reply.is_success or not isinstance(document, dict):
        said = one_line(reply.body[:200].decode(errors="replace"), 200)
        raise ProviderDown(
            f"{name.provider} did not give the schema of {name}: it answered {reply.status}.",
            hint="Try again later, or save the schema and give it with --from FILE.",
            provider_message=said or None,
        )
    return document


def join_documents(name: ModelName, documents: list[Json]) -> Json:
    """One document of all that were read: the model's, with a fixed version in place of its latest one."""
    first = documents[0] if documents else None
    if name.version is None or len(documents) < 2 or not isinstance(first, dict):  # noqa: PLR2004 - model and version
        return first
    return {**first, "latest_version": documents[1]}


def read_price(name: ModelName, document: Json, today: str) -> tuple[Price | None, str]:
    """The price in fal's answer, and in words what it says.

    A unit that means none of the manifest's gives no price, and neither does 0: fal prints 0 where it does not say.
    """
    listed = document.get("prices") if isinstance(document, dict) else None
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    found = next((one for one in entries if one.get("endpoint_id") == name.endpoint), None)
    if found is None:
        return None, "fal tells no price of it"
    usd, unit = found.get("unit_price"), one_line(str(found.get("unit") or ""), _MAX_UNIT)
    currency = one_line(str(found.get("currency") or "USD"), 8)
    said = f"fal says {one_line(str(usd), 20)} {currency} for each {unit or 'unit'} (read {today})"
    known = isinstance(usd, int | float) and not isinstance(usd, bool) and 0 < usd <= _MAX_USD
    meant = _UNITS.get(unit.lower())
    if not known or meant is None or currency.upper() != "USD":
        return None, said
    return Price(unit=meant, usd=float(usd), seen=today[:7], note=""), said  # type: ignore[arg-type]


def parse_document(text: str) -> Json:
    """The JSON of a schema that a user has saved.

    Raises:
        InvalidInput: it is no JSON object.
    """
    reply = Reply(200, {}, text.encode("utf-8", "replace"))
    document = reply.json()
    if not isinstance(document, dict):
        raise InvalidInput("The file holds no JSON object.", hint="Save the provider's own document.")
    return document
