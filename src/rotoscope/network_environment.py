"""The settings of a server that others reach, as text: its address, sign-in, secrets, object store and log.

As light as `environment`, whose table ends with this one.
"""

import re

from rotoscope.errors import InvalidInput
from rotoscope.variables import Environ, Setting, choose_word, non_negative_number, spending_limit, variable_value

__all__ = [
    "NETWORK_SETTINGS",
    "read_allowed_origins",
    "read_audience",
    "read_day_limit_for_all",
    "read_encryption_keys",
    "read_issuer",
    "read_jobs_per_principal",
    "read_key_owner",
    "read_log_format",
    "read_metrics_token",
    "read_public_url",
    "read_required_scopes",
    "read_secrets",
    "read_sign_in",
    "read_store_public_url",
    "read_store_url",
    "read_tokens",
    "read_tokens_file",
]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_STORE = re.compile(r"(?:s3|gs|az)://[a-z0-9][a-z0-9._-]{1,62}(?:/[A-Za-z0-9._/-]*)?")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_TOKEN_ENTRY = re.compile(r"([A-Za-z0-9@._-]{1,128})=(\S{1,512})")
_MIN_SECRET = 32  # characters


def read_public_url(environ: Environ) -> str | None:
    """The address at which clients reach the server, without a slash at its end; None where it is not set."""
    return _read_origin_url(environ, "ROTOSCOPE_PUBLIC_URL")


def read_allowed_origins(environ: Environ) -> tuple[str, ...]:
    """The origins of web pages that may call the server, beside its own."""
    given = _read_list(environ, "ROTOSCOPE_ALLOWED_ORIGINS")
    for one in given:
        if _ORIGIN.fullmatch(one) is None:
            raise _refusal("ROTOSCOPE_ALLOWED_ORIGINS", "must be origins such as https://app.example, with commas")
    return given


def read_sign_in(environ: Environ) -> str:
    """How people sign in: `none`, `tokens`, `issuer` or `people`."""
    return choose_word(environ, "ROTOSCOPE_SIGN_IN", ("none", "tokens", "issuer", "people"))


def read_tokens(environ: Environ) -> tuple[tuple[str, str], ...]:
    """Pairs of a principal and its bearer token, or `sha256:` and the token's hash in hex."""
    pairs = []
    for entry in _read_list(environ, "ROTOSCOPE_TOKENS"):
        found = _TOKEN_ENTRY.fullmatch(entry)
        if found is None:
            raise _refusal("ROTOSCOPE_TOKENS", "must be NAME=TOKEN, with commas between them")
        pairs.append((found[1], found[2]))
    return tuple(pairs)


def read_tokens_file(environ: Environ) -> str | None:
    """The file of bearer tokens' hashes; None for `tokens.json` in the home folder."""
    return variable_value(environ, "ROTOSCOPE_TOKENS_FILE")


def read_issuer(environ: Environ) -> str | None:
    """The identity provider's issuer, exactly as its tokens name it."""
    _read_origin_url(environ, "ROTOSCOPE_ISSUER")
    return variable_value(environ, "ROTOSCOPE_ISSUER")


def read_audience(environ: Environ) -> str | None:
    """The audience that tokens of the identity provider must name; None for the address of the MCP endpoint."""
    return variable_value(environ, "ROTOSCOPE_AUDIENCE")


def read_required_scopes(environ: Environ) -> tuple[str, ...]:
    """The scopes that every token must have."""
    return tuple((variable_value(environ, "ROTOSCOPE_SCOPES") or "").split())


def read_secrets(environ: Environ) -> tuple[str, ...]:
    """What addresses and the state of requests are signed with: the first signs, the others still verify for a day."""
    return _read_secrets(environ, "ROTOSCOPE_SECRETS")


def read_encryption_keys(environ: Environ) -> tuple[str, ...]:
    """What the principals' own provider keys are encrypted with: the first encrypts, all decrypt."""
    return _read_secrets(environ, "ROTOSCOPE_ENCRYPTION_KEYS")


def read_key_owner(environ: Environ) -> str:
    """Whose provider keys are used: the `operator`'s, or each `principal`'s own."""
    return choose_word(environ, "ROTOSCOPE_KEYS", ("operator", "principal"))


def read_store_url(environ: Environ) -> str | None:
    """The object store of results, without a slash at its end; None for the folder in the home."""
    value = variable_value(environ, "ROTOSCOPE_STORE_URL")
    if value is None or _STORE.fullmatch(value):
        return value if value is None else value.rstrip("/")
    raise _refusal("ROTOSCOPE_STORE_URL", "must be s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")


def read_store_public_url(environ: Environ) -> str | None:
    """Where others reach the object store, without a slash at its end; None: at the address that we use."""
    return _read_origin_url(environ, "ROTOSCOPE_STORE_PUBLIC_URL")


def read_day_limit_for_all(environ: Environ) -> float | None:
    """The most that all principals together may spend in a day (UTC), in US dollars; None for no limit."""
    name = "ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL"
    return None if variable_value(environ, name) is None else spending_limit(environ, name, 0.0, "none")


