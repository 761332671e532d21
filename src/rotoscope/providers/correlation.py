"""The correlation token of a paying request: a value in its input that no other run's input can have. Pure.

When the reply to a submit is lost, the run is found in the provider's list by its token, and only by it: an equal run
may be another user's, made by hand or from another ROTOSCOPE_HOME of the same account. A token is one of:

1. A seed that we drew ourselves. A seed that the user gave may be used by others too.
2. The URL of a file that was uploaded for this job alone.
3. A fragment on a URL that was given (`https://host/photo.jpg#rs-0f3a...`). It is never sent to the host (a fragment is
   no part of a request: RFC 9110, section 7.1), but appears in the provider's list. That a provider keeps it is
   inferred; one that drops it lists a run without the token, which is then only a suggestion to a person.

A token stays the same when another process takes over the job or the request is sent again: it is made from the job's
id, from the seed in its plan, or from its upload.
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
    """A value that distinguishes one run from every other.

    Attributes:
        kind: a seed, an upload or a fragment.
        name: the input that has it.
        value: the seed, the URL of the upload, or the fragment.
    """

    kind: TokenKind
    name: str
    value: str

    def __str__(self) -> str:
        """The form in the ledger; `parse_token` reads it."""
        return f"{self.kind}:{self.name}={self.value}"


def parse_token(text: str | None) -> Token | None:
    """The token from its form in the ledger; None for anything else."""
    kind, colon, rest = (text or "").partition(":")
    name, equals, value = rest.partition("=")
    known = next((one for one in _KINDS if one == kind), None)
    return Token(known, name, value) if known and colon and equals and value else None


def add_token(
    call: Call, drawn_inputs: Iterable[str], upload_urls: Iterable[str], media: Iterable[str], job_id: str
) -> tuple[Call, Token | None]:
    """Give a call a token.

    Args:
        call: the call as planned, with its media as URLs.
        drawn_inputs: the inputs whose values we drew ourselves.
        upload_urls: the URLs of files that were uploaded for this job alone.
        media: the inputs that hold media, in order.
        job_id: the job's id, which no other job has.

    Returns:
        The call, with a fragment added where that is the token, and the token; the call as it is and None where nothing
        in it can be a token.
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
    urls = set(upload_urls)
    for name, value in call.input.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one in urls:
                return Token("upload", name, one)
    return None


def has_token(given: Mapping[str, Json], token: Token) -> bool:
    """Whether an input, as a provider lists it, has a token. URLs may be re-encoded there, and seeds be texts."""
    if token.kind == "seed":
        value = given.get(token.name)
        return not isinstance(value, bool) and isinstance(value, int | float | str) and _seed_text(value) == token.value
    wanted = unquote(token.value)
    return any(wanted in unquote(text) for text in _texts_within(given))


def _seed_text(value: float | str) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _texts_within(value: Json | Mapping[str, Json], depth: int = 4) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list) and depth:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_within(part, depth - 1)
