# SPDX-License-Identifier: Apache-2.0
"""Places known again by features: ORB keypoints with depth, retrieval, and a pose by PnP.

A view's features are computed once (about 25 KB). `retrieved` ranks the known places by how many
of a view's strongest descriptors they have too; `locate` matches all of them and asks whether one
rigid motion explains the matches: PnP within RANSAC (Fischler and Bolles 1981), whose generator
OpenCV seeds itself, so that the same views give the same pose. ORB (Rublee et al. 2011) is
OpenCV's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.odometry import View, rigid

FEATURES = 500
STRONGEST = 150  # of a view's features: by these places are retrieved
SAME_BITS = 64  # of a descriptor's 256 that may differ
RATIO = 0.8  # a match is better than the second best by so much (Lowe 2004)
MIN_VOTES = 8  # descriptors that a place must share to be looked at
MIN_INLIERS = 15
FEW = 50  # features of a view or place that say nothing against a motion
MIN_INLIER_SHARE = 0.3  # of the matches
REPROJECTION = 0.01  # of the image's width: largest error of an inlier
RANSAC_ROUNDS = 300
DEPTH_AGREES = 0.1  # largest median difference of the inliers' depths, share of the depth


@dataclass(frozen=True)
class Features:
    """Features of a view, strongest first: N of them.

    ``pixels`` float32 (N, 2); ``descriptors`` uint8 (N, 32); ``points`` float32 (N, 3) m in the
    optical camera frame, z = 0 where the view has no depth.
    """

    pixels: np.ndarray
    descriptors: np.ndarray
    points: np.ndarray

    @property
    def solid(self) -> np.ndarray:
        """Which of them have depth, bool (N,)."""
        return self.points[:, 2] > 0


@dataclass(frozen=True)
class Located:
    """T_place_view (4, 4) m and the matches that agree with it."""

    T_place_view: np.ndarray
    inliers: int


NONE = Features(
    np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8), np.zeros((0, 3), np.float32)
)


@cache
def _detector() -> cv2.ORB:
    # A margin of 15 px in place of 31: small images keep features, patches are 31 px wide.
    return cv2.ORB_create(nfeatures=FEATURES, nlevels=4, edgeThreshold=15, fastThreshold=10)


def features(view: View) -> Features:
    """The ORB features of a view and where they lie."""
    keypoints, descriptors = _detector().detectAndCompute(
        cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY), None
    )
    if descriptors is None:
        return NONE
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")
    pixels = cv2.KeyPoint_convert(keypoints)[order]
    u, v = np.rint(pixels).astype(np.int64).T
    depth = view.depth[v, u]
    camera = view.camera
    x = (pixels[:, 0] - camera.cx) / camera.fx
    y = (pixels[:, 1] - camera.cy) / camera.fy
    points = np.stack([x * depth, y * depth, depth], axis=1).astype(np.float32)
    return Features(pixels, descriptors[order], points)


def retrieved(view: Features, places: Sequence[Features], count: int) -> list[int]:
    """Positions of at most ``count`` places that look like the view, best first."""
    mine = view.descriptors[:STRONGEST]
    if len(mine) < MIN_VOTES:
        return []
    votes = np.array([_votes(mine, place.descriptors[:STRONGEST]) for place in places])
    order = np.argsort(-votes, kind="stable")[:count]
    return [int(i) for i in order if votes[i] >= MIN_VOTES]


def _votes(mine: np.ndarray, theirs: np.ndarray) -> int:
    """How many of the descriptors (n, 32) a place has too, beyond doubt."""
    distance, _ = _nearest(mine, theirs)
    return int(_beyond_doubt(distance).sum())


def locate(view: Features, place: Features, camera: Camera) -> Located | None:
    """Where a view was taken, seen from a place; None when no motion explains the matches.

    ``camera`` is the view's.
    """
    solid = np.flatnonzero(place.solid)
    i, j = _matches(view.descriptors, place.descriptors[solid])
    if len(i) < MIN_INLIERS:
        return None
    points, pixels = place.points[solid[j]], view.pixels[i]
    try:
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            camera.K,
            None,
            iterationsCount=RANSAC_ROUNDS,
            reprojectionError=REPROJECTION * camera.width,
            confidence=0.999,
            flags=cv2.SOLVEPNP_EPNP,
        )
        if not found or len(inliers) < max(MIN_INLIERS, MIN_INLIER_SHARE * len(i)):
            return None
        inliers = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(
            points[inliers], pixels[inliers], camera.K, None, turn, shift
        )
    except cv2.error:  # points on a line or all in one place: no pose fits them alone
        return None
    T_view_place = np.eye(4)
    T_view_place[:3, :3], T_view_place[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    if not np.isfinite(T_view_place).all():
        return None
    seen = view.points[i[inliers], 2]
    z = points[inliers] @ T_view_place[2, :3] + T_view_place[2, 3]
    there = seen > 0
    if there.sum() < MIN_INLIERS // 2:
        return None
    if np.median(np.abs(z[there] - seen[there]) / seen[there]) > DEPTH_AGREES:
        return None
    return Located(rigid(np.linalg.inv(T_view_place)), len(inliers))


def confirms(view: Features, place: Features, T_place_view: np.ndarray, camera: Camera) -> bool:
    """Whether matched features say that a motion is right; True where there is little to match.

    Depth alone takes one corner of a room for another; ``camera`` is the view's.
    """
    solid = np.flatnonzero(place.solid)
    if min(len(solid), len(view.pixels)) < FEW:
        return True
    i, j = _matches(view.descriptors, place.descriptors[solid])
    T = np.linalg.inv(T_place_view)
    points = place.points[solid[j]].astype(np.float64) @ T[:3, :3].T + T[:3, 3]
    front = points[:, 2] > 1e-3
    uv, _ = camera.pixels(points[front])
    off = np.linalg.norm(uv - view.pixels[i[front]], axis=1)
    return int((off < 2 * REPROJECTION * camera.width).sum()) >= MIN_VOTES


def _matches(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in two sets of descriptors that are each other's best and beyond doubt."""
    distance, nearest = _nearest(a, b)
    if not len(distance):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    back = _nearest(b, a)[1][:, 0]
    i, j = np.arange(len(a)), nearest[:, 0]
    keep = (back[j] == i) & _beyond_doubt(distance)
    return i[keep], j[keep]


def _beyond_doubt(distance: np.ndarray) -> np.ndarray:
    """Whether the best of two distances (n, 2) is small, and much smaller than the second."""
    return (distance[:, 0] <= SAME_BITS) & (distance[:, 0] < RATIO * distance[:, 1])


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two nearest descriptors of ``b`` for each of ``a``: differing bits and positions (n, 2).

    Nothing (0, 2) where one of the sets has fewer than two.
    """
    if min(len(a), len(b)) < 2:
        return np.zeros((0, 2), np.int32), np.zeros((0, 2), np.int32)
    return cv2.batchDistance(a, b, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2)
