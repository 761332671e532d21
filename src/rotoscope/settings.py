"""The environment, read once at the door and passed down."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rotoscope.errors import InvalidInput

__all__ = ["Settings", "read_settings"]

_UNEXPANDED = re.compile(r"^\$\{?\w+(:-)?\}?$")
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
        database_url: where the ledger is, as SQLAlchemy writes it.
    """

    home: Path
    database_url: str
    roots: tuple[Path, ...] | None
    inline_seconds: float | None
    sandbox: str
    ask_above_usd: float | None
    variables: Mapping[str, str] = field(repr=False)
    """Everything else that was set, kept for the providers' own names; never shown, it holds keys."""

    def variable(self, name: str) -> str | None:
        """The value of an environment variable, or None when it is unset, empty or was never expanded."""
        return _value(self.variables, name)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment.

    Raises:
        InvalidInput: a variable has a value that cannot be used; the message names it.
    """
    home = Path(_value(environ, "ROTOSCOPE_HOME") or _default_home(environ)).expanduser().absolute()
    return Settings(
        home=home,
        database_url=_value(environ, "ROTOSCOPE_DATABASE_URL") or f"sqlite:///{home / 'ledger.sqlite3'}",
        roots=_roots(environ),
        inline_seconds=_seconds(environ, "ROTOSCOPE_INLINE_SECONDS"),
        sandbox=_sandbox(environ),
        ask_above_usd=_ask_above(environ),
        variables=dict(environ),
    )


def _value(environ: Mapping[str, str], name: str) -> str | None:
    """Some hosts pass `""`, `$NAME` or `${NAME}` for a variable that the user never set."""
    value = environ.get(name, "").strip()
    return None if not value or _UNEXPANDED.match(value) else value


def _default_home(environ: Mapping[str, str]) -> Path:
    shared = _value(environ, "XDG_DATA_HOME") or _value(environ, "LOCALAPPDATA")
    return Path(shared) / "rotoscope" if shared else Path("~/.local/share/rotoscope")


def _roots(environ: Mapping[str, str]) -> tuple[Path, ...] | None:
    value = _value(environ, "ROTOSCOPE_ROOTS")
    if value is None:
        return None
    return tuple(Path(part).expanduser().absolute() for part in value.split(os.pathsep) if part.strip())


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    value = _value(environ, name)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidInput(f"{name} must be a number of seconds, 0 or more.", hint=f"Correct or unset {name}.")
    return seconds


def _ask_above(environ: Mapping[str, str]) -> float | None:
    value = _value(environ, "ROTOSCOPE_ASK_ABOVE_USD") or "1"
    if value.lower() == "never":
        return None
    try:
        usd = float(value)
    except ValueError:
        usd = -1.0
    if not 0 <= usd < float("inf"):
        raise InvalidInput(
            "ROTOSCOPE_ASK_ABOVE_USD must be a price in US dollars, 0 or more, or never.",
            hint="Correct or unset ROTOSCOPE_ASK_ABOVE_USD.",
        )
    return usd


def _sandbox(environ: Mapping[str, str]) -> str:
    value = _value(environ, "ROTOSCOPE_SANDBOX") or "auto"
    if value in _SANDBOX_WORDS or value.startswith(("http://", "https://")):
        return value.rstrip("/")
    raise InvalidInput(
        "ROTOSCOPE_SANDBOX must be auto, always, never, or the URL of a running sandbox.",
        hint="Correct or unset ROTOSCOPE_SANDBOX.",
    )
