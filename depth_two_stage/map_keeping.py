# SPDX-License-Identifier: Apache-2.0
"""Keeping a map: saves, autosaves, loads, one clear answer each.

`MapKeeper` is called by the thread that calls `Slam.process`, between two frames; the files are
written by the map's worker. One save at a time: what would change the map that is being copied
out is refused while a save is under way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from depth_two_stage.map_file import expanded
from depth_two_stage.meshing import MapWorker, SaveReport, WorkerError
from depth_two_stage.slam import Slam
from depth_two_stage.tsdf import MapError

__all__ = ["MapKeeper"]


class MapKeeper:
    """Saves and loads the map of a `Slam`.

    ``say`` gets one line for each new cause of a failed autosave.
    """

    def __init__(self, slam: Slam, worker: MapWorker, say: Callable[[str], None]) -> None:
        self.autosaves = self.failed_autosaves = 0
        self.last: SaveReport | None = None
        self._slam, self._worker, self._say = slam, worker, say
        self._last_at = 0.0  # monotonic, s
        self._pending: dict[str, tuple[Path, Future, float]] = {}  # by "save" and "autosave"
        self._autosaved: int | None = None  # version of the map at the last autosave
        self._autosave_at: float | None = None  # monotonic, s: the last one asked for, or the start
        self._cause = ""

    def save(self, path: str | Path) -> Future[SaveReport]:
        """Write the map as it is now; MapError while an earlier save is under way."""
        self._refuse_while("save_map", "save")
        return self._request("save", path, lambda error: None)

    def autosave(self, path: str | Path, period: float, version: int) -> None:
        """Write the map when ``period`` s have passed and ``version``, its changes, has moved.

        The first one comes a period after the first call. ``period`` 0: never. An empty map is not
        saved: a node that starts would replace the map of yesterday by nothing.
        """
        now = time.monotonic()
        if period <= 0:
            self._autosave_at = None
            return
        if self._autosave_at is None:
            self._autosave_at = now
        # The present period, which may have changed since.
        if now < self._autosave_at + period or self._under_way("autosave"):
            return
        self._autosave_at = now
        if version == self._autosaved or len(self._slam.map.blocks) == 0:
            return
        try:
            self._request("autosave", path, lambda error: self._autosave_done(error, version))
        except (MapError, WorkerError) as error:
            self._failed(error)

    def load(self, path: str | Path, camera_frame: str = "") -> None:
        """Go on with a saved map; MapError leaves everything as it is."""
        if not str(path):
            raise MapError("map.load: expected the name of a map file (.npz), got none")
        self._refuse_while("load_map", "save", "autosave")
        if camera_frame and camera_frame == self._slam.map.frame:
            raise MapError(
                f"load_map: expected a map frame other than the camera's, got {camera_frame!r} "
                "for both (pose.map_frame)"
            )
        self._slam.load(str(path))
        self._autosaved = None

    def clear(self) -> None:
        """Forget the map; MapError while it is being saved."""
        self._refuse_while("clear", "save", "autosave")
        self._slam.clear()

    def state(self) -> dict[str, object]:
        """What was saved last and what is being saved, plain values."""
        last = None
        if self.last is not None:
            last = {
                "path": self.last.path,
                "megabytes": round(self.last.size / 1e6, 3),
                "seconds": round(self.last.seconds, 3),
                "age": round(time.monotonic() - self._last_at, 1),
            }
        saving = [str(path) for path, _, _ in list(self._pending.values())]
        return {
            "saving": saving,
            "last_save": last,
            "autosaves": self.autosaves,
            "failed_autosaves": self.failed_autosaves,
        }

    def _under_way(self, kind: str) -> tuple[Path, Future, float] | None:
        pending = self._pending.get(kind)
        return None if pending is None or pending[1].done() else pending

    def _refuse_while(self, service: str, *kinds: str) -> None:
        for kind in kinds:
            if pending := self._under_way(kind):
                path, _, since = pending
                raise MapError(
                    f"{service}: expected no {kind} under way, got one to {path} since "
                    f"{time.monotonic() - since:.1f} s: ask again when it is done"
                )

    def _request(
        self, kind: str, path: str | Path, then: Callable[[BaseException | None], None]
    ) -> Future[SaveReport]:
        path = expanded(path)
        saved = self._worker.request_save(path, self._slam.trajectory)
        pending = self._pending[kind] = path, saved, time.monotonic()

        def settle(saved: Future[SaveReport]) -> None:
            error = saved.exception()
            if error is None:
                self.last, self._last_at = saved.result(), time.monotonic()
            then(error)
            if self._pending.get(kind) is pending:
                del self._pending[kind]

        saved.add_done_callback(settle)
        return saved

    def _autosave_done(self, error: BaseException | None, version: int) -> None:
        if error is not None:
            self._failed(error)
            return
        self.autosaves += 1
        self._autosaved, self._cause = version, ""

    def _failed(self, error: BaseException) -> None:
        """Count it; say it when the one before had another cause. An older file stays."""
        self.failed_autosaves += 1
        cause = re.sub(r"\d+", "#", str(error))
        if cause != self._cause:
            self._cause = cause
            self._say(f"map.autosave_period: {error}; tried again each period, an older file stays")
