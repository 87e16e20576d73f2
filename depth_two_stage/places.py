# SPDX-License-Identifier: Apache-2.0
"""Places known again by features: SIFT keypoints with depth, retrieval, and a pose by PnP.

A view's features are computed once (about 75 KB). `retrieved` ranks the known places by how many
of a view's strongest descriptors they have too; `locate` matches all of them and asks whether one
rigid motion explains the matches: PnP within RANSAC (Fischler and Bolles 1981), whose generator
OpenCV seeds itself, so that the same views give the same pose. SIFT (Lowe 2004) is OpenCV's. It
takes ten times as long as ORB, which knows hardly any view again from half a metre away.
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
CONTRAST = 0.01  # OpenCV's is 0.04: bare walls keep some features
LENGTH = 128  # of a descriptor
STRONGEST = 150  # of a view's features: by these places are retrieved
SAME = 300.0  # largest distance of two descriptors, whose norm is 512
RATIO = 0.8  # a match is better than the second best by so much (Lowe 2004)
MIN_VOTES = 8  # descriptors that a place must share to be looked at
MIN_INLIERS = 10
FEW = 50  # features of a view or place that say nothing against a motion
MIN_INLIER_SHARE = 0.3  # of the matches
REPROJECTION = 0.01  # of the image's width: largest error of an inlier
RANSAC_ROUNDS = 1000
DEPTH_AGREES = 0.1  # largest median difference of the inliers' depths, share of the depth


@dataclass(frozen=True)
class Features:
    """Features of a view, strongest first: N of them.

    ``pixels`` float32 (N, 2); ``descriptors`` uint8 (N, 128); ``points`` float32 (N, 3) m in the
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
    np.zeros((0, 2), np.float32), np.zeros((0, LENGTH), np.uint8), np.zeros((0, 3), np.float32)
)


@cache
def _detector() -> cv2.SIFT:
    return cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=CONTRAST)


def features(view: View) -> Features:
    """The SIFT features of a view and where they lie."""
    keypoints, descriptors = _detector().detectAndCompute(
        cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY), None
    )
    if descriptors is None:
        return NONE
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")[:FEATURES]
    pixels = cv2.KeyPoint_convert(keypoints)[order]
    u, v = np.rint(pixels).astype(np.int64).T
    depth = view.depth[v, u]
    camera = view.camera
    x = (pixels[:, 0] - camera.cx) / camera.fx
    y = (pixels[:, 1] - camera.cy) / camera.fy
    points = np.stack([x * depth, y * depth, depth], axis=1).astype(np.float32)
    return Features(pixels, descriptors[order].astype(np.uint8), points)


def retrieved(view: Features, places: Sequence[Features], count: int) -> list[int]:
    """Positions of at most ``count`` places that look like the view, best first."""
    mine = view.descriptors[:STRONGEST]
    if len(mine) < MIN_VOTES:
        return []
    votes = np.array([_votes(mine, place.descriptors[:STRONGEST]) for place in places])
    order = np.argsort(-votes, kind="stable")[:count]
    return [int(i) for i in order if votes[i] >= MIN_VOTES]


def _votes(mine: np.ndarray, theirs: np.ndarray) -> int:
    """How many of the descriptors (n, 128) a place has too, beyond doubt."""
    _, sure = _nearest(_distances(mine, theirs))
    return int(sure.sum())


def locate(view: Features, place: Features, camera: Camera) -> Located | None:
    """Where a view was taken, seen from a place; None when no motion explains the matches.

    ``camera`` is the view's.
    """
    i, j = _matched(view, place)
    if len(i) < MIN_INLIERS:
        return None
    points, pixels = place.points[j], view.pixels[i]
    try:
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            camera.K,
            None,
            iterationsCount=RANSAC_ROUNDS,
            reprojectionError=REPROJECTION * camera.width,
            confidence=0.999,
            flags=cv2.SOLVEPNP_AP3P,
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
    if min(int(place.solid.sum()), len(view.pixels)) < FEW:
        return True
    i, j = _matched(view, place)
    T = np.linalg.inv(T_place_view)
    points = place.points[j].astype(np.float64) @ T[:3, :3].T + T[:3, 3]
    front = points[:, 2] > 1e-3
    uv, _ = camera.pixels(points[front])
    off = np.linalg.norm(uv - view.pixels[i[front]], axis=1)
    return int((off < 2 * REPROJECTION * camera.width).sum()) >= MIN_VOTES


def _matched(view: Features, place: Features) -> tuple[np.ndarray, np.ndarray]:
    """Positions of what matches in a view and, with depth, in a place; each pixel counts once.

    SIFT describes a pixel several times where it has several orientations.
    """
    solid = np.flatnonzero(place.solid)
    i, j = _matches(view.descriptors, place.descriptors[solid])
    _, once = np.unique(view.pixels[i], axis=0, return_index=True)
    return i[once], solid[j[once]]


def _matches(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in two sets of descriptors that are each other's best and beyond doubt."""
    distances = _distances(a, b)
    nearest, sure = _nearest(distances)
    if not sure.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    i = np.flatnonzero(sure)
    j = nearest[i]
    mutual = distances[:, j].argmin(axis=0) == i
    return i[mutual], j[mutual]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances float32 (n, m) of descriptors, exact: no sum reaches 2²⁴."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return squares - 2 * (a @ b.T)


def _nearest(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest (n,) by squared distances (n, m), and whether it is so beyond doubt.

    It is near, and much nearer than the second; of fewer than two nothing is beyond doubt.
    """
    count, others = distances.shape
    if others < 2:
        return np.zeros(count, np.int64), np.zeros(count, bool)
    two = np.partition(distances, 1, axis=1)[:, :2]
    sure = (two[:, 0] <= SAME**2) & (two[:, 0] < RATIO**2 * two[:, 1])
    return distances.argmin(axis=1), sure
