"""The token of a paying request: what no other run's input can hold. Pure.

By its token a run is found in the provider's list when its reply was lost, and only by it: an equal run may be
somebody else's, made by hand or from another home of the same account. Three things can be one:

1. A seed that we drew ourselves. One that the user gave is anybody's.
2. The address of a file that was uploaded for this job alone.
3. A fragment on an address that was given (`https://host/photo.jpg#rs-0f3a...`). It is never sent to the host (a
   fragment is no part of a request: RFC 9110, section 7.1), and stands in the provider's list. That a provider keeps it
   is inferred; one that does not shows a run without the token, which is then a suggestion to a person.

A token does not change when a job is driven by another process or sent again: it is made of the job's own id, of the
seed in its plan, or of its upload.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote, urldefrag

from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Call

__all__ = ["Token", "add_token", "has_token", "parse_token"]

TokenKind = Literal["seed", "upload", "fragment"]
_KINDS: tuple[TokenKind, ...] = ("seed", "upload", "fragment")


@dataclass(frozen=True, slots=True)
class Token:
    """What tells a run from every other.

    Attributes:
        kind: what it is.
        name: the input that holds it.
        value: the seed, the address of the upload, or the fragment.
    """

    kind: TokenKind
    name: str
    value: str

    def __str__(self) -> str:
        """As the ledger keeps it."""
        return f"{self.kind}:{self.name}={self.value}"


def parse_token(text: str | None) -> Token | None:
    """The token that `str` wrote; None for anything else."""
    kind, colon, rest = (text or "").partition(":")
    name, equals, value = rest.partition("=")
    known = next((one for one in _KINDS if one == kind), None)
    return Token(known, name, value) if known and colon and equals and value else None


def add_token(
    call: Call, drawn_inputs: Iterable[str], upload_urls: Iterable[str], media: Iterable[str], job_id: str
) -> tuple[Call, Token | None]:
    """The request with a token in it, and that token; the request as it is where nothing in it can be one.

    Args:
        call: the request as planned, its media placed.
        drawn_inputs: the inputs that we drew ourselves.
        upload_urls: the addresses of files that were uploaded for this job alone.
        media: the inputs that hold media, in order.
        job_id: the job's id, which no other job has.
    """
    token = _existing_token(call, drawn_inputs, upload_urls)
    if token is not None:
        return call, token
    for name in media:
        value = call.input.get(name)
        first = value[0] if isinstance(value, list) and value else value
        if not isinstance(first, str) or not first.lower().startswith(("https://", "http://")):
            continue
        fragment = f"rs-{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"
        marked = f"{urldefrag(first).url}#{fragment}"
        changed: Json = [marked, *value[1:]] if isinstance(value, list) else marked
        return replace(call, input={**call.input, name: changed}), Token("fragment", name, fragment)
    return call, None


def _existing_token(call: Call, drawn_inputs: Iterable[str], upload_urls: Iterable[str]) -> Token | None:
    for name in drawn_inputs:
        if name in call.input:
            return Token("seed", name, str(call.input[name]))
    addresses = set(upload_urls)
    for name, value in call.input.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one in addresses:
                return Token("upload", name, one)
    return None


def has_token(given: Mapping[str, Json], token: Token) -> bool:
    """Whether an input, as a provider lists it, holds a token. Addresses may have been re-encoded, seeds made text."""
    if token.kind == "seed":
        value = given.get(token.name)
        return not isinstance(value, bool) and isinstance(value, int | float | str) and _seed_text(value) == token.value
    wanted = unquote(token.value)
    return any(wanted in unquote(text) for text in _nested_texts(given))


def _seed_text(value: float | str) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _nested_texts(value: Json | Mapping[str, Json], depth: int = 4) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list) and depth:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _nested_texts(part, depth - 1)
