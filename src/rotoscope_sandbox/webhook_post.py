"""How a webhook leaves the sandbox: one POST over plain http, or whatever a test puts in its place."""

import http.client
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

__all__ = ["PostWebhook", "post_by_http"]

PostWebhook: TypeAlias = Callable[[str, bytes, Mapping[str, str]], int | None]
"""Sends a body with headers to an address, once, and gives the status of the answer; None where there was none. It is
called in a thread that may block."""

_SEND_SECONDS = 5.0
_log = logging.getLogger(__name__)


def post_by_http(url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
    """One attempt; redirects are not followed. The status of the answer, or None where there was none."""
    parts = urlsplit(url)
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_SEND_SECONDS)
    try:
        connection.request("POST", target, body, dict(headers))
        answer = connection.getresponse()
        answer.read(1024)
    except (OSError, http.client.HTTPException) as problem:
        _log.info("a webhook was not taken: %s", problem)
        return None
    else:
        return answer.status
    finally:
        connection.close()
