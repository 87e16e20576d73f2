# SPDX-License-Identifier: Apache-2.0
"""What is asked of the mapping thread from other threads, done between two frames."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition

from ..config import MapParameters
from ..map_keeping import MapKeeper
from ..meshing import WorkerError
from ..tsdf import MapError

Order = Callable[[Future], None]


class MapOrders:
    """Futures of saves, loads and clears; they fail with MapError, WorkerError or OSError.

    ``news`` wakes the mapping thread, which calls `work`; ``changed`` is called by it when the map
    has become another one; ``parameters()`` gives the present ones.
    """

    def __init__(
        self,
        keeper: MapKeeper,
        parameters: Callable[[], MapParameters],
        news: Condition,
        changed: Callable[[], None],
    ) -> None:
        self.camera_frame = ""  # of the last frame
        self._keeper, self._parameters = keeper, parameters
        self._news, self._changed = news, changed
        self._orders: list[tuple[Order, Future]] = []
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._orders)

    def work(self) -> bool:
        """Do what was asked; whether there was anything. The mapping thread's.

        An error that nobody foresaw is the caller's too: it is told of it before the thread ends.
        """
        with self._news:
            orders, self._orders = self._orders, []
        waiting = deque(orders)
        try:
            while waiting:
                order, done = waiting[0]
                try:
                    order(done)
                except (MapError, WorkerError, OSError) as error:
                    done.set_exception(error)
                waiting.popleft()
        finally:
            if waiting:
                ended = WorkerError(f"mapping_node: ended by {sys.exc_info()[1]!r}")
                for _, done in waiting:
                    if not done.done():
                        done.set_exception(ended)
        return bool(orders)

    def close(self) -> None:
        """Refuse what waits and what comes: the mapping thread has ended."""
        with self._news:
            self._closed = True
            orders, self._orders = self._orders, []
        for _, done in orders:
            done.set_exception(_ended())

    def request_clear(self) -> Future[None]:
        """Empty map, trajectory and path."""

        def clear(done: Future) -> None:
            self._keeper.clear()
            self._changed()
            done.set_result(None)

        return self._order(clear)

    def request_load(self) -> Future[str]:
        """Go on with the map of `map.load`; the result is its path."""
        path = self._parameters().load

        def load(done: Future) -> None:
            self._keeper.load(path, self.camera_frame)
            self._changed()
            done.set_result(path)

        return self._order(load)

    def request_save(self) -> Future:
        """Save the map as it is between two frames to `map.save_path` → `meshing.SaveReport`."""
        path = self._parameters().save_path

        def save(done: Future) -> None:
            self._keeper.save(path).add_done_callback(lambda saved: _hand_over(saved, done))

        return self._order(save)

    def _order(self, order: Order) -> Future:
        done: Future = Future()
        with self._news:
            if self._closed:
                done.set_exception(_ended())
            else:
                self._orders.append((order, done))
                self._news.notify()
        return done


def _ended() -> WorkerError:
    return WorkerError("mapping_node: expected it to run, it is being stopped")


def _hand_over(source: Future, target: Future) -> None:
    error = source.exception()
    if error is not None:
        target.set_exception(error)
    else:
        target.set_result(source.result())
