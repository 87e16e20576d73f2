# SPDX-License-Identifier: Apache-2.0
"""A worker process that meshes and saves the map, so that no frame waits for it.

Open3D holds Python's lock while it meshes (165 ms for 2,000 blocks) or saves, so both happen in
another process. A thread of the parent copies what changed since the last request out of the map
in slices far below 20 ms, each under the map's lock, and streams it to the worker, which keeps a
mirror of the map (as large as the map's active blocks), meshes it and writes it.
"""

from __future__ import annotations

import atexit
import glob
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from depth_two_stage.config import GridParameters
from depth_two_stage.files import WriteError
from depth_two_stage.map_file import expanded
from depth_two_stage.map_formats import check_name
from depth_two_stage.meshing_process import receive_array, send_array
from depth_two_stage.occupancy import Occupancy
from depth_two_stage.tsdf import MapError, Surface, TsdfMap
from depth_two_stage.tsdf_blocks import VALUES

BLOCKS_A_SLICE = 32  # 2.6 MB: about 2 ms under the map's lock
ROOM_AT_FIRST = 512  # blocks
POSES_AT_ONCE = 1000  # put into one array without a pause for other threads
POLL_S = 0.5


class WorkerError(RuntimeError):
    """The worker process died or could not be started; the message says how."""


@dataclass(frozen=True)
class SaveReport:
    """A finished save: path, size in bytes, duration in seconds."""

    path: str
    size: int
    seconds: float


