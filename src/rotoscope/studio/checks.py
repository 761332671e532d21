"""Checks: what must be known of a request before its job can be opened is found out once, whoever asks meanwhile.

Media are decoded and measured before there is a job, and that may take longer than a client waits. So a check belongs
to the process and not to the request that began it: it goes on when its client gives up, and an equal request joins it.
What it found waits for that request a while. No check sends or spends anything.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.contracts.arguments import Arguments
from rotoscope.errors import RotoscopeError, StillChecking, UserMistake
from rotoscope.media.paths import local_path
from rotoscope.providers.http.messages import Json

__all__ = ["RequestChecks", "compute_check_key", "strings_in_arguments"]

_OUTCOME_SECONDS = 120.0  # for which what a check found waits to be asked for

Found = TypeVar("Found")


@dataclass(slots=True)
class _Check(Generic[Found]):
    """One check: what it found, or why the request is refused."""

    done: anyio.Event = field(default_factory=anyio.Event)
    ended_at: float | None = None
    outcome: Found | None = None
    error: Exception | None = None

    @property
    def result(self) -> Found:
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RotoscopeError("rotoscope is ending.", hint="Call again when it has started anew.", code="internal")
        return self.outcome


class RequestChecks(Generic[Found]):
    """The checks that go on in this process, and those whose outcome nobody has used yet.

    Args:
        tasks: where they go on; it belongs to the process.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._known: dict[str, _Check[Found]] = {}

    async def join(self, key: str, work: Callable[[], Awaitable[Found]], seconds: float, *, keep: bool) -> Found:
        """What the check of a request finds; of one that goes on already, or of a new one.

        Args:
            key: equal for requests that one check is good for.
            work: checks the request.
            seconds: how long this request may wait.
            keep: whether the outcome stays for the next equal request. Who opens a job with it uses it up: an equal
                request after that is checked anew.

        Raises:
            StillChecking: it goes on; the request is to be made again.
            RotoscopeError: what the check refuses.
        """
        self._drop_expired()
        check = self._known.get(key)
        if check is None:
            check = self._known[key] = _Check[Found]()
            self._tasks.start_soon(self._run_check, key, check, work)
        with anyio.move_on_after(max(seconds, 0.0)):
            await check.done.wait()
        if not check.done.is_set():
            raise StillChecking(
                "The media of this request are still being checked; nothing was sent or spent yet.",
                hint="Call again with the very same arguments: it goes on from there.",
            )
        if not keep and self._known.get(key) is check:
            del self._known[key]
        return check.result

    async def _run_check(self, key: str, check: _Check[Found], work: Callable[[], Awaitable[Found]]) -> None:
        try:
            check.outcome = await work()
        except Exception as error:  # noqa: BLE001 - it is raised to whoever asks; here it would end every job
            check.error = error
        finally:
            check.ended_at = anyio.current_time()
            if check.outcome is None and check.error is None:
                self._known.pop(key, None)
            check.done.set()

    def _drop_expired(self) -> None:
        now = anyio.current_time()
        for key, check in list(self._known.items()):
            if check.ended_at is not None and now - check.ended_at > _OUTCOME_SECONDS:
                del self._known[key]


async def compute_check_key(tool: str, arguments: Arguments, principal: str) -> str:
    """What tells a request from others before anything of it was read: its arguments as given, without `dry_run`.

    A file that was changed meanwhile makes another request of it.
    """
    given: dict[str, Json] = arguments.model_dump(mode="json", exclude={"dry_run"})
    asked: list[Json] = [principal, tool, given]
    return await anyio.to_thread.run_sync(_hash_request, asked, _strings_in(given))


def strings_in_arguments(arguments: Arguments) -> list[str]:
    """Every string of some arguments, without those that are files themselves."""
    return _strings_in(arguments.model_dump(mode="json"))


def _hash_request(asked: list[Json], words: list[str]) -> str:
    canonical = json.dumps([asked, [_file_state(word) for word in words]], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _strings_in(given: Json) -> list[str]:
    """Every string in a value, without data URIs."""
    if isinstance(given, str):
        return [] if given[:5].lower() == "data:" else [given]
    parts = given.values() if isinstance(given, dict) else given if isinstance(given, list) else ()
    return [word for part in parts for word in _strings_in(part)]


def _file_state(word: str) -> tuple[int, int] | None:
    """When a file was written last, and its size; None where there is none of that name."""
    if "://" in word and not word.lower().startswith("file://"):
        return None
    try:
        found = local_path(word).expanduser().stat()
    except (UserMistake, OSError, ValueError, RuntimeError):
        return None
    return found.st_mtime_ns, found.st_size
