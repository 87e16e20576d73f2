# SPDX-License-Identifier: Apache-2.0
"""Loops closed while frames come: keyframes become nodes, checks are worked off, maps handed over.

A new keyframe, and a frame with which tracking goes over to an older one, is checked by a
`loop_search.LoopSearch`: at once, or (``background``) by a thread that holds up no frame. What
comes meanwhile moves as rigidly as the keyframe from which it hangs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import numpy as np

from depth_two_stage import places
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.kept_frames import KeptFrame, KeptFrames
from depth_two_stage.loop_search import (
    NEIGHBOURS,
    Check,
    Graph,
    LoopSearch,
    Node,
    Outcome,
    extended,
)
from depth_two_stage.odometry import Odometry, View, angle_degrees
from depth_two_stage.pose_graph import Edge, hops
from depth_two_stage.tracking import Keyframe
from depth_two_stage.tsdf import TsdfMap

PAIR_TRIALS = 2  # refused so often, two keyframes are not compared again
WAITING = 20  # checks that wait for the thread; the oldest go
KEPT_PER_KEYFRAME = 3  # frames kept on the way from one keyframe to the next

Images = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # rgb, depth, confidence


@dataclass(frozen=True)
class Correction:
    """New poses T_world_keyframe (4, 4) of all nodes, and the map that agrees with them."""

    poses: list[np.ndarray]
    map: TsdfMap


class LoopCloser:
    """`follow` every fused frame; what it returns is to be taken over before the next frame.

    ``failure`` says why the last optimisation failed, if one did.
    """

    def __init__(
        self, parameters: MappingNodeParameters, odometry: Odometry, background: bool = False
    ) -> None:
        self.parameters = parameters
        self.odometry = odometry
        self.kept = KeptFrames(parameters.slam.loop_memory_mb)
        self._idle = Event()
        self._search = LoopSearch(
            parameters, self.kept, self._graph, self._idle if background else None
        )
        self._pool = ThreadPoolExecutor(1, "loop-closure") if background else None
        self._cancel = Event()
        self.clear()

    def clear(self, active: bool = True) -> None:
        """Forget everything; inactive, nothing is looked for until the next `clear`."""
        self.active = active
        self._cancel.set()
        self._cancel = Event()
        self._nodes: list[Node] = []
        self._poses: list[np.ndarray] = []
        self._edges: list[Edge] = []
        self._fused = 0
        self._refused: Counter[tuple[int, int]] = Counter()
        self._last_kept: np.ndarray | None = None
        self._checks: deque[Check] = deque(maxlen=WAITING)
        self._job: Future | None = None
        self.counters: Counter[str] = Counter()
        self.failure = ""
        self.kept.clear()

    def close(self) -> None:
        """Give up what is under way and end the thread."""
        self.clear(active=False)
        if self._pool is not None:
            self._pool.shutdown()

    def statistics(self) -> dict[str, float]:
        """Counts and megabytes (10⁶ bytes)."""
        return {
            "loops": sum(edge.loop for edge in self._edges),
            "loops_pruned": self.counters["pruned"],
            "loops_failed": self.counters["failed"],
            "loop_checks": len(self._checks) + (self._job is not None and not self._job.done()),
            "map_corrections": self.counters["corrections"],
            "map_rebuilding": int(self._search.rebuilding),
            "kept_frames": len(self.kept),
            "kept_frames_mb": self.kept.size / 1e6,
            "kept_frames_thinned": self.kept.dropped,
        }

    @contextmanager
    def frame(self) -> Iterator[None]:
        """While a frame is worked on, the thread holds back."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def follow(
        self,
        images: Images,
        view: View,
        T_world_camera: np.ndarray,
        origin: Keyframe | None,
        anchor: Keyframe,
    ) -> Correction | None:
        """Take in a frame (rgb, depth, confidence) that was fused → what has changed.

        ``origin`` is the keyframe by which its pose was found, if over other frames (None: it is
        the first), ``anchor`` the one against which the next frame is tracked: this one if it is
        a new keyframe (``anchor.node`` is None then).
        """
        if not self.active:
            return None
        self._fused += 1
        if anchor.node is None:
            self._add_node(anchor, origin, images)
            self._look(view, anchor.node, np.eye(4))
        else:
            T_node_view = np.linalg.inv(self._poses[origin.node]) @ T_world_camera
            self._keep(images, view, origin.node, T_node_view)
            if origin is not anchor:
                self._look(view, origin.node, T_node_view, anchor.node)
        return self._advance()

    def _add_node(self, keyframe: Keyframe, origin: Keyframe | None, images: Images) -> None:
        keyframe.node = node = len(self._nodes)
        parent = None if origin is None else origin.node
        self._poses.append(keyframe.T_world_camera)
        if parent is not None:
            T_parent_node = np.linalg.inv(self._poses[parent]) @ keyframe.T_world_camera
            information = self.odometry.information(origin.view, keyframe.view, T_parent_node)
            self._edges.append(Edge(node, parent, T_parent_node, information))
        self._keep(images, keyframe.view, node, np.eye(4), always=True)
        self._nodes.append(Node(keyframe.features, parent, self.kept.count))

    def _keep(
        self,
        images: Images,
        view: View,
        node: int,
        T_node_view: np.ndarray,
        always: bool = False,
    ) -> None:
        """Keep a frame when the last one kept is some way off."""
        T_world_view = self._poses[node] @ T_node_view
        before = T_world_view if self._last_kept is None else self._last_kept
        motion = np.linalg.inv(before) @ T_world_view
        slam = self.parameters.slam
        far = np.linalg.norm(motion[:3, 3]) > slam.keyframe_distance / KEPT_PER_KEYFRAME
        if not (always or far or angle_degrees(motion) > slam.keyframe_angle / KEPT_PER_KEYFRAME):
            return
        height, width = images[1].shape
        frame = KeptFrame.pack(
            node,
            T_node_view,
            images,
            view.camera.resized(width, height),
            max(self.parameters.tsdf.max_range, self.parameters.odometry.max_range),
            self.kept.count + 1,
        )
        self.kept.add(frame, motion)
        self._last_kept = T_world_view

    def _look(
        self, view: View, node: int, T_node_view: np.ndarray, wanted: int | None = None
    ) -> None:
        """Let a frame be checked, if there is anything to compare it with."""
        near = hops(self._edges, len(self._nodes), node, NEIGHBOURS)
        if near.all() if wanted is None else near[wanted]:
            return
        seen = places.features(view) if wanted is not None else self._nodes[node].features
        self._checks.append(Check(node, T_node_view, view, seen, self.odometry.copy(), wanted))

    def _graph(self) -> Graph:
        barred = frozenset(pair for pair, times in self._refused.items() if times >= PAIR_TRIALS)
        count = len(self._nodes)  # first: a node's pose is there before the node is
        nodes, poses = tuple(self._nodes[:count]), tuple(self._poses[:count])
        return Graph(nodes, poses, tuple(self._edges), barred, self._fused)

    def _advance(self) -> Correction | None:
        """Take over what is done, start what waits."""
        correction = None
        if self._job is not None and self._job.done():
            correction = self._finish(self._job.result())
            self._job = None
        while self._job is None and self._checks:
            snapshot = self._checks.popleft(), self._graph(), self._cancel
            if self._pool is not None:
                self._job = self._pool.submit(self._search.examine, *snapshot)
            else:
                correction = self._finish(self._search.examine(*snapshot)) or correction
        return correction

    def _finish(self, outcome: Outcome) -> Correction | None:
        check = outcome.check
        if outcome.failure:
            self.counters["failed"] += 1
            self.failure = outcome.failure
        self.counters["pruned"] += outcome.pruned
        self._edges += outcome.loops
        if check.wanted is not None and not outcome.loops:
            self._refused[check.node, check.wanted] += 1
        if outcome.map is None:
            return None
        poses = extended(outcome.poses, self._graph())
        # Frames since the thread has looked last: none or one.
        self._search.integrate(outcome.map, outcome.last_kept, poses)
        last = self.kept.since(self.kept.count - 1)[0]
        self._last_kept = poses[last.node] @ last.T_node_frame
        self._poses = poses
        self.counters["corrections"] += 1
        return Correction(poses, outcome.map)
