"""What a verifier of bearer tokens gives: the token's facts with the principal, or that nobody can tell now."""

from mcp.server.auth.provider import AccessToken

from rotoscope.errors import RotoscopeError

__all__ = ["SignInUnavailable", "SignedInToken"]


class SignInUnavailable(RotoscopeError):
    """Nobody can tell now whether a token is good: what its answer depends on is away."""

    code = "sign_in_unavailable"


class SignedInToken(AccessToken):
    """What a verifier has found out about a bearer token. The token itself is not kept in it.

    Attributes:
        principal: on whose behalf a request with this token comes; unique over everything that the verifier accepts.
        token: empty.
    """

    token: str = ""
    principal: str
