"""How the log is written: on stderr, as text or one JSON object a line, with the request and the job that it is about.

Nothing in a line may pretend to be another line: control characters are written as escapes. Requests' addresses are
logged by none of our modules, and those of the HTTP clients stay silent, because signatures stand in addresses.
"""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["configure_logging", "current_request_id", "note_job", "note_request"]

_REQUEST: ContextVar[str] = ContextVar("request", default="")
_JOB: ContextVar[str] = ContextVar("job", default="")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_QUIET = ("httpx", "httpcore", "httpx2", "httpcore2", "mcp", "uvicorn.access", "sse_starlette")


@contextlib.contextmanager
def note_request(request_id: str) -> Iterator[None]:
    """Lines that are logged inside this block, and in the tasks that it starts, name a request."""
    token = _REQUEST.set(request_id)
    try:
        yield
    finally:
        _REQUEST.reset(token)


@contextlib.contextmanager
def note_job(job_id: str) -> Iterator[None]:
    """Lines that are logged inside this block, and in the tasks that it starts, name a job."""
    token = _JOB.set(job_id)
    try:
        yield
    finally:
        _JOB.reset(token)


def current_request_id() -> str:
    """The request that is served; "" where there is none."""
    return _REQUEST.get()


def configure_logging(form: str = "text", level: int = logging.WARNING) -> None:
    """Write the log on stderr from now on.

    Args:
        form: `text`, or `json` for one object a line, with every request and every stage of a job.
        level: the least that is logged.
    """
    formatter = _JsonFormatter() if form == "json" else _TextFormatter()
    ours = [one for one in logging.getLogger().handlers if isinstance(one.formatter, _JsonFormatter | _TextFormatter)]
    for handler in ours or [logging.StreamHandler(sys.stderr)]:
        handler.setFormatter(formatter)
        logging.basicConfig(handlers=[handler])  # where the program that we run in has handlers, those stay
    logging.getLogger().setLevel(level)
    # Who collects objects wants requests and stages too; a person at a terminal wants what is wrong.
    logging.getLogger("rotoscope").setLevel(logging.INFO if form == "json" else logging.NOTSET)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _TextFormatter(logging.Formatter):
    """`rotoscope: WARNING: text [job 3f… request 9a…]`."""

    def format(self, record: logging.LogRecord) -> str:
        noted = " ".join(f"{name} {value}" for name, value in _noted_ids().items())
        # What belongs to one record stays together: a traceback's further lines are indented.
        text = "\n    ".join(_escape(self._plain_text(record)).splitlines())
        return f"rotoscope: {record.levelname}: {text}{f' [{noted}]' if noted else ''}"

    def _plain_text(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonFormatter(logging.Formatter):
    """`{"time": "2026-11-28T09:00:00.123Z", "level": "warning", "logger": "…", "message": "…", "job": "3f…"}`."""

    def format(self, record: logging.LogRecord) -> str:
        import json  # a process that writes text does without

        whole, millis = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)), int(record.msecs)
        line = {
            "time": f"{whole}.{millis:03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_noted_ids(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def _noted_ids() -> dict[str, str]:
    named = {"job": _JOB.get(), "request": _REQUEST.get()}
    return {name: value for name, value in named.items() if value}


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
