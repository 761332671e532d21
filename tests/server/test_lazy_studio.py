"""A server with nothing to do looks whether another process has left jobs, and loads nothing for that."""

import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from rotoscope.errors import StorageFailed
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio


class Looks:
    """What the glances see, one after the other; at the end always the last."""

    def __init__(self, *seen: bool) -> None:
        self.count = 0
        self.enough = threading.Event()
        self._seen: Iterator[bool] = iter(seen)
        self._last = seen[-1]

    def __call__(self) -> bool:
        self.count += 1
        if self.count >= 8:
            self.enough.set()
        return next(self._seen, self._last)


class Studio:
    """Begins, and says so."""

    def __init__(self) -> None:
        self.begun = anyio.Event()

    def start_background(self, _: Any) -> None:
        self.begun.set()


@pytest.mark.parametrize(("seen", "looks"), [((True,), 1), ((False, False, True), 4), ((False, True, False, True), 5)])
async def test_jobs_that_are_left_at_any_time_are_taken_up_without_a_call(seen: tuple[bool, ...], looks: int) -> None:
    """Later than at the start it takes two looks: what was opened a moment ago elsewhere is not left."""
    studio, see = Studio(), Looks(*seen)
    lazy = LazyStudio(lambda *_: studio, see, check_seconds=0.01)  # type: ignore[arg-type]
    with anyio.fail_after(180):
        async with lazy.lifespan():
            await studio.begun.wait()
            assert see.count == looks


async def test_where_nothing_was_left_nothing_is_loaded() -> None:
    see, opened = Looks(False, True, False), []
    lazy = LazyStudio(lambda *given: opened.append(given), see, check_seconds=0.01)  # type: ignore[arg-type]
    with anyio.fail_after(180):
        async with lazy.lifespan():
            await anyio.to_thread.run_sync(see.enough.wait)
    assert opened == []


async def test_a_home_that_cannot_be_used_ends_no_server_and_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def refuse(*_: Any) -> Any:
        tried.set()
        raise StorageFailed("The disk is full.", hint="Make room.")

    lazy = LazyStudio(refuse, lambda: True, check_seconds=0.01)
    with anyio.fail_after(180):
        async with lazy.lifespan():
            await anyio.to_thread.run_sync(tried.wait)
            with pytest.raises(StorageFailed):
                await lazy.studio()
    assert len([line for line in caplog.records if "not driven yet" in line.getMessage()]) == 1
