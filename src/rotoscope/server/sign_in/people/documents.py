"""Client-id metadata documents: a client whose id is the https address of a JSON document that describes it.

By draft-ietf-oauth-client-id-metadata-document: the address has a path and neither fragment, user nor dot segments, the
document names it as `client_id` exactly, no redirect is followed, and no secret is shared.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from mcp.shared.auth import OAuthClientInformationFull
from pydantic import ValidationError

from rotoscope.errors import RotoscopeError, UnsafeSource
from rotoscope.providers.http.egress import check_url
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.server.sign_in.people.clients import ClientRefused, client_to_store
from rotoscope.store.clients import StoredClient

__all__ = ["DOCUMENT_BYTES", "ReadDocument", "is_document_address", "read_client_document"]

DOCUMENT_BYTES = 16 * 1024
"""Bytes of a document; the draft advises 5 KB."""

ReadDocument = Callable[[str, int], Awaitable[Reply]]
"""Reads a document of at most so many bytes at a public https address, without following a redirect."""

_MAX_ADDRESS_CHARS = 500
_MIN_FRESH, _USUAL_FRESH, _MAX_FRESH = 300.0, 3600.0, 86_400.0  # seconds
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])", re.IGNORECASE)
_OK = 200


def is_document_address(client_id: str) -> bool:
    """Whether a client's id is an address, and no id of ours."""
    return client_id.startswith("https://")


async def read_client_document(address: str, read: ReadDocument, now: float) -> StoredClient:
    """Read what a client's document says.

    Args:
        address: the client's id.
        read: reads it.
        now: in Unix seconds.

    Raises:
        ClientRefused: it is none that can be used; the text says why.
    """
    _check_address(address)
    try:
        reply = await read(address, DOCUMENT_BYTES)
    except UnsafeSource as error:
        raise ClientRefused(f"The client's address cannot be used: {error.message}") from error
    except RotoscopeError as error:
        raise ClientRefused("The client's document could not be read. Try again in a minute.") from error
    if reply.status != _OK:
        raise ClientRefused(f"The client's document could not be read: its host answered {reply.status}.")
    return _parse(address, reply.fields(), now + _fresh_seconds(reply.headers))


def _check_address(address: str) -> None:
    """Raises ClientRefused."""
    try:
        same = check_url(address).url == address
    except UnsafeSource as error:
        raise ClientRefused(f"The client's address cannot be used: {error.message}") from error
    path = urlsplit(address).path
    dots = {".", "..", "%2e", "%2e%2e", ".%2e", "%2e."}
    if not same or len(address) > _MAX_ADDRESS_CHARS or path in ("", "/") or "#" in address:
        raise ClientRefused("The client's address must be plain, in lower case, with a path and without a fragment.")
    if dots & set(path.lower().split("/")):
        raise ClientRefused("The client's address has . or .. in its path.")


def _parse(address: str, fields: Mapping[str, Json], fresh_until: float) -> StoredClient:
    if fields.get("client_id") != address:
        raise ClientRefused("The client's document does not name its own address as client_id.")
    method = fields.get("token_endpoint_auth_method", "none")
    if "client_secret" in fields or method not in ("none", "private_key_jwt"):
        raise ClientRefused("A client with a document shares no secret: token_endpoint_auth_method must be none.")
    try:
        client = OAuthClientInformationFull.model_validate({**fields, "scope": None})
    except ValidationError:
        raise ClientRefused("The client's document holds fields of a wrong form.") from None
    if "code" not in client.response_types or "authorization_code" not in client.grant_types:
        raise ClientRefused("The client's document does not ask for authorization codes.")
    if not client.client_name:
        raise ClientRefused("The client's document has no client_name.")
    return client_to_store(client, fresh_until, {"jwks_url": _key_address(method, fields)})


def _key_address(method: Json, fields: Mapping[str, Json]) -> str | None:
    if method != "private_key_jwt":
        return None
    address = fields.get("jwks_uri")
    if not isinstance(address, str) or len(address) > _MAX_ADDRESS_CHARS:
        raise ClientRefused("A client that signs its requests must name its keys by jwks_uri.")
    try:
        return check_url(address).url
    except UnsafeSource as error:
        raise ClientRefused(f"The address of the client's keys cannot be used: {error.message}") from error


def _fresh_seconds(headers: Mapping[str, str]) -> float:
    """How long a document is good without another look, as its host says, within bounds."""
    found = _MAX_AGE.search(headers.get("cache-control", ""))
    return _USUAL_FRESH if found is None else min(max(float(found[1]), _MIN_FRESH), _MAX_FRESH)
