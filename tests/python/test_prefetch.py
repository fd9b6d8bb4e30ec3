"""Calls made ahead of their use: in order, bounded in number and bytes, cancelled with their task."""

import threading
import time

import pytest

from sparkdl._prefetch import Cancelled, Prefetch

pytestmark = pytest.mark.once


def until(condition):
    """Waits for what another thread does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_results_come_in_the_order_of_the_items():
    def work(item, share):
        time.sleep(0.002 * (item % 3))
        return item * 10

    with Prefetch(work, threads=4, ahead=8, limit=100) as prefetch:
        assert list(prefetch.results(range(40))) == [item * 10 for item in range(40)]
        assert list(prefetch.results(range(3))) == [0, 10, 20]


def test_no_more_items_are_begun_than_may_be_ahead():
    begun = []

    def work(item, share):
        begun.append(item)
        return item

    with Prefetch(work, threads=2, ahead=3, limit=100) as prefetch:
        results = prefetch.results(iter(range(100)))
        assert next(results) == 0
        until(lambda: len(begun) == 4)
        time.sleep(0.05)
        assert len(begun) == 4


def test_bytes_wait_until_there_is_room_but_never_those_of_the_next_result():
    held, most = [0], [0]
    lock = threading.Lock()

    def work(item, share):
        share.set(60)
        with lock:
            held[0] += 60
            most[0] = max(most[0], held[0])
        return item

    with Prefetch(work, threads=4, ahead=8, limit=100) as prefetch:
        for item, found in enumerate(prefetch.results(range(20))):
            assert found == item
            with lock:
                held[0] -= 60
    # One within the limit, and the one that was waited for.
    assert most[0] <= 180


def test_a_result_larger_than_the_limit_passes():
    def work(item, share):
        share.set(10**9)
        return item

    with Prefetch(work, threads=4, ahead=8, limit=100) as prefetch:
        assert list(prefetch.results(range(5))) == list(range(5))


def test_what_a_call_raises_is_raised_where_its_result_is_taken():
    def work(item, share):
        if item == 2:
            raise KeyError("two")
        return item

    with Prefetch(work, threads=2, ahead=8, limit=100) as prefetch:
        results = prefetch.results(range(5))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(KeyError, match="two"):
            next(results)


def test_the_end_of_the_task_cancels_what_waits_and_what_has_not_begun():
    begun, ended = [], []
    go_on = threading.Event()

    def work(item, share):
        begun.append(item)
        if item:
            go_on.wait(30)
        try:
            share.set(60)
        except Cancelled:
            ended.append(item)
            raise
        return item

    def task():
        with Prefetch(work, threads=2, ahead=50, limit=50) as prefetch:
            yield from prefetch.results(range(50))

    running = task()
    assert next(running) == 0
    until(lambda: len(begun) == 3)
    running.close()
    go_on.set()
    until(lambda: len(ended) == 2)
    assert begun == [0, 1, 2]
