"""Results of slow calls in the order they are asked for, computed ahead of their use by a few threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Cancelled(Exception):
    """The task has ended: nobody waits for the result."""


class Share:
    """What one call holds of the bytes that may be held ahead."""

    def __init__(self, budget: Budget, place: int) -> None:
        self._budget = budget
        self._place = place
        self.size = 0

    def set(self, size: int) -> None:
        """Holds so many bytes, waiting until they are free. Raises Cancelled when the task ends."""
        self._budget._set(self, self._place, size)


class Budget:
    """Bytes of results that nobody has taken yet. The call whose turn it is never waits for them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()

    def _set(self, share: Share, place: int, size: int) -> None:
        with self._changed:
            more = size - share.size
            self._changed.wait_for(
                lambda: self._closed or more <= 0 or place <= self._turn or self._held + more <= self._limit
            )
            if self._closed:
                raise Cancelled
            self._held += more
            share.size = size
            self._changed.notify_all()

    def turn_of(self, place: int) -> None:
        """Says whose result is waited for."""
        with self._changed:
            self._turn = place
            self._changed.notify_all()

    def close(self) -> None:
        """Ends every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Prefetch(Generic[Item, Result]):
    """Calls `work(item, share)` for items ahead of their use: at most `ahead` of them, holding `limit` bytes
    and those of the one that is waited for.

    Leaving the block cancels what has not begun; what has begun ends when it next asks for bytes.
    """

    def __init__(self, work: Callable[[Item, Share], Result], threads: int, ahead: int, limit: int) -> None:
        self._work = work
        self._ahead = ahead
        self._budget = Budget(limit)
        self._pool = ThreadPoolExecutor(threads, "sparkdl-files")
        self._place = 0

    def __enter__(self) -> Prefetch[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """The results, in order. What a call raises is raised here."""
        waiting: deque[tuple[int, Share, Future[Result]]] = deque()
        for item in items:
            share = Share(self._budget, self._place)
            waiting.append((self._place, share, self._pool.submit(self._work, item, share)))
            self._place += 1
            if len(waiting) > self._ahead:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def _next(self, waiting: deque[tuple[int, Share, Future[Result]]]) -> Result:
        place, share, future = waiting.popleft()
        self._budget.turn_of(place)
        result = future.result()
        share.set(0)
        return result
