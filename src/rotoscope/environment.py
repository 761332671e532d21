"""Every setting of the environment, described once: its name, what it means, its default, and how its text is read.

`settings.read_settings` makes the record that is passed down; the fast start only asks whether the server would accept
what is set. So this module stands between a client and its first reply: it loads nothing but what is loaded anyway
(no `dataclasses`, no `pathlib`, which would take longer than all that is here).
"""

import os
import re

from rotoscope.errors import InvalidInput
from rotoscope.network_environment import NETWORK_SETTINGS
from rotoscope.variables import Environ, Setting, absolute_path, non_negative_number, spending_limit, variable_value

__all__ = [
    "SETTINGS",
    "Setting",
    "check_environment",
    "read_consent_limit",
    "read_database_url",
    "read_home",
    "read_inline_seconds",
    "read_job_limits",
    "read_max_per_call",
    "read_max_per_day",
    "read_resend_limit",
    "read_retention_days",
    "read_roots",
    "read_sandbox",
    "read_sandbox_weights",
    "read_unpriced",
    "variable_value",
]

_SANDBOX_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(?:/[!-~]*)?")
_SANDBOX_WORDS = ("auto", "always", "never")
_SQLITE = re.compile(
    r"sqlite(?:\+pysqlite)?://(?:/[^?]*(?:\?(?:(?:mode|uri|cache|timeout|immutable|nolock|vfs)=[^&?]*&?)*)?)?"
)
_POSTGRESQL = re.compile(r"postgresql\+psycopg://[!-~]+")
_UNPRICED = {"ask": "ask", "run": "run", "refuse": "refuse", "allow": "run"}  # `allow` is the older word for `run`
_MAX_LIMIT_DIGITS = 6


def read_home(environ: Environ) -> str:
    """The folder of jobs and results, as an absolute path.

    Raises:
        InvalidInput: it needs a home or working directory, and there is none.
    """
    shared = variable_value(environ, "XDG_DATA_HOME") or variable_value(environ, "LOCALAPPDATA")
    default = os.path.join(shared, "rotoscope") if shared else "~/.local/share/rotoscope"  # noqa: PTH118 - see above
    return absolute_path(variable_value(environ, "ROTOSCOPE_HOME") or default, "ROTOSCOPE_HOME")


def read_roots(environ: Environ) -> tuple[str, ...] | None:
    """The folders that local files may be read from, as absolute paths; None for the default of the transport."""
    value = variable_value(environ, "ROTOSCOPE_ROOTS")
    if value is None:
        return None
    return tuple(absolute_path(part, "ROTOSCOPE_ROOTS") for part in value.split(os.pathsep) if part.strip())


def read_database_url(environ: Environ) -> str | None:
    """The URL of the ledger's database; None for the file in the home folder."""
    value = variable_value(environ, "ROTOSCOPE_DATABASE_URL")
    if value is None or _SQLITE.fullmatch(value) or _POSTGRESQL.fullmatch(value):
        return value
    raise InvalidInput(
        "ROTOSCOPE_DATABASE_URL must name a file of SQLite, as in sqlite:////full/path.sqlite3, or a database of "
        "PostgreSQL, as in postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
        hint="Correct or unset ROTOSCOPE_DATABASE_URL.",
    )


def read_sandbox(environ: Environ) -> str:
    """`auto`, `always`, `never`, or the URL of a running sandbox, without a slash at its end."""
    value = variable_value(environ, "ROTOSCOPE_SANDBOX") or "auto"
    if value in _SANDBOX_WORDS or _SANDBOX_URL.fullmatch(value):
        return value.rstrip("/")
    raise InvalidInput(
        "ROTOSCOPE_SANDBOX must be auto, always, never, or the URL of a running sandbox.",
        hint="Correct or unset ROTOSCOPE_SANDBOX.",
    )


def read_sandbox_weights(environ: Environ) -> str | None:
    """The absolute path of the sandbox's weights; None where none is named."""
    path = variable_value(environ, "ROTOSCOPE_SANDBOX_WEIGHTS")
    return None if path is None else absolute_path(path, "ROTOSCOPE_SANDBOX_WEIGHTS")


def read_unpriced(environ: Environ) -> str:
    """What becomes of a run whose price is not known: `ask`, `run` or `refuse`."""
    policy = _UNPRICED.get(variable_value(environ, "ROTOSCOPE_UNPRICED") or "ask")
    if policy is None:
        raise InvalidInput(
            "ROTOSCOPE_UNPRICED must be ask, run or refuse.", hint="Correct or unset ROTOSCOPE_UNPRICED."
        )
    return policy


