# SPDX-License-Identifier: Apache-2.0
"""What a loop is and what follows from it: found, verified, the graph optimised, the map rebuilt.

A frame is compared with the places that its features know, those few edges away left out. The
motion by PnP is refined by dense odometry both ways and must pass the gate. Loops that move
keyframes by ``slam.loop_shift`` lead to new poses of all keyframes, and to a map that is integrated
anew from the kept frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Event

import numpy as np

from depth_two_stage import places
from depth_two_stage.config import MappingNodeParameters
from depth_two_stage.kept_frames import KeptFrame, KeptFrames
from depth_two_stage.odometry import Odometry, View
from depth_two_stage.pose_graph import Edge, hops, moved, optimised, optimised_apart, plausible
from depth_two_stage.tsdf import MapError, TsdfMap

NEIGHBOURS = 4  # keyframes so few edges away are no loop
CANDIDATES = 3  # places compared with a frame
LONGEST_WAIT = 0.05  # s for a pause between two frames, before a map that is built goes on


@dataclass(frozen=True)
class Node:
    """A keyframe of the graph: its features, and the node (None: none) that it hangs from."""

    features: places.Features
    parent: int | None
    kept: int  # number of its `KeptFrame`


@dataclass(frozen=True)
class Graph:
    """The graph at one moment: poses T_world_keyframe (4, 4) of the nodes, and the edges.

    ``barred``: pairs of nodes that need no comparison; ``fused``: frames in the map.
    """

    nodes: tuple[Node, ...]
    poses: tuple[np.ndarray, ...]
    edges: tuple[Edge, ...] = ()
    barred: frozenset[tuple[int, int]] = frozenset()
    fused: int = 0


@dataclass(frozen=True)
class Check:
    """A frame that may have been here before, hanging from a node by T_node_view (4, 4)."""

    node: int
    T_node_view: np.ndarray
    view: View
    features: places.Features
    odometry: Odometry
    wanted: int | None = None  # a node that tracking has gone over to


@dataclass
class Outcome:
    """What came of a check: loops found, and when they move something, poses and a map."""

    check: Check
    loops: list[Edge] = field(default_factory=list)
    pruned: int = 0
    poses: list[np.ndarray] = field(default_factory=list)
    map: TsdfMap | None = None
    last_kept: int = 0
    failure: str = ""


class LoopSearch:
    """`examine` a check; it changes nothing but what it returns, so that any thread may do it.

    ``present`` answers the graph of now: frames that come while a map is built are in it.
    ``idle`` (None: this is the frames' own thread) is set between two frames: then a map is built,
    because two threads of NumPy hold each other up; the graph is optimised by another process.
    ``rebuilding``: a corrected map is being built now.
    """

    def __init__(
        self,
        parameters: MappingNodeParameters,
        kept: KeptFrames,
        present: Callable[[], Graph],
        idle: Event | None = None,
    ) -> None:
        self.parameters = parameters
        self.kept = kept
        self._present = present
        self._idle = idle
        self._optimise = optimised if idle is None else optimised_apart
        self.rebuilding = False

    def examine(self, check: Check, graph: Graph, cancel: Event) -> Outcome:
        """Look for loops of a frame, and for what they change.

        What cannot be done (no solution, no memory for a second map) is said in ``failure``.
        """
        if cancel.is_set():
            return Outcome(check)
        try:
            return self._examined(check, graph, cancel)
        # Open3D's, `pose_graph.PoseGraphError`; the second map's
        except (RuntimeError, MapError) as error:
            return Outcome(check, failure=str(error))

    def _examined(self, check: Check, graph: Graph, cancel: Event) -> Outcome:
        outcome, shift = Outcome(check), self.parameters.slam.loop_shift
        found = self._loops(check, graph)
        loops = [loop for loop in found if plausible(loop, graph.poses)]
        outcome.pruned = len(found) - len(loops)
        if not any(moved(loop.error(graph.poses)) > shift for loop in loops):
            outcome.loops = loops
            return outcome
        poses, kept = self._optimise(graph.poses, [*graph.edges, *loops])
        # Older loops stay: what is against them now may turn out to be wrong itself.
        outcome.loops = [
            loop for loop, good in zip(loops, kept[len(graph.edges) :], strict=True) if good
        ]
        outcome.pruned += len(loops) - len(outcome.loops)
        shifts = (moved(np.linalg.inv(a) @ b) for a, b in zip(graph.poses, poses, strict=True))
        if outcome.loops and max(shifts) > shift and not cancel.is_set():
            outcome.poses = poses
            self.rebuilding = True
            try:
                outcome.map, outcome.last_kept = self._rebuild(poses, graph.fused, cancel)
            finally:
                self.rebuilding = False
        return outcome

    def _loops(self, check: Check, graph: Graph) -> list[Edge]:
        """Loops from the check's node to places that its features know."""
        near = hops(graph.edges, len(graph.nodes), check.node, NEIGHBOURS)
        far = [int(i) for i in np.flatnonzero(~near) if (check.node, i) not in graph.barred]
        known = [graph.nodes[i].features for i in far]
        chosen = [far[i] for i in places.retrieved(check.features, known, CANDIDATES)]
        if check.wanted in far and check.wanted not in chosen:
            chosen.insert(0, check.wanted)
        kept = {frame.number: frame for frame in self.kept.since(0)} if chosen else {}
        found = []
        for i in chosen:
            frame = kept.get(graph.nodes[i].kept)
            located = places.locate(check.features, graph.nodes[i].features, check.view.camera)
            if frame is not None and located is not None:
                found += self._verified(check, i, frame, located.T_place_view)
        return found

    def _verified(
        self, check: Check, node: int, frame: KeptFrame, T_there_view: np.ndarray
    ) -> list[Edge]:
        """The loop to a node whose frame is kept, from a first motion; or none."""
        rgb, depth, _ = frame.images()
        there = check.odometry.view(rgb, depth, frame.camera)
        motion = check.odometry.align(there, check.view, T_there_view, "keyframe")
        if not motion.accepted:
            return []
        T = motion.T_reference_frame
        information = check.odometry.information(there, check.view, T)
        T_there_node = T @ np.linalg.inv(check.T_node_view)
        return [Edge(check.node, node, T_there_node, information, loop=True)]

    def _rebuild(
        self, poses: Sequence[np.ndarray], fused: int, cancel: Event
    ) -> tuple[TsdfMap, int]:
        """The map from the kept frames at new poses, and the number of the last one.

        Those nearest to the camera come first, and when the map is full the others are left out:
        of a way longer than the map holds, most would only be given up again.
        """
        map = TsdfMap(self.parameters.tsdf, self.parameters.pose.map_frame)
        now = extended(poses, self._present())
        frames = self._after(0, now)
        eyes = np.array([(now[f.node] @ f.T_node_frame)[:3, 3] for f in frames]).reshape(-1, 3)
        for i in np.argsort(np.linalg.norm(eyes - eyes[-1:], axis=1), kind="stable"):
            if cancel.is_set() or map.blocks.evicted or map.blocks.skipped:
                break
            if self._idle is not None:
                self._idle.wait(LONGEST_WAIT)
            _fuse(map, frames[i], now, eyes[-1])
        # A frame weighs as much as those that were fused beside it and not kept.
        map.weigh(max(1.0, fused / max(1, len(frames))))
        before, last = 0, frames[-1].number if frames else 0
        # The frames that came meanwhile, without a pause: else as many more would come.
        while last > before and not cancel.is_set():
            before = last
            last = self.integrate(map, before, extended(poses, self._present()), cancel)
        return map, last

    def integrate(
        self,
        map: TsdfMap,
        last: int,
        poses: Sequence[np.ndarray],
        cancel: Event | None = None,
    ) -> int:
        """Integrate the kept frames after number ``last`` at nodes' poses → the last number."""
        for frame in self._after(last, poses):
            if cancel is not None and cancel.is_set():
                break
            _fuse(map, frame, poses)
            last = frame.number
        return last

    def _after(self, last: int, poses: Sequence[np.ndarray]) -> list[KeptFrame]:
        """The kept frames after number ``last``, up to the first whose node has no pose yet."""
        return list(takewhile(lambda frame: frame.node < len(poses), self.kept.since(last)))


def _fuse(
    map: TsdfMap,
    frame: KeptFrame,
    poses: Sequence[np.ndarray],
    eye: np.ndarray | None = None,
) -> None:
    rgb, depth, weight = frame.images()
    T_world_frame = poses[frame.node] @ frame.T_node_frame
    map.integrate(depth, rgb, frame.camera, T_world_frame, weight, eye)


def extended(corrected: Sequence[np.ndarray], present: Graph) -> list[np.ndarray]:
    """Corrected poses of the first nodes, and of later ones as rigidly moved as their parents."""
    result = list(corrected)
    for i in range(len(result), len(present.nodes)):
        parent = present.nodes[i].parent
        T = np.eye(4)
        if parent is not None:
            T = result[parent] @ np.linalg.inv(present.poses[parent])
        result.append(T @ present.poses[i])
    return result
