"""The operator's settings as one record: read once from the environment and passed down."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from rotoscope import environment, network_environment
from rotoscope.variables import variable_value

__all__ = [
    "KeyOwner",
    "NetworkSettings",
    "Settings",
    "SignIn",
    "UnpricedPolicy",
    "read_settings",
    "user_home",
    "working_folder",
]

UnpricedPolicy = Literal["ask", "run", "refuse"]
SignIn = Literal["none", "tokens", "issuer", "people"]
KeyOwner = Literal["operator", "principal"]


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the operator decided about a server that others reach, and about what several servers share.

    Attributes:
        public_url: the address at which clients reach the server, without a slash at its end; None: where it listens.
        allowed_origins: the origins of web pages that may call it, beside its own.
        sign_in: who may call it.
        tokens: principals and their bearer tokens, or `sha256:` and a token's hash.
        tokens_file: the file of tokens' hashes, whether or not it is there.
        issuer: the identity provider.
        audience: what its tokens must be meant for; None: the address of the MCP endpoint.
        scopes: what every token must allow.
        secrets: what addresses and the state of requests are signed with, the newest first; none: made at home.
        key_owner: whose provider keys are used.
        encryption_keys: what the principals' own provider keys are encrypted with, the newest first.
        store_url: the object store of results; None: the folder at home.
        store_public_url: where others reach that store, if that is another address than ours.
        max_usd_per_day_for_all: what all principals together may spend in a day, in US dollars; None: no limit.
        at_once_per_principal: how many jobs of one principal run at once; None: no limit.
        metrics_token: the bearer token that reads `/metrics`; None: there is none.
        log_format: `text` or `json`.
    """

    tokens_file: Path
    public_url: str | None = None
    allowed_origins: tuple[str, ...] = ()
    sign_in: SignIn = "none"
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    issuer: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    key_owner: KeyOwner = "operator"
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    store_url: str | None = None
    store_public_url: str | None = None
    max_usd_per_day_for_all: float | None = None
    at_once_per_principal: int | None = None
    metrics_token: str | None = field(default=None, repr=False)
    log_format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decided.

    Attributes:
        home: the folder of the ledger, the vault and the user's own manifests (`models/`).
        roots: folders that local files may be read from; None means the default of the transport.
        inline_seconds: how long a tool call may stay open, for every client; None means by client.
        ask_above_usd: the price of a call, in US dollars, above which is asked first; None means never.
        sandbox: `auto`, `always`, `never`, or the URL of a running sandbox.
        sandbox_weights: the file of the built-in sandbox's weights, whether or not it is there.
        database: where the ledger is: a file, or a URL as SQLAlchemy writes it.
        max_usd_per_call, max_usd_per_day: spending caps in US dollars; None is without a limit.
        unpriced: what becomes of a run whose price is not known: `ask`, `run` or `refuse`.
        resend_below_usd: a paying request whose reply is lost and whose run is not found is sent once more where it
            costs less, in US dollars; 0 means never.
        retention_days: how many days a job is kept after it has ended and its result was delivered.
        at_once: how many jobs may run at once at a provider, by its name; "" stands for every other provider.
        network: what concerns a server that others reach, and several that share their state.
    """

    home: Path
    database: Path | str
    roots: tuple[Path, ...] | None
    inline_seconds: float | None
    sandbox: str
    sandbox_weights: Path
    max_usd_per_call: float | None
    max_usd_per_day: float | None
    ask_above_usd: float | None
    unpriced: UnpricedPolicy
    resend_below_usd: float
    retention_days: float
    at_once: Mapping[str, int]
    network: NetworkSettings
    variables: Mapping[str, str] = field(repr=False)
    """Everything else that was set, kept for the providers' own names; never shown, it holds keys."""

    def variable(self, name: str) -> str | None:
        """The value of an environment variable, or None when it is unset, empty or was never expanded."""
        return variable_value(self.variables, name)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment.

    Raises:
        InvalidInput: a variable has a value that cannot be used; the message names it.
    """
    home, roots = Path(environment.read_home(environ)), environment.read_roots(environ)
    weights = environment.read_sandbox_weights(environ)
    return Settings(
        home=home,
        # A file, because no URL means the same file to every version of SQLAlchemy when its name holds ?, # or %41.
        database=environment.read_database_url(environ) or home / "ledger.sqlite3",
        roots=None if roots is None else tuple(map(Path, roots)),
        inline_seconds=environment.read_inline_seconds(environ),
        sandbox=environment.read_sandbox(environ),
        sandbox_weights=home / "weights" / "u2netp.onnx" if weights is None else Path(weights),
        max_usd_per_call=environment.read_max_per_call(environ),
        max_usd_per_day=environment.read_max_per_day(environ),
        ask_above_usd=environment.read_consent_limit(environ),
        unpriced=cast("UnpricedPolicy", environment.read_unpriced(environ)),
        resend_below_usd=environment.read_resend_limit(environ),
        retention_days=environment.read_retention_days(environ),
        at_once=environment.read_job_limits(environ),
        network=_read_network_settings(environ, home),
        variables=dict(environ),
    )


def _read_network_settings(environ: Mapping[str, str], home: Path) -> NetworkSettings:
    read, file = network_environment, network_environment.read_tokens_file(environ)
    return NetworkSettings(
        tokens_file=home / "tokens.json" if file is None else Path(file),
        public_url=read.read_public_url(environ),
        allowed_origins=read.read_allowed_origins(environ),
        sign_in=cast("SignIn", read.read_sign_in(environ)),
        tokens=read.read_tokens(environ),
        issuer=read.read_issuer(environ),
        audience=read.read_audience(environ),
        scopes=read.read_required_scopes(environ),
        secrets=read.read_secrets(environ),
        key_owner=cast("KeyOwner", read.read_key_owner(environ)),
        encryption_keys=read.read_encryption_keys(environ),
        store_url=read.read_store_url(environ),
        store_public_url=read.read_store_public_url(environ),
        max_usd_per_day_for_all=read.read_day_limit_for_all(environ),
        at_once_per_principal=read.read_jobs_per_principal(environ),
        metrics_token=read.read_metrics_token(environ),
        log_format=cast("Literal['text', 'json']", read.read_log_format(environ)),
    )


def user_home() -> Path | None:
    """The user's home directory; None where the system knows none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def working_folder() -> Path:
    """The working directory; the top of the file system where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.path.abspath(os.sep))  # noqa: PTH100 - Path has no way that does not ask for the directory
