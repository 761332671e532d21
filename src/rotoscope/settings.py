"""The environment, read once at the door and passed down."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rotoscope.errors import InvalidInput

__all__ = ["Settings", "UnpricedPolicy", "read_settings", "user_home", "working_folder"]

UnpricedPolicy = Literal["ask", "run", "refuse"]

_UNEXPANDED = re.compile(r"^\$\{?\w+(:-)?\}?$")
_RETENTION_DAYS = 30.0
_MAX_USD = 1e9
_SANDBOX_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(?:/[!-~]*)?")
_SQLITE = re.compile(
    r"sqlite(?:\+pysqlite)?://(?:/[^?]*(?:\?(?:(?:mode|uri|cache|timeout|immutable|nolock|vfs)=[^&?]*&?)*)?)?"
)
_MAX_LIMIT_DIGITS = 6  # digits
_SANDBOX_WORDS = ("auto", "always", "never")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decided.

    Attributes:
        home: the folder of the ledger, the vault and the user's own manifests (`models/`).
        roots: folders that local files may be read from; None means the default of the transport.
        inline_seconds: how long a tool call may stay open, for every client; None means by client.
        ask_above_usd: the price of a call, in US dollars, above which is asked first; None means never.
        sandbox: `auto`, `always`, `never`, or the URL of a running sandbox.
        database: where the ledger is: a file, or a URL as SQLAlchemy writes it.
        max_usd_per_call, max_usd_per_day: spending caps in US dollars; None is without a limit.
        unpriced: what becomes of a run whose price is not known: `ask`, `run` or `refuse`.
        resend_below_usd: a paying request whose reply is lost and whose run is not found is sent once more where it
            costs less, in US dollars; 0 means never.
        retention_days: how long a job is kept after it has ended and that was told.
        at_once: how many jobs may run at once at a provider, by its name; "" stands for every other provider.
    """

    home: Path
    database: Path | str
    roots: tuple[Path, ...] | None
    inline_seconds: float | None
    sandbox: str
    max_usd_per_call: float | None
    max_usd_per_day: float | None
    ask_above_usd: float | None
    unpriced: UnpricedPolicy
    resend_below_usd: float
    retention_days: float
    at_once: Mapping[str, int]
    variables: Mapping[str, str] = field(repr=False)
    """Everything else that was set, kept for the providers' own names; never shown, it holds keys."""

    def variable(self, name: str) -> str | None:
        """The value of an environment variable, or None when it is unset, empty or was never expanded."""
        return _variable_value(self.variables, name)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment.

    Raises:
        InvalidInput: a variable has a value that cannot be used; the message names it.
    """
    home = _absolute_folder(_variable_value(environ, "ROTOSCOPE_HOME") or _default_home(environ), "ROTOSCOPE_HOME")
    return Settings(
        home=home,
        # A file, because no URL means the same file to every version of SQLAlchemy when its name holds ?, # or %41.
        database=_database_url(environ) or home / "ledger.sqlite3",
        roots=_local_roots(environ),
        inline_seconds=_non_negative_number(environ, "ROTOSCOPE_INLINE_SECONDS", "seconds"),
        sandbox=_sandbox_choice(environ),
        max_usd_per_call=_spending_cap(environ, "ROTOSCOPE_MAX_USD_PER_CALL", 5.0, "none"),
        max_usd_per_day=_spending_cap(environ, "ROTOSCOPE_MAX_USD_PER_DAY", 20.0, "none"),
        ask_above_usd=_spending_cap(environ, "ROTOSCOPE_ASK_ABOVE_USD", 1.0, "never"),
        unpriced=_read_unpriced_policy(environ),
        resend_below_usd=_non_negative_number(environ, "ROTOSCOPE_RESEND_BELOW_USD", "US dollars") or 0.0,
        retention_days=_retention_days(environ),
        at_once=_jobs_at_once(environ),
        variables=dict(environ),
    )


def _variable_value(environ: Mapping[str, str], name: str) -> str | None:
    """Some hosts pass `""`, `$NAME` or `${NAME}` for a variable that the user never set."""
    value = environ.get(name, "").strip()
    return None if not value or _UNEXPANDED.match(value) else value


def _default_home(environ: Mapping[str, str]) -> str:
    shared = _variable_value(environ, "XDG_DATA_HOME") or _variable_value(environ, "LOCALAPPDATA")
    return str(Path(shared) / "rotoscope") if shared else "~/.local/share/rotoscope"


def _absolute_folder(text: str, name: str) -> Path:
    """An absolute path. Service accounts and containers may have no home directory, and none but them notices."""
    try:
        return Path(text.strip()).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise InvalidInput(
            f"{name} needs the home directory or the working directory, and there is none.",
            hint=f"Set {name} to an absolute path.",
        ) from error


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


def _local_roots(environ: Mapping[str, str]) -> tuple[Path, ...] | None:
    value = _variable_value(environ, "ROTOSCOPE_ROOTS")
    if value is None:
        return None
    return tuple(_absolute_folder(part, "ROTOSCOPE_ROOTS") for part in value.split(os.pathsep) if part.strip())


def _database_url(environ: Mapping[str, str]) -> str | None:
    value = _variable_value(environ, "ROTOSCOPE_DATABASE_URL")
    if value is None or _SQLITE.fullmatch(value):
        return value
    raise InvalidInput(
        "ROTOSCOPE_DATABASE_URL must name a file of SQLite, as in sqlite:////full/path.sqlite3; nothing else is "
        "supported yet.",
        hint="Correct or unset ROTOSCOPE_DATABASE_URL.",
    )


def _non_negative_number(environ: Mapping[str, str], name: str, of: str) -> float | None:
    value = _variable_value(environ, name)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InvalidInput(f"{name} must be a number of {of}, 0 or more.", hint=f"Correct or unset {name}.")
    return number


def _spending_cap(environ: Mapping[str, str], name: str, default: float, none_word: str) -> float | None:
    """An amount; None where the operator said the word for "without"."""
    if (_variable_value(environ, name) or "").lower() == none_word:
        return None
    cap = _non_negative_number(environ, name, f"US dollars (or {none_word})")
    if cap is not None and cap > _MAX_USD:
        raise InvalidInput(f"{name} is beyond all reason.", hint=f"Set it to {none_word} to be without that limit.")
    return default if cap is None else cap


def _retention_days(environ: Mapping[str, str]) -> float:
    days = _non_negative_number(environ, "ROTOSCOPE_RETENTION_DAYS", "days")
    return _RETENTION_DAYS if days is None else days


def _read_unpriced_policy(environ: Mapping[str, str]) -> UnpricedPolicy:
    match _variable_value(environ, "ROTOSCOPE_UNPRICED"):
        case None | "ask":
            return "ask"
        case "run" | "allow":  # `allow` is the older word
            return "run"
        case "refuse":
            return "refuse"
    raise InvalidInput("ROTOSCOPE_UNPRICED must be ask, run or refuse.", hint="Correct or unset ROTOSCOPE_UNPRICED.")


def _jobs_at_once(environ: Mapping[str, str]) -> dict[str, int]:
    """`8` for every provider, `replicate=4,fal=2` for some."""
    limits = {}
    for part in (_variable_value(environ, "ROTOSCOPE_AT_ONCE") or "").split(","):
        name, _, number = part.rpartition("=")
        if not part.strip():
            continue
        digits = number.strip()
        if not digits.isdecimal() or len(digits) > _MAX_LIMIT_DIGITS or not int(digits):
            raise InvalidInput(
                "ROTOSCOPE_AT_ONCE must be a number of jobs, such as 8, or replicate=4,fal=2.",
                hint="Correct or unset ROTOSCOPE_AT_ONCE.",
            )
        limits[name.strip()] = int(digits)
    return limits


def _sandbox_choice(environ: Mapping[str, str]) -> str:
    value = _variable_value(environ, "ROTOSCOPE_SANDBOX") or "auto"
    if value in _SANDBOX_WORDS or _SANDBOX_URL.fullmatch(value):
        return value.rstrip("/")
    raise InvalidInput(
        "ROTOSCOPE_SANDBOX must be auto, always, never, or the URL of a running sandbox.",
        hint="Correct or unset ROTOSCOPE_SANDBOX.",
    )
