"""Text from a provider: errors, log lines, progress, status words. It is foreign, so it is cleaned and cut."""

import re
from collections.abc import Iterable, Sequence
from math import isfinite

from rotoscope.contracts.characters import one_line
from rotoscope.providers.http.messages import Json, Reply

__all__ = [
    "LOG_CHARS",
    "LOG_LINES",
    "MESSAGE_LIMIT",
    "clean_line",
    "error_text",
    "header_number",
    "is_success_word",
    "log_lines",
    "log_progress",
    "log_tail",
    "reply_message",
    "unknown_status_note",
]

MESSAGE_LIMIT = 2_000
"""Characters of a provider's text that are kept, of each error and each log line."""

LOG_LINES, LOG_CHARS = 20, 2_000
"""Lines, and characters of them all together, that are kept of a run's log: its end."""

_LOG_LINE_CHARS = 500  # characters of one line
# What opens something to whoever reads it: the query of a URL may be a signature, and its user name a password.
_SECRETS = (
    (re.compile(r"(https?://)[^\s/@\"'<>]{1,500}@", re.IGNORECASE), r"\1[removed]@"),
    (re.compile(r"(https?://[^\s?#\"'<>]{1,2000})[?#][^\s\"'<>]*", re.IGNORECASE), r"\1?[removed]"),
    (re.compile(r"(data:[\w.+/-]{1,100};base64,)[\w+/=%-]+", re.IGNORECASE), r"\1[removed]"),
    (re.compile(r"\b(Bearer|Authorization:|Key|Token) +[\w.~+/=:-]{16,}", re.IGNORECASE), r"\1 [removed]"),
    (re.compile(r"\b(?:r8_|hf_|sk-|gh[opsu]_|AKIA)[\w-]{8,}"), "[removed]"),
)

_MESSAGE_KEYS = ("detail", "error", "message", "msg", "title")

# The bar that tqdm draws. Both official Replicate clients read it at the start of a line only; models also put a
# label before it ("propagate in video: 100%|...| 1/1"). The digits are bounded because the text is not ours.
_BAR = re.compile(r"(?:[^|%]{1,200}:)?\s*([0-9]{1,3})%\s*\|.*?\|\s*([0-9]{1,9})/([0-9]{1,9})")


def clean_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """The visible characters of a text, as one line of at most `limit` characters."""
    return one_line(text, limit)


def reply_message(reply: Reply) -> str | None:
    """The provider's own text in an error reply, cleaned; None where it has none, as with an HTML page."""
    parsed = reply.json()
    return error_text(parsed) if parsed is not None else clean_line(_plain_body(reply)) or None


def _plain_body(reply: Reply) -> str:
    if reply.content_type not in {"", "text/plain"}:
        return ""
    return reply.body[: 4 * MESSAGE_LIMIT].decode("utf-8", errors="replace")


def error_text(value: Json) -> str | None:
    """The text in a provider's error value, cleaned: the value itself, or what is found under the usual names."""
    return clean_line(_find_message(value, depth=4)) or None


def _find_message(value: Json, depth: int) -> str:
    match value:
        case str():
            return value
        case {"msg": str(message), "loc": list(place)}:
            return f"{'.'.join(str(step) for step in place if isinstance(step, str | int))}: {message}"
        case dict() if depth:
            return next(filter(None, (_find_message(value.get(name), depth - 1) for name in _MESSAGE_KEYS)), "")
        case list() if depth:
            return "; ".join(filter(None, (_find_message(item, depth - 1) for item in value[:10])))
        case _:
            return ""


_SUCCESS_WORDS = frozenset(
    {"success", "successful", "succeeded", "succeed", "complete", "completed", "done", "finished", "ok"}
)


def is_success_word(word: Json) -> bool:
    """Whether an undocumented status is another spelling of "finished well".

    Callers believe it only beside an output: the word alone may mean many things.
    """
    return isinstance(word, str) and word.lower() in _SUCCESS_WORDS


def unknown_status_note(word: Json) -> str:
    """The note on a prediction with a status that is not documented."""
    if not isinstance(word, str):
        return "The provider reports no status."
    return f'The provider reports a status that is not known here: "{clean_line(word, limit=40)}".'


def log_lines(logs: Json) -> tuple[str, ...]:
    """The log lines as a terminal would show them.

    `logs` is one text (Replicate) or a list of objects with a `message` (fal). Of a line that was redrawn with
    carriage returns, the last drawing is kept. Empty lines are left out.
    """
    match logs:
        case str():
            text = logs
        case list():
            text = "\n".join(_log_messages(logs))
        case _:
            text = ""
    return tuple(filter(None, (clean_line(_last_drawing(line)) for line in text.split("\n"))))


def _log_messages(entries: list[Json]) -> Iterable[str]:
    for entry in entries:
        if isinstance(entry, dict) and isinstance(message := entry.get("message"), str):
            yield message


def _last_drawing(line: str) -> str:
    return next((drawing for drawing in reversed(line.split("\r")) if drawing.strip()), "")


def log_progress(logs: tuple[str, ...]) -> float | None:
    """The fraction, 0 to 1, that the last progress bar among the log lines shows; None without a bar."""
    bars = (_BAR.match(line) for line in reversed(logs))
    found = next(filter(None, bars), None)
    if found is None:
        return None
    percent, done, total = map(int, found.groups())
    return min(1.0, done / total if total else percent / 100)


def log_tail(lines: Sequence[str]) -> tuple[str, ...]:
    """The end of a log as it is kept and shown: bounded, and without signatures, inlined files and keys.

    Args:
        lines: as `log_lines` gives them.

    Returns:
        At most `LOG_LINES` lines, and `LOG_CHARS` characters of them together.
    """
    kept, left = list[str](), LOG_CHARS
    for line in reversed(lines[-LOG_LINES:]):
        shown = clean_line(_hide_secrets(line), min(_LOG_LINE_CHARS, left))
        if left < 1 or not shown:
            break
        kept.append(shown)
        left -= len(shown)
    return tuple(reversed(kept))


def _hide_secrets(line: str) -> str:
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line


def header_number(text: str | None) -> int | float | None:
    """The number that a header holds, or None when it holds none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    if not isfinite(value):
        return None
    return int(value) if value.is_integer() else value
