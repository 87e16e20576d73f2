# SPDX-License-Identifier: Apache-2.0
"""Where the camera is: a motion prior, a reference to align with, keyframes to recover against.

The reference is chosen by ``odometry.reference``: the frame before, the last keyframe, or the map
seen from the expected pose. When the motion against it is refused, the frame before and then the
last keyframe are tried, then the places that its features know (`places`), for a keyframe also the
map; when all refuse, the frame is lost. The next ones are tried against places first, then against
the keyframes that look most like them; where the camera is found again features must say so too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from depth_two_stage import places
from depth_two_stage.camera import Camera
from depth_two_stage.config import OdometryParameters, SlamParameters
from depth_two_stage.odometry import Motion, Odometry, View, angle_degrees, power
from depth_two_stage.tsdf import TsdfMap

MOST_EXTRAPOLATION = 3.0  # frame periods over which the motion is taken to go on
GAP_NS = 500_000_000  # a longer pause, and one of MOST_EXTRAPOLATION periods, may be a kidnapping
RECOVERY_KEYFRAMES = 3  # tried for each frame while lost, by likeness and by features each
# A place known by its features may be far from its keyframe: then half of each view has no part in
# the other, and dense odometry there and back differs by more than within a keyframe's distance.
FOUND_DISAGREEMENT = 0.2  # of the way from the keyframe that the features say
SEARCHED_AT_ONCE = 3  # poses of a loaded map tried for each frame
THUMBNAIL = (20, 15)  # px, for likeness
SEEN_ONCE = 1e-3  # weight from which the map counts as seen, for tracking


@dataclass(frozen=True)
class Pose:
    """T_world_camera (4, 4) or None when lost, with the reason and a covariance (6, 6)."""

    T_world_camera: np.ndarray | None
    reason: str = ""
    covariance: np.ndarray | None = None


@dataclass
class Keyframe:
    """A view whose pose is believed."""

    view: View
    T_world_camera: np.ndarray
    variance: np.ndarray  # (2,) of translation (m²) and rotation (rad²)
    node: int | None = None  # of the pose graph

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """Grey thumbnail, zero mean and unit norm, flat."""
        return thumbnail(self.view)

    @cached_property
    def features(self) -> places.Features:
        """What the place is known again by."""
        return places.features(self.view)


class Attempt(NamedTuple):
    """A reference to align a frame with, and where the camera (T_world_camera) is expected.

    ``found``: the camera was looked for, whatever the last pose was.
    """

    kind: str
    reference: Keyframe
    expected: np.ndarray
    found: bool = False


def thumbnail(view: View) -> np.ndarray:
    """A view as a vector whose products say how alike two views look."""
    small = cv2.resize(view.check.grey, THUMBNAIL, interpolation=cv2.INTER_AREA).ravel()
    small = small - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


class Tracker:
    """`track` a frame by odometry, or `follow` a given pose; `keep` makes keyframes."""

    def __init__(self, odometry: OdometryParameters, slam: SlamParameters, map: TsdfMap) -> None:
        self.parameters = odometry
        self.slam = slam
        self.map = map
        self.odometry = Odometry(odometry)
        self.view = self.odometry.view
        self.clear()

    def clear(self) -> None:
        """Forget where the camera is and was."""
        self.keyframes: list[Keyframe] = []
        self.lost = False
        self._last: Keyframe | None = None
        self._stamp = 0
        self._velocity: tuple[np.ndarray, int] | None = None  # motion, ns
        self._anchor: Keyframe | None = None  # the keyframe tracked against
        self.origin: Keyframe | None = None  # the one by which the last frame's pose was found
        self._searched: list[np.ndarray] = []
        self._seen: tuple[View, places.Features] | None = None

    @property
    def empty(self) -> bool:
        """True when there is nothing yet to track against."""
        return self._last is None and not self._searched

    @property
    def anchor(self) -> Keyframe | None:
        """The keyframe against which the next frame is tracked."""
        return self._anchor

    @property
    def hangs_from(self) -> Keyframe | None:
        """The keyframe with which the last frame moves: itself if it is one."""
        last = self._last
        return self.origin if last is None or last.node is None else last

    def correct(self, poses: Sequence[np.ndarray]) -> None:
        """Take new poses T_world_keyframe (4, 4) of the graph's nodes."""
        base = self.hangs_from
        T = poses[base.node] @ np.linalg.inv(base.T_world_camera)
        self._last.T_world_camera = T @ self._last.T_world_camera
        for keyframe in (*self.keyframes, self._anchor, base):
            keyframe.T_world_camera = poses[keyframe.node]

    def search(self, poses: list[np.ndarray]) -> None:
        """Look for the camera near these poses of the map, the last one first."""
        step = max(1, len(poses) // 100)
        self._searched = [*poses[::step], poses[-1]]

    def restart(self) -> None:
        """Take the camera to be anywhere: its time has jumped."""
        self.lost = True
        self._velocity = None

    def after_gap(self, stamp: int) -> bool:
        """Whether so much time has passed that the camera may have been carried elsewhere."""
        pause = stamp - self._stamp
        if self._last is None or self.lost or pause <= GAP_NS:
            return False
        return self._velocity is None or pause > MOST_EXTRAPOLATION * self._velocity[1]

    def follow(self, view: View, stamp: int, T_world_camera: np.ndarray) -> Pose:
        """Take a given pose."""
        self._arrive(view, stamp, T_world_camera, np.zeros(2))
        return Pose(T_world_camera, covariance=np.diag([1e-6] * 6))

    def lose(self, reason: str) -> Pose:
        """Say that the camera is lost; the next frame is tried against the keyframes."""
        self.lost = True
        self._velocity = None
        return Pose(None, reason)

    def track(self, view: View, stamp: int) -> Pose:
        """The pose of a frame by odometry; the first motion that the gate believes."""
        reason = "nothing to track against"
        looking = self.lost or self.after_gap(stamp)
        for kind, reference, expected, found in self._attempts(view, stamp):
            guess = np.linalg.inv(reference.T_world_camera) @ expected
            slack = FOUND_DISAGREEMENT * float(np.linalg.norm(guess[:3, 3])) if found else 0.0
            motion = self.odometry.align(reference.view, view, guess, kind, slack)
            if motion.accepted:
                T = reference.T_world_camera @ motion.T_reference_frame
                if (looking or found) and not self._confirmed(kind, view, reference, motion):
                    continue
                if found:
                    self._anchor = reference
                    if looking:
                        self.restart()
                variance = reference.variance + np.square(motion.verdict.sigma)
                self.origin = reference if kind == "keyframe" else self.hangs_from
                self._arrive(view, stamp, T, variance)
                return Pose(T, covariance=np.diag(np.repeat(variance, 3)))
            if reason == "nothing to track against":
                reason = f"against the {kind}: {motion.verdict.reason}"
        return self.lose(reason)

    def keep(self, view: View, T_world_camera: np.ndarray) -> bool:
        """Make the last tracked frame a keyframe when no keyframe is near → whether it did."""
        if self._last is None or self._last.view is not view:
            return False
        near = [keyframe for keyframe in self.keyframes if self._near(keyframe, T_world_camera)]
        if near:
            # The nearest of the known keyframes is tracked against from here on.
            if self._anchor is None or not self._near(self._anchor, T_world_camera):
                self._anchor = near[-1]
            return False
        self._anchor = self._last
        self._anchor.features  # noqa: B018  computed now, not all at once when lost
        self.keyframes.append(self._last)
        if len(self.keyframes) > self.slam.max_keyframes:
            self.keyframes.remove(self._farthest(T_world_camera))
        return True

    # --- what is tried ----------------------------------------------------------------------------

    def _attempts(self, view: View, stamp: int) -> Iterator[Attempt]:
        """What is tried, in this order."""
        if self._searched:
            yield from self._search_attempts(view.camera)
            return
        last = self._last
        if self.lost:
            yield from self._known_places(view)
            for keyframe in self._alike(view):
                yield Attempt("keyframe", keyframe, keyframe.T_world_camera, True)
            yield Attempt("frame", last, last.T_world_camera)
            return
        gap = self.after_gap(stamp)
        if gap:
            yield from self._known_places(view)
        expected = last.T_world_camera @ self._motion_until(stamp)
        if self.parameters.reference == "model":
            yield from self._model_attempt(view.camera, expected)
        elif self.parameters.reference == "keyframe" and self._anchor is not None:
            yield Attempt("keyframe", self._anchor, expected)
        yield Attempt("frame", last, expected)
        if self._velocity is not None:
            yield Attempt("frame", last, last.T_world_camera)
        by_keyframe = self.parameters.reference == "keyframe"
        if not by_keyframe and self._anchor is not None and self._anchor is not last:
            yield Attempt("keyframe", self._anchor, expected)
        if not gap:
            yield from self._known_places(view)
        if by_keyframe:
            yield from self._model_attempt(view.camera, expected)

    def _features(self, view: View) -> places.Features:
        if self._seen is None or self._seen[0] is not view:
            self._seen = view, places.features(view)
        return self._seen[1]

    def _confirmed(self, kind: str, view: View, reference: Keyframe, motion: Motion) -> bool:
        """Whether the features too say that the camera is there; a map's picture has few."""
        T = motion.T_reference_frame
        return kind == "model" or places.confirms(
            self._features(view), reference.features, T, view.camera
        )

    def _model_attempt(self, camera: Camera, expected: np.ndarray) -> Iterator[Attempt]:
        depth, rgb = self.map.raycast(camera, expected, SEEN_ONCE)
        if depth.any():
            seen = Keyframe(self.view(rgb, depth, camera), expected, np.zeros(2))
            yield Attempt("model", seen, expected)

    def _known_places(self, view: View) -> Iterator[Attempt]:
        """Keyframes of which the view's features are known, and where they say that it is."""
        seen = self._features(view)
        known = [keyframe.features for keyframe in self.keyframes]
        for number in places.retrieved(seen, known, RECOVERY_KEYFRAMES):
            located = places.locate(seen, known[number], view.camera)
            if located is not None:
                keyframe = self.keyframes[number]
                expected = keyframe.T_world_camera @ located.T_place_view
                yield Attempt("keyframe", keyframe, expected, True)

    def _search_attempts(self, camera: Camera) -> Iterator[Attempt]:
        for _ in range(min(SEARCHED_AT_ONCE, len(self._searched))):
            pose = self._searched.pop()
            self._searched.insert(0, pose)
            yield from self._model_attempt(camera, pose)

    def _alike(self, view: View) -> list[Keyframe]:
        """The last keyframe, then those that look most like a view."""
        mine = thumbnail(view)
        order = sorted(self.keyframes, key=lambda keyframe: -float(keyframe.thumbnail @ mine))
        first = [] if self._anchor is None else [self._anchor]
        return first + [k for k in order[:RECOVERY_KEYFRAMES] if k is not self._anchor]

    def _motion_until(self, stamp: int) -> np.ndarray:
        """Motion since the last frame if the camera goes on as before."""
        if self._velocity is None:
            return np.eye(4)
        motion, period = self._velocity
        periods = (stamp - self._stamp) / period
        return power(motion, periods) if 0 < periods <= MOST_EXTRAPOLATION else np.eye(4)

    def _arrive(self, view: View, stamp: int, T: np.ndarray, variance: np.ndarray) -> None:
        """Note where a frame is."""
        if self._last is not None and not self.lost and stamp > self._stamp:
            motion = np.linalg.inv(self._last.T_world_camera) @ T
            self._velocity = motion, stamp - self._stamp
        else:
            self._velocity = None
        if self._last is not None:
            self._last.view.forget_image()
        self._last, self._stamp, self.lost = Keyframe(view, T, variance), stamp, False
        self._searched = []

    def _near(self, keyframe: Keyframe, T_world_camera: np.ndarray) -> bool:
        motion = np.linalg.inv(keyframe.T_world_camera) @ T_world_camera
        return (
            np.linalg.norm(motion[:3, 3]) < self.slam.keyframe_distance
            and angle_degrees(motion) < self.slam.keyframe_angle
        )

    def _farthest(self, T_world_camera: np.ndarray) -> Keyframe:
        return max(
            self.keyframes,
            key=lambda k: float(np.linalg.norm(k.T_world_camera[:3, 3] - T_world_camera[:3, 3])),
        )
