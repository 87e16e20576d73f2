# SPDX-License-Identifier: Apache-2.0
"""A graph of keyframe poses: motions between them, loops among these, and the poses of least error.

Open3D's global optimisation (Levenberg–Marquardt with a line process after Choi, Zhou and Koltun,
CVPR 2015) weighs each loop down that does not fit; those that end below a quarter are taken out.
It holds Python's lock for as long as it takes (0.2 s for 200 keyframes, 2 s for 400), so that
`optimised_apart` does the same in a process of its own.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

PRUNED_BELOW = 0.25  # weight of a loop that is taken out (Open3D's default)
LEAST_REACH = 0.05  # m
LOOKED_AT = 2.0  # m ahead: how far a point there moves counts a turn as a shift
LEAST_DRIFT = 0.2  # m
DRIFT = 0.03  # of the way: what odometry is believed to err at most
PATIENCE = 30.0  # s, for the process


@dataclass(frozen=True)
class Edge:
    """Where keyframe ``source`` is, seen from ``target``: T_target_source (4, 4).

    ``information`` (6, 6), rotation before translation, as Open3D's
    `compute_odometry_information_matrix`; ``loop``: it may be wrong.
    """

    source: int
    target: int
    T_target_source: np.ndarray
    information: np.ndarray
    loop: bool = False

    def error(self, poses: Sequence[np.ndarray]) -> np.ndarray:
        """What is left between this motion and that of T_world_keyframe poses (4, 4)."""
        motion = np.linalg.inv(poses[self.target]) @ poses[self.source]
        return np.linalg.inv(self.T_target_source) @ motion


class PoseGraphError(RuntimeError):
    """The optimisation failed; the message says how."""


def moved(T: np.ndarray) -> float:
    """How far (m) a motion moves the camera, or a point 2 m ahead of it if that is more."""
    ahead = np.array([0, 0, LOOKED_AT])
    there = T[:3, :3] @ ahead + T[:3, 3] - ahead
    return float(max(np.linalg.norm(there), np.linalg.norm(T[:3, 3])))


def ways(poses: Sequence[np.ndarray]) -> np.ndarray:
    """How far (m) the camera had come at each of the poses (4, 4), turns included."""
    steps = [moved(np.linalg.inv(a) @ b) for a, b in pairwise(poses)]
    return np.concatenate([[0.0], np.cumsum(steps)])


def plausible(loop: Edge, poses: Sequence[np.ndarray]) -> bool:
    """Whether odometry can have erred as much as a loop says on the way between its ends."""
    way = ways(poses)
    most = LEAST_DRIFT + DRIFT * abs(way[loop.source] - way[loop.target])
    return bool(moved(loop.error(poses)) <= most)


def reach(edges: Sequence[Edge], poses: Sequence[np.ndarray]) -> float:
    """How far (m) a motion may be off on average for the loops still to be believed.

    Drift of a share of the way spreads over its n motions, of which the squares add up: the longest
    loop tolerates DRIFT · way / √n a motion.
    """
    way = ways(poses)
    far = [
        DRIFT * abs(way[e.source] - way[e.target]) / np.sqrt(max(1, abs(e.source - e.target)))
        for e in edges
        if e.loop
    ]
    return max([LEAST_REACH, *far])


def optimised(
    poses: Sequence[np.ndarray], edges: Sequence[Edge]
) -> tuple[list[np.ndarray], list[bool]]:
    """Poses T_world_keyframe (4, 4) of least error, and which edges were kept; the first one stays.

    The edges that are no loops must connect all poses. PoseGraphError when there is no solution.
    """
    import open3d as o3d

    registration = o3d.pipelines.registration
    graph = registration.PoseGraph()
    for T in poses:
        graph.nodes.append(registration.PoseGraphNode(T))
    for e in edges:
        graph.edges.append(
            registration.PoseGraphEdge(e.source, e.target, e.T_target_source, e.information, e.loop)
        )
    option = registration.GlobalOptimizationOption(
        max_correspondence_distance=reach(edges, poses),
        edge_prune_threshold=PRUNED_BELOW,
        preference_loop_closure=1.0,
        reference_node=0,
    )
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        registration.global_optimization(
            graph,
            registration.GlobalOptimizationLevenbergMarquardt(),
            registration.GlobalOptimizationConvergenceCriteria(),
            option,
        )
    found = [np.array(node.pose) for node in graph.nodes]
    if not np.isfinite(found).all():
        raise PoseGraphError("pose graph: expected finite poses, got NaN or infinity")
    left = {(e.source_node_id, e.target_node_id) for e in graph.edges if e.uncertain}
    return found, [not e.loop or (e.source, e.target) in left for e in edges]


def optimised_apart(
    poses: Sequence[np.ndarray], edges: Sequence[Edge]
) -> tuple[list[np.ndarray], list[bool]]:
    """`optimised` in a process of its own; PoseGraphError also when that fails."""
    package_root = str(Path(__file__).resolve().parents[1])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "depth_two_stage.pose_graph"],
            input=_packed(
                poses=np.array(poses),
                ends=np.array([(e.source, e.target, e.loop) for e in edges]),
                motions=np.array([e.T_target_source for e in edges]),
                information=np.array([e.information for e in edges]),
            ),
            capture_output=True,
            timeout=PATIENCE,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's
            check=True,
        )
        answer = np.load(io.BytesIO(done.stdout))
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise PoseGraphError(f"pose graph: exit code {error.returncode}: {last}") from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise PoseGraphError(f"pose graph: expected an answer, got {error}") from error
    return list(answer["poses"]), answer["kept"].tolist()


def hops(edges: Sequence[Edge], count: int, start: int, most: int) -> np.ndarray:
    """Which of ``count`` keyframes are within ``most`` edges of one, bool (count,)."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for e in edges:
        neighbours[e.source].append(e.target)
        neighbours[e.target].append(e.source)
    near = np.zeros(count, bool)
    near[start] = True
    waiting = deque([(start, 0)])
    while waiting:
        node, distance = waiting.popleft()
        if distance == most:
            continue
        for other in neighbours[node]:
            if not near[other]:
                near[other] = True
                waiting.append((other, distance + 1))
    return near


def _packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _main() -> None:
    """Read a graph from standard input, write the answer to standard output."""
    # Whatever a library prints must not get between the bytes of the answer.
    output = os.dup(1)
    os.dup2(2, 1)
    given = np.load(io.BytesIO(sys.stdin.buffer.read()))
    edges = [
        Edge(int(source), int(target), motion, information, bool(loop))
        for (source, target, loop), motion, information in zip(
            given["ends"], given["motions"], given["information"], strict=True
        )
    ]
    poses, kept = optimised(list(given["poses"]), edges)
    with os.fdopen(output, "wb") as file:
        file.write(_packed(poses=np.array(poses), kept=np.array(kept)))


if __name__ == "__main__":
    _main()