class MapWorker:
    """``MapWorker(map, grid)``: meshes, clouds, grids and files of a `tsdf.TsdfMap`, as futures.

    Every request answers a `concurrent.futures.Future` at once; requests are worked off in order.
    A future fails with `WorkerError` (the worker died), `tsdf.MapError` or `OSError` (disk). After
    a death the next request starts a new worker. The process starts with the first request.
    """

    def __init__(self, map: TsdfMap, grid: GridParameters | None = None) -> None:
        self.map = map
        self.grid = grid or GridParameters()
        self._requests: queue.Queue = queue.Queue()
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._sent = 0  # the map's clock at the last transfer
        self._saved: set[Path] = set()
        self._room = 0  # blocks that the worker's mirror holds
        self._thread: threading.Thread | None = None
        self._closed = False

    def request_mesh(self) -> Future[Surface]:
        """Future of the triangle mesh."""
        return self._request("mesh")

    def request_points(self) -> Future[Surface]:
        """Future of the surface points, without triangles."""
        return self._request("points")

    def request_obstacles(self) -> Future[Surface]:
        """Future of the surface points in the height band of the grid."""
        return self._request("obstacles")

    def request_grid(self, trajectory: Sequence[tuple[int, np.ndarray]] = ()) -> Future[Occupancy]:
        """Future of the occupancy grid.

        From the poses of the trajectory rays of the map's camera are traced to its surfaces; what
        they cross is free.
        """
        return self._request("grid", list(trajectory))

    def request_save(
        self,
        path: str | Path,
        trajectory: Sequence[tuple[int, np.ndarray]] = (),
    ) -> Future[SaveReport]:
        """Future of a `SaveReport`; the name's ending is the format (`map_formats`). Atomic."""
        path = expanded(path)
        check_name(path)
        return self._request("save", path, list(trajectory))

    @property
    def pid(self) -> int | None:
        """Process id of the running worker."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def close(self, timeout: float = 60.0) -> None:
        """Work off what was requested and end the worker; after ``timeout`` s it is killed."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(timeout)
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()  # the thread's pending read then fails
            process.wait()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> MapWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the parent's thread ----------------------------------------------------------------------

    def _request(self, kind: str, *arguments: Any) -> Future:
        if self._closed:
            raise WorkerError("map worker: expected an open worker, got a request after close()")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="map-worker", daemon=True)
            self._thread.start()
            # A program that forgets to close it ends cleanly too.
            atexit.register(self.close)
        future: Future = Future()
        self._requests.put((future, kind, arguments))
        return future

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            future, kind, arguments = request
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._answer(kind, arguments)
            except (MapError, WorkerError, WriteError) as error:
                future.set_exception(error)
            except (OSError, EOFError) as error:
                if kind == "save":
                    _remove_leftovers(arguments[0])
                future.set_exception(self._failure(error))
            else:
                future.set_result(result)
        self._stop()

    def _failure(self, error: OSError | EOFError) -> Exception:
        """What a broken pipe means: the worker died."""
        code = None
        if self._process is not None:
            self._connection.close()
            try:
                code = self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
            self._process = None
        return WorkerError(
            f"map worker: expected an answer, got a dead process (exit code {code}; {error!r})"
        )

    def _answer(self, kind: str, arguments: tuple) -> Any:
        self._start()
        self._transfer()
        if kind in ("mesh", "points"):
            self._send(kind, self.map.parameters.weight_threshold)
        else:
            *path, trajectory = arguments or ((),)
            seen = self.map.parameters, self.grid, _as_arrays(trajectory), self.map.camera
            if kind == "save":
                if path[0] not in self._saved:  # a node that was killed while it saved left some
                    _remove_leftovers(path[0])
                    self._saved.add(path[0])
                self._send("save", str(*path), asdict(self.map.meta(len(trajectory))), *seen)
            else:
                self._send(kind, *seen)
        answer, *values = self._receive()
        if answer == "surface":
            arrays = [np.empty(shape, dtype) for shape, dtype in values]
            for array in arrays:
                receive_array(self._connection, array)
            return Surface(*arrays)
        if answer == "grid":
            shape, *rest = values
            return Occupancy(receive_array(self._connection, np.empty(shape, np.int8)), *rest)
        if answer == "saved":
            return SaveReport(*values)
        number, text = values
        error = WriteError(text)
        error.errno = number
        raise error

    def _transfer(self) -> None:
        """Bring the worker's mirror up to date."""
        blocks = self.map.blocks
        with self.map.lock:
            clock, slots = blocks.clock, blocks.slots()
            keys = blocks.keys(slots)
            new = blocks.changed[slots] > self._sent
        if len(keys) > self._room:  # the mirror is made anew, larger, and everything is sent
            self._room = min(max(ROOM_AT_FIRST, 3 * len(keys) // 2), blocks.capacity)
            self._send("room", self._room)
            new[:] = True
        self._send("begin", keys)
        keys, slots = keys[new], slots[new]
        for start in range(0, len(slots), BLOCKS_A_SLICE):
            part = slice(start, start + BLOCKS_A_SLICE)
            with self.map.lock:
                # A block that was given up meanwhile, or came back elsewhere, waits for next time.
                where, there = blocks.find(keys[part])
                there &= where == slots[part]
                copy = blocks.read(slots[part][there])
            self._send("blocks", keys[part][there])
            for name in VALUES:
                send_array(self._connection, copy[name])
        self._sent = clock

    # --- the process ------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        # Not multiprocessing's own start: it imports the parent's main script again (a node, or a
        # script without the guard), and `fork` is unsafe with ROS's and torch's threads.
        ours, theirs = socket.socketpair()
        package_root = str(Path(__file__).resolve().parents[1])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        arguments = str(theirs.fileno()), repr(self.map.parameters.voxel_size)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "depth_two_stage.meshing_process", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's; it decides what is still saved
                env=environment,
            )
        except OSError as error:
            raise WorkerError(f"map worker: expected to start a process, got {error}") from error
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._sent = self._room = 0

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self._send("end")
                self._process.wait(5.0)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        if self._connection is not None:
            self._connection.close()

    def _send(self, *message: Any) -> None:
        self._connection.send(message)

    def _receive(self) -> tuple:
        while not self._connection.poll(POLL_S):
            if self._process.poll() is not None and not self._connection.poll(0):
                raise EOFError("no answer")
        return self._connection.recv()


def _as_arrays(trajectory: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """A trajectory as stamps int64 (n,) ns and poses float64 (n, 4, 4)."""
    stamps = np.array([stamp for stamp, _ in trajectory], np.int64)
    parts = [
        np.array([T for _, T in trajectory[start : start + POSES_AT_ONCE]], np.float64)
        for start in range(0, len(trajectory), POSES_AT_ONCE)
    ]
    return stamps, np.concatenate(parts) if parts else np.zeros((0, 4, 4))


def _remove_leftovers(path: Path) -> None:
    """Temporary files of a save to ``path`` that a killed worker left (`files.atomic_path`).

    What cannot be removed (a folder, another user's file) stays: it is in nobody's way.
    """
    for suffix in (path.suffix, *([".pgm"] if path.suffix == ".yaml" else [])):
        for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp{suffix}"):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
