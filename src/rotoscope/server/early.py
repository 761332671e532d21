"""What is answered before there is a job: the call goes on when it is made again."""

from rotoscope.contracts.arguments import Arguments
from rotoscope.contracts.results import AnyResult, Cost, JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import StillChecking

__all__ = ["checking_answer", "starting_error"]

_MAX_ECHO_CHARS = 200  # characters of an argument that are repeated
_STARTING = "rotoscope is still starting; nothing was sent or spent yet."


def starting_error() -> StillChecking:
    """The studio is not open yet when the client must be answered."""
    return StillChecking(_STARTING, hint="Call again with the very same arguments.")


def checking_answer(tool: str, arguments: Arguments, why: StillChecking, seconds: float) -> JobResult:
    """The answer to a call whose client must hear something while its request is still being checked.

    There is no job yet, so there is no id to ask for; the same call takes up the check, or what it found.

    Args:
        tool: the tool.
        arguments: what it was asked.
        why: what takes so long.
        seconds: how long the call was open.
    """
    contract = TOOLS[tool].result
    shape = contract if issubclass(contract, JobResult) else AnyResult
    given = arguments.model_dump(mode="json", exclude_none=True, exclude={"dry_run"})
    return shape(
        job_id="",
        status="queued",
        tool=tool,
        model=str(given.get("model") or ""),
        provider="",
        sandbox=False,
        progress=0.0,
        message=why.message,
        elapsed_seconds=round(seconds, 3),
        cost=Cost(charged_usd=0.0),
        request={name: _shorten_argument(value) for name, value in given.items()},
        next_step=f"Call {tool} again with the very same arguments: it goes on from there, and pays once.",
        dry_run=bool(getattr(arguments, "dry_run", False)),
    )


def _shorten_argument(value: object) -> object:
    if isinstance(value, list):
        return [_shorten_argument(one) for one in value]
    return f"{value[:_MAX_ECHO_CHARS]}…" if isinstance(value, str) and len(value) > _MAX_ECHO_CHARS else value