def read_inline_seconds(environ: Environ) -> float | None:
    """How long a tool call may stay open, in seconds; None for what the client's profile says."""
    return non_negative_number(environ, "ROTOSCOPE_INLINE_SECONDS", "seconds")


def read_max_per_call(environ: Environ) -> float | None:
    """The most that one run may cost, in US dollars; None for no limit."""
    return spending_limit(environ, "ROTOSCOPE_MAX_USD_PER_CALL", 5.0, "none")


def read_max_per_day(environ: Environ) -> float | None:
    """The most that may be spent in a day (UTC), in US dollars; None for no limit."""
    return spending_limit(environ, "ROTOSCOPE_MAX_USD_PER_DAY", 20.0, "none")


def read_consent_limit(environ: Environ) -> float | None:
    """The price of a call, in US dollars, above which is asked first; None for never."""
    return spending_limit(environ, "ROTOSCOPE_ASK_ABOVE_USD", 1.0, "never")


def read_resend_limit(environ: Environ) -> float:
    """The price, in US dollars, below which a lost request is sent once more; 0 for never."""
    return non_negative_number(environ, "ROTOSCOPE_RESEND_BELOW_USD", "US dollars") or 0.0


def read_retention_days(environ: Environ) -> float:
    """How many days a job is kept after it has ended and its result was given."""
    days = non_negative_number(environ, "ROTOSCOPE_RETENTION_DAYS", "days")
    return 30.0 if days is None else days


def read_job_limits(environ: Environ) -> dict[str, int]:
    """How many jobs may run at once, by provider; "" stands for every other provider.

    `8` holds for every provider, `replicate=4,fal=2` for some.
    """
    limits = {}
    for part in (variable_value(environ, "ROTOSCOPE_AT_ONCE") or "").split(","):
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


SETTINGS = (
    Setting(
        "ROTOSCOPE_HOME",
        read_home,
        "`~/.local/share/rotoscope`",
        "The folder of jobs, results and your own manifests (`models/`).",
    ),
    Setting(
        "ROTOSCOPE_DATABASE_URL",
        read_database_url,
        "a file in `ROTOSCOPE_HOME`",
        "Where jobs are remembered: `sqlite:////full/path.sqlite3`, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.",
    ),
    Setting(
        "ROTOSCOPE_ROOTS",
        read_roots,
        "the working directory and your home",
        "The folders that an assistant's paths may lead to; never anything hidden.",
    ),
    Setting(
        "ROTOSCOPE_SANDBOX",
        read_sandbox,
        "`auto`",
        "`auto`: the sandbox serves while no key is set; `always`, `never`, or the URL of a running sandbox.",
    ),
    Setting(
        "ROTOSCOPE_SANDBOX_WEIGHTS",
        read_sandbox_weights,
        "`weights/u2netp.onnx` in `ROTOSCOPE_HOME`",
        "The file that makes the sandbox's masks good; `rotoscope sandbox weights` brings it.",
    ),
    Setting(
        "ROTOSCOPE_INLINE_SECONDS",
        read_inline_seconds,
        "by client",
        "How long a call may stay open before it is answered with a job.",
    ),
    Setting(
        "ROTOSCOPE_MAX_USD_PER_CALL",
        read_max_per_call,
        "`5`",
        "The most that one run may cost; `none` lifts the cap, `0` refuses every run.",
    ),
    Setting(
        "ROTOSCOPE_MAX_USD_PER_DAY",
        read_max_per_day,
        "`20`",
        "The most that may be spent in a day (UTC); `none` lifts the cap, `0` refuses every run.",
    ),
    Setting(
        "ROTOSCOPE_ASK_ABOVE_USD",
        read_consent_limit,
        "`1`",
        "The price of a call above which you are asked first; `never` asks nobody.",
    ),
    Setting(
        "ROTOSCOPE_UNPRICED",
        read_unpriced,
        "`ask`",
        "What becomes of a run whose price is not known: `ask`, `run` or `refuse`.",
    ),
    Setting(
        "ROTOSCOPE_RESEND_BELOW_USD",
        read_resend_limit,
        "`0`",
        "The price below which a request whose reply was lost, and whose run is not found, is sent once more.",
    ),
    Setting(
        "ROTOSCOPE_RETENTION_DAYS",
        read_retention_days,
        "`30`",
        "How long a job is kept after it has ended and its result was given.",
    ),
    Setting(
        "ROTOSCOPE_AT_ONCE",
        read_job_limits,
        "no limit",
        "How many jobs run at once: `8`, or by provider `replicate=4,fal=2`.",
    ),
    *NETWORK_SETTINGS,
)


def check_environment(environ: Environ) -> None:
    """Read every setting.

    Raises:
        InvalidInput: one has a value that cannot be used; the message names it.
    """
    for setting in SETTINGS:
        setting.read(environ)
