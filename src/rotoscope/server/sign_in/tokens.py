"""Sign-in by bearer tokens that the operator hands out: out of a setting, and out of a file that may change any time.

A token is known by its SHA-256. The hash of what was given is compared in constant time with those that begin like it,
so how long an answer takes says of a token no more than the first bytes of its hash.
"""

import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from mcp.server.auth.routes import REGISTRATION_PATH, cors_middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rotoscope.errors import InvalidInput
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.protection import METADATA_PATH
from rotoscope.server.sign_in.token_file import FileStamp, TokenFile, hash_token
from rotoscope.server.sign_in.verified import SignedInToken, SignInUnavailable

__all__ = ["TokenIndex", "TokenVerifier", "hash_given_tokens", "make_token_sign_in"]

_LOOK_SECONDS = 1.0
_INDEX_CHARS = 8  # of a hash, as hex
_MIN_CHARS = 32
_NO_REGISTRATION = (
    "This server has no sign-in page. Its operator gives out tokens: configure the client to send one in the header "
    "Authorization: Bearer TOKEN."
)
_HASHED = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


def make_token_sign_in(
    endpoint: str, given: Sequence[tuple[str, str]], file: TokenFile, scopes: Sequence[str] = ()
) -> SignIn:
    """Sign-in by tokens. There is no authorization server: a client is given its token by a person.

    Args:
        endpoint: the address of the MCP endpoint.
        given: names and tokens, or `sha256:` and a hash, out of the settings.
        file: the file of tokens.
        scopes: what the metadata says that tokens allow; every token of ours allows all.

    Raises:
        InvalidInput: a token or the file cannot be used.
    """
    hashes = hash_given_tokens(given)
    stamp, kept = file.stamp(), _read_names(file)
    verifier = TokenVerifier(TokenIndex(hashes), file, tuple(scopes), names=TokenIndex(kept), stamp=stamp)
    if not hashes and not kept:
        _log.warning("no token is known yet, so nobody can call: rotoscope tokens add NAME")
    routes, open_paths = (_registration_route(),), (METADATA_PATH, REGISTRATION_PATH)
    return SignIn(verifier, endpoint, tuple(scopes), more_routes=routes, open_paths=open_paths)


def _registration_route() -> BaseRoute:
    """What a client finds that has no token and looks for a sign-in page: SDKs end here, and show what is answered."""

    def answer(_: Request) -> Response:
        return JSONResponse({"error": "access_denied", "error_description": _NO_REGISTRATION}, status_code=403)

    return Route(REGISTRATION_PATH, cors_middleware(answer, ["POST", "OPTIONS"]), methods=["POST", "OPTIONS"])


def hash_given_tokens(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The names of tokens out of the settings, by the tokens' hashes.

    Raises:
        InvalidInput: a token can be guessed, or a hash is none; the message names its principal alone.
    """
    found = {}
    for name, token in given:
        hashed = token.removeprefix(_HASHED).lower() if token.startswith(_HASHED) else None
        if hashed is None and len(token) < _MIN_CHARS:
            raise InvalidInput(
                f"The token of {name} in ROTOSCOPE_TOKENS has fewer than {_MIN_CHARS} characters.",
                hint="Use one from rotoscope tokens add, or from openssl rand -hex 32.",
            )
        if hashed is not None and _HEX.fullmatch(hashed) is None:
            raise InvalidInput(
                f"The hash of {name} in ROTOSCOPE_TOKENS is no SHA-256 in hexadecimal digits.",
                hint="Correct it; printf %s TOKEN | sha256sum prints it.",
            )
        found[hashed or hash_token(token)] = name
    return found


class TokenIndex:
    """The names of tokens, found by their hashes in a time that says little of the hashes.

    Args:
        names: names by hash, as hex.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._groups: dict[str, list[tuple[str, str]]] = {}
        for hashed, name in names.items():
            self._groups.setdefault(hashed[:_INDEX_CHARS], []).append((hashed, name))

    def find(self, hashed: str) -> str | None:
        """The name of the token with this hash; None where there is none."""
        found = None
        for known, name in self._groups.get(hashed[:_INDEX_CHARS], ()):
            if hmac.compare_digest(known, hashed):
                found = name
        return found


@dataclass(slots=True)
class TokenVerifier:
    """Tells whether a bearer token is one that the operator has handed out.

    The file is looked at once a second at most, and read when it has changed. While it is broken, what it held is not
    accepted: a token that was revoked must not be good again.

    Attributes:
        given: the tokens out of the settings.
        file: the file of tokens.
        scopes: what every token allows.
        names: the tokens out of the file.
        stamp: the state of the file that `names` was read from.
        clock: seconds that only grow.
    """

    given: TokenIndex
    file: TokenFile
    scopes: tuple[str, ...] = ()
    names: TokenIndex = field(default_factory=lambda: TokenIndex({}))
    stamp: FileStamp = None
    clock: Callable[[], float] = time.monotonic
    _looked_at: float = field(default=float("-inf"), init=False)
    _fault: InvalidInput | None = field(default=None, init=False)
    _reading: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def verify_token(self, token: str) -> SignedInToken | None:
        """Whose token it is; None where it is nobody's.

        Raises:
            SignInUnavailable: it may be in the file, which cannot be used now.
        """
        await self._follow_file()
        hashed = hash_token(token)
        name = self.given.find(hashed) or self.names.find(hashed)
        if name is not None:
            return SignedInToken(principal=name, client_id=name, subject=name, scopes=list(self.scopes))
        if self._fault is not None:
            raise SignInUnavailable("The server cannot read its tokens now.", hint="Its log says more.")
        return None

    async def _follow_file(self) -> None:
        if self.clock() - self._looked_at < _LOOK_SECONDS:
            return
        async with self._reading:
            if self.clock() - self._looked_at < _LOOK_SECONDS:
                return  # another request has looked meanwhile
            try:
                stamp = self.file.stamp()
                if stamp != self.stamp or self._fault is not None:
                    self.names = TokenIndex(await anyio.to_thread.run_sync(_read_names, self.file))
                    self.stamp, self._fault = stamp, None
            except InvalidInput as error:
                if self._fault is None:
                    _log.warning("%s %s", error.message, error.hint)
                self.names, self._fault = TokenIndex({}), error
            self._looked_at = self.clock()


def _read_names(file: TokenFile) -> dict[str, str]:
    return {one.sha256: one.name for one in file.read()}
