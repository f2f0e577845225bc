from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.media.ahead import map_ahead


@given(st.lists(st.integers(), max_size=20), st.integers(1, 4), st.integers(0, 6))
def test_results_come_in_the_order_of_the_items(items: list[int], threads: int, ahead: int) -> None:
    assert list(map_ahead(lambda item: item + 1, items, threads=threads, ahead=ahead)) == [item + 1 for item in items]


def test_no_more_is_taken_than_is_asked_for() -> None:
    taken = []
    results = map_ahead(str, (taken.append(item) or item for item in range(100)), threads=2, ahead=3)
    assert [next(results) for _ in range(2)] == ["0", "1"]
    assert len(taken) == 5
    results.close()
    assert len(taken) == 5


def test_threads_work_side_by_side() -> None:
    together = threading.Barrier(2, timeout=10)
    assert len(list(map_ahead(lambda _: together.wait(), range(4), threads=2, ahead=2))) == 4


def test_an_error_comes_where_its_item_is() -> None:
    def work(item: int) -> float:
        time.sleep(0.01 * item)
        return 1 / (2 - item)

    results = map_ahead(work, range(5), threads=2, ahead=4)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
