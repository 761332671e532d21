"""How far events were read: nothing that becomes visible late is missed, and what never comes is given up."""

from hypothesis import given
from hypothesis import strategies as st

from rotoscope.store.change_cursor import GAP_SECONDS, ChangeCursor, Gap


def test_a_number_that_is_missing_is_asked_for_again_until_it_is_there() -> None:
    cursor = ChangeCursor(5).advance([6, 9], now=0.0)
    assert (cursor.newest, cursor.gaps, cursor.read_after) == (9, (Gap(7, 8, 0.0),), 6)
    assert [number for number in range(5, 12) if cursor.is_new(number)] == [7, 8, 10, 11]
    cursor = cursor.advance([8, 9, 10], now=1.0)
    assert (cursor.newest, cursor.gaps) == (10, (Gap(7, 7, 0.0),))
    assert cursor.advance([7, 8, 9, 10], now=2.0) == ChangeCursor(10)


def test_a_number_that_does_not_come_in_time_is_given_up() -> None:
    cursor = ChangeCursor(0).advance([2], now=0.0)
    assert cursor.advance([2], now=GAP_SECONDS - 1).gaps
    assert cursor.advance([2], now=GAP_SECONDS) == ChangeCursor(2)


@given(st.permutations(range(1, 25)), st.lists(st.integers(0, 5), min_size=24, max_size=24))
def test_in_whatever_order_events_become_visible_each_is_new_once(order: list[int], pauses: list[int]) -> None:
    visible, cursor, seen = set[int](), ChangeCursor(0), list[int]()
    for number, looks in zip(order, pauses, strict=True):
        visible.add(number)
        for _ in range(looks):
            found = [one for one in visible if one > cursor.read_after]
            seen += [one for one in found if cursor.is_new(one)]
            cursor = cursor.advance(found, now=0.0)
    found = [one for one in visible if one > cursor.read_after]
    seen += [one for one in found if cursor.is_new(one)]
    assert sorted(seen) == list(range(1, 25))


def test_very_many_gaps_are_bounded() -> None:
    cursor = ChangeCursor(0).advance(range(2, 10_000, 2), now=0.0)
    assert len(cursor.gaps) <= 1_000
    assert cursor.is_new(9_997)