def read_jobs_per_principal(environ: Environ) -> int | None:
    """How many jobs of one principal run at once; None for no limit."""
    number = non_negative_number(environ, "ROTOSCOPE_AT_ONCE_PER_PRINCIPAL", "jobs")
    if number is None:
        return None
    if number < 1 or number != int(number):
        raise _refusal("ROTOSCOPE_AT_ONCE_PER_PRINCIPAL", "must be a whole number of jobs, 1 or more")
    return int(number)


def read_metrics_token(environ: Environ) -> str | None:
    """The bearer token by which the operator's monitoring reads /metrics; None: there is none."""
    given = variable_value(environ, "ROTOSCOPE_METRICS_TOKEN")
    if given is not None and len(given) < _MIN_SECRET:
        raise _refusal("ROTOSCOPE_METRICS_TOKEN", f"must have {_MIN_SECRET} characters or more")
    return given


def read_log_format(environ: Environ) -> str:
    """How the log is written: as `text`, or one JSON object a line."""
    return choose_word(environ, "ROTOSCOPE_LOG", ("text", "json"))


NETWORK_SETTINGS = (
    Setting(
        "ROTOSCOPE_PUBLIC_URL",
        read_public_url,
        "the address that --http names",
        "The address at which clients reach the server, such as `https://rotoscope.example`.",
    ),
    Setting(
        "ROTOSCOPE_ALLOWED_ORIGINS",
        read_allowed_origins,
        "none",
        "Origins of web pages that may call the server over HTTP, beside its own.",
    ),
    Setting(
        "ROTOSCOPE_SIGN_IN",
        read_sign_in,
        "`none`",
        "Who may call over HTTP: `tokens`, `issuer` (an identity provider), `people` (our own sign-in); "
        "`none` only on loopback.",
    ),
    Setting(
        "ROTOSCOPE_TOKENS",
        read_tokens,
        "none",
        "Bearer tokens as `NAME=TOKEN`, with commas; `NAME=sha256:HEX` keeps only the hash here.",
    ),
    Setting(
        "ROTOSCOPE_TOKENS_FILE",
        read_tokens_file,
        "tokens.json in `ROTOSCOPE_HOME`",
        "Where tokens are kept by the command of that name: names and hashes, no token.",
    ),
    Setting(
        "ROTOSCOPE_ISSUER", read_issuer, "none", "The identity provider's issuer URL, for `ROTOSCOPE_SIGN_IN=issuer`."
    ),
    Setting(
        "ROTOSCOPE_AUDIENCE",
        read_audience,
        "the address of the MCP endpoint",
        "The audience that the identity provider's tokens must name.",
    ),
    Setting("ROTOSCOPE_SCOPES", read_required_scopes, "none", "The scopes that every token must have, with spaces."),
    Setting(
        "ROTOSCOPE_SECRETS",
        read_secrets,
        "made once, in `ROTOSCOPE_HOME`",
        "What signs addresses and the state of requests, 32 characters or more; NEW,OLD while an old one still "
        "verifies, for a day.",
    ),
    Setting(
        "ROTOSCOPE_KEYS",
        read_key_owner,
        "`operator`",
        "Whose provider keys are used: the `operator`'s, or each `principal`'s own.",
    ),
    Setting(
        "ROTOSCOPE_ENCRYPTION_KEYS",
        read_encryption_keys,
        "none",
        "What principals' provider keys are encrypted with, 32 characters or more; NEW,OLD after a change.",
    ),
    Setting(
        "ROTOSCOPE_STORE_URL",
        read_store_url,
        "the folder vault in `ROTOSCOPE_HOME`",
        "Where results are kept: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.",
    ),
    Setting(
        "ROTOSCOPE_STORE_PUBLIC_URL",
        read_store_public_url,
        "the address of the store",
        "Where clients reach an S3 store whose endpoint is an inner one; its signed addresses begin with it.",
    ),
    Setting(
        "ROTOSCOPE_MAX_USD_PER_DAY_FOR_ALL",
        read_day_limit_for_all,
        "no limit",
        "The most that all principals together may spend in a day (UTC).",
    ),
    Setting(
        "ROTOSCOPE_AT_ONCE_PER_PRINCIPAL",
        read_jobs_per_principal,
        "no limit",
        "How many jobs of one principal run at once.",
    ),
    Setting(
        "ROTOSCOPE_METRICS_TOKEN",
        read_metrics_token,
        "none",
        "The bearer token that reads /metrics, 32 characters or more; without one only this machine may.",
    ),
    Setting("ROTOSCOPE_LOG", read_log_format, "`text`", "How the log is written: `text`, or `json`: an object a line."),
)


def _refusal(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name} {what}.", hint=f"Correct or unset {name}.")


def _read_list(environ: Environ, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in (variable_value(environ, name) or "").split(",") if part.strip())


def _read_secrets(environ: Environ, name: str) -> tuple[str, ...]:
    given = _read_list(environ, name)
    if any(len(one) < _MIN_SECRET for one in given):
        raise _refusal(name, f"must have {_MIN_SECRET} characters or more, with a comma between a new and an old one")
    return given


def _read_origin_url(environ: Environ, name: str) -> str | None:
    """An address that credentials are sent to: https, or http on this machine."""
    value = variable_value(environ, name)
    if value is None:
        return None
    found = _URL.fullmatch(value)
    if found is None or (found[1] == "http" and found[2] not in _LOOPBACK):
        raise _refusal(name, "must be an https address (http only for localhost) without a query")
    return value.rstrip("/")
