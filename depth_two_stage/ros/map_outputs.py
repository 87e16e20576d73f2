# SPDX-License-Identifier: Apache-2.0
"""map, map/obstacles, map/mesh, map/points: asked of the map's worker when someone reads them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from ..meshing import MapWorker, WorkerError
from ..occupancy import Occupancy
from ..tsdf import MapError, Surface
from . import build, markers
from .reports import Drops

MAP, OBSTACLES = "map", "map/obstacles"
# What Nav2's static layer and map_saver ask for; a reader that wants less gets it too.
LATCHED = {
    "depth": 1,
    "durability": DurabilityPolicy.TRANSIENT_LOCAL,
    "reliability": ReliabilityPolicy.RELIABLE,
}
Trajectory = list[tuple[int, np.ndarray]]


class MapOutputs:
    """Publishes the map every ``period`` s while it grows, and to whoever starts reading it.

    ``trajectory()`` gives the poses from which it was seen.
    """

    def __init__(
        self,
        node: Node,
        worker: MapWorker,
        drops: Drops,
        trajectory: Callable[[], Trajectory],
    ) -> None:
        self._node, self._worker, self._drops = node, worker, drops
        self._kinds: dict[str, tuple] = {
            MAP: (
                node.create_publisher(OccupancyGrid, MAP, QoSProfile(**LATCHED)),
                lambda: worker.request_grid(trajectory()),
                self._grid,
            ),
            OBSTACLES: (
                node.create_publisher(PointCloud2, OBSTACLES, 1),
                worker.request_obstacles,
                cloud,
            ),
            "map/mesh": (
                node.create_publisher(Marker, "map/mesh", 1),
                worker.request_mesh,
                markers.mesh,
            ),
            "map/points": (
                node.create_publisher(PointCloud2, "map/points", 1),
                worker.request_points,
                cloud,
            ),
        }
        self._sent: dict[str, tuple[int, int]] = {}  # version of the map, readers
        self._pending: dict[str, Future] = {}
        self._sent_at = -np.inf  # monotonic, s: when growth was sent last

    def tick(self, version: int, period: float, header: Callable[[], Header]) -> None:
        """Request what is due; ``version`` counts the changes of the map."""
        now = time.monotonic()
        due = now >= self._sent_at + period  # the present one, which may have changed since
        for topic, (publisher, request, make) in self._kinds.items():
            readers = publisher.get_subscription_count()
            before, readers_before = self._sent.get(topic, (-1, 0))
            if readers < readers_before:  # who comes back has not seen it either
                self._sent[topic] = (before, readers)
            pending = self._pending.get(topic)
            if not readers or (pending is not None and not pending.done()):
                continue
            if readers <= readers_before and (version == before or not due):
                continue
            self._sent[topic] = (version, readers)
            try:
                self._pending[topic] = request()
            except WorkerError as error:
                self._drops.add(topic, f"{topic}: {error}")
                continue
            self._pending[topic].add_done_callback(
                lambda future, topic=topic, make=make, publisher=publisher: self._publish(
                    future, topic, make, publisher, header()
                )
            )
        if due:
            self._sent_at = now

    def _publish(self, future: Future, topic: str, make, publisher, header: Header) -> None:
        """On the worker's thread: build the message and send it."""
        if future.cancelled() or not self._node.context.ok():
            return
        error = future.exception()
        if isinstance(error, WorkerError | MapError | OSError):
            self._drops.add(topic, f"{topic}: {error}")
            return
        publisher.publish(make(future.result(), header))

    def _grid(self, grid: Occupancy, header: Header) -> OccupancyGrid:
        if grid.cropped:
            most = self._worker.grid.max_size
            self._drops.add("map cropped", f"grid.max_size: expected a map within {most:g} m")
        return build.occupancy(grid, header)


def cloud(surface: Surface, header: Header) -> PointCloud2:
    """Surface points (m) with colours → x y z rgb."""
    return build.cloud(np.asarray(surface.points, np.float32), surface.colors, header)
