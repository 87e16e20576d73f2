# SPDX-License-Identifier: Apache-2.0
"""Maps a long walk as mapping_node does and writes down what memory and time that takes.

    python test/memory_trial.py --log memory.log    # 18 rooms, a lap and a half: 2,040 frames

`Slam` closes loops in the background, `MapWorker` meshes and makes the occupancy grid of what is
there, each hundred frames. Then a line tells the resident memory of both processes and the map's
size; others, at which frames a corrected map was begun and handed over; the end, whether the map
has stayed within its bound, how far off the camera was, and how long frames took with the thread
of the loops at rest and at work. With --period they come as from a camera, one each so many
seconds, and otherwise without a pause.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from depth_two_stage import trajectories
from depth_two_stage.commands.evaluate import slam_parameters
from depth_two_stage.datasets import open_dataset
from depth_two_stage.meshing import MapWorker
from depth_two_stage.slam import Frame, Slam

SPLIT = "path:loop,rooms:3x6,laps:1.5,lidar:0,size:120x160"
A_LINE = 100  # frames
PATIENCE = 600.0  # s


def resident_mb(pid: int | str | None) -> float:
    """Resident memory of a process, MB (10⁶ bytes); 0 without one."""
    path = Path(f"/proc/{pid}/status")
    if pid is None or not path.exists():
        return 0.0
    line = next(text for text in path.read_text().splitlines() if text.startswith("VmRSS"))
    return int(line.split()[1]) * 1024e-6


def walk(
    dataset, slam: Slam, worker: MapWorker, say, period: float
) -> tuple[list, float, dict[str, list[float]]]:
    """Map all frames → true trajectory, most that the map held (MB), frames' ms by the thread."""
    truth, futures, most, corrections, since = [], [], 0.0, 0, 0
    times: list[float] = []
    by_thread: dict[str, list[float]] = {"at rest": [], "looking": [], "rebuilding the map": []}
    doing, due = "at rest", time.perf_counter()
    for number, sample in enumerate(dataset, 1):
        now = time.perf_counter()
        due = max(due + period, now)
        time.sleep(due - now)
        begin = time.perf_counter()
        slam.process(Frame(sample.rgb, sample.depth, sample.camera, sample.stamp))
        times.append(1e3 * (time.perf_counter() - begin))
        by_thread[doing].append(times[-1])
        truth.append((sample.stamp, sample.T_world_camera))
        counts = slam.statistics()
        doing = "looking" if counts["loop_checks"] else "at rest"
        doing = "rebuilding the map" if counts["map_rebuilding"] else doing
        most = max(most, counts["map_used_mb"])
        if counts["map_corrections"] > corrections:
            corrections = counts["map_corrections"]
            say(f"frame {number}: correction {corrections} handed over, begun by frame {since}")
            since = 0
        if counts["map_rebuilding"] and not since:
            since = number
        if number % A_LINE == 0 or number == len(dataset):
            say(
                f"frame {number}: node {resident_mb('self'):.0f} MB, worker "
                f"{resident_mb(worker.pid):.0f} MB, map {counts['map_used_mb']:.0f} MB, "
                f"{counts['map_evicted_blocks']:.0f} blocks given up, kept frames "
                f"{counts['kept_frames_mb']:.0f} MB, {counts['loops']:.0f} loops, "
                f"{counts['map_corrections']:.0f} corrections, {counts.get('lost', 0):.0f} lost, "
                f"{np.median(times):.0f} ms a frame ({max(times):.0f} at most)"
            )
            times = []
            for future in futures:
                future.result(PATIENCE)
            futures = [worker.request_mesh(), worker.request_grid(slam.trajectory)]
    for future in futures:
        future.result(PATIENCE)
    return truth, most, by_thread


def main() -> int:
    """Walk once; 1 when the map has outgrown its bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default=SPLIT, help="of the rendered data set")
    parser.add_argument("--log", type=Path, help="file for the log; it is printed, too")
    parser.add_argument("--limit", type=int, help="only so many frames")
    parser.add_argument("--period", type=float, default=0.0, help="s from one frame to the next")
    parser.add_argument("-p", dest="assign", action="append", metavar="NAME=VALUE")
    given = parser.parse_args()
    parameters = slam_parameters(None, given.assign)[0]
    dataset = open_dataset("rendered", Path("."), given.split)[: given.limit]
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    say(f"{given.split}, {' '.join(given.assign or ['default parameters'])}")
    slam = Slam(parameters, background=True)
    try:
        with MapWorker(slam.map, parameters.grid) as worker:
            truth, most, by_thread = walk(dataset, slam, worker, say, given.period)
    finally:
        slam.close()
    _, poses, true = trajectories.associate(slam.trajectory, truth)
    way = np.linalg.norm(np.diff([T[:3, 3] for _, T in truth], axis=0), axis=1).sum()
    bound = parameters.tsdf.memory_mb
    say(
        f"{len(truth)} frames, {way:.1f} m: map at most {most:.1f} MB of {bound:g}, "
        f"ATE {trajectories.ate(poses, true):.3f} m"
    )
    for doing, times in by_thread.items():
        if times:
            say(
                f"thread {doing}: {len(times)} frames, {np.median(times):.0f} ms in the median, "
                f"{np.percentile(times, 95):.0f} ms the 95th percentile, {max(times):.0f} at most"
            )
    if given.log:
        given.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if most <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
