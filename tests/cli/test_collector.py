"""The garbage collector of a process that serves: full looks are rare, and spare what was loaded."""

import gc
import math
from collections.abc import Iterator

import pytest

from rotoscope.cli.collector import tune_garbage_collector


@pytest.fixture
def tuned() -> Iterator[tuple[int, int, int]]:
    """The numbers before."""
    before = gc.get_threshold()
    tune_garbage_collector()
    yield before
    gc.unfreeze()
    gc.set_threshold(*before)


class Knot:
    """Refers to itself, so that only the collector frees it."""

    freed = 0

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        Knot.freed += 1


def test_what_is_loaded_is_spared_and_full_looks_are_rare(tuned: tuple[int, int, int]) -> None:
    assert gc.get_freeze_count() > 10_000
    assert math.prod(gc.get_threshold()) > 100 * math.prod(tuned)


def test_what_becomes_garbage_later_is_still_freed(tuned: tuple[int, int, int]) -> None:
    Knot.freed = 0
    for _ in range(10):
        Knot()
    gc.collect()
    assert Knot.freed == 10
