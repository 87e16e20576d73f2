# SPDX-License-Identifier: Apache-2.0
"""What enters stage one: colour and what the points say, at the network's own resolution.

NumPy and OpenCV only; training and the estimator call the same function.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .. import interpolation

CHANNELS = {
    **{"none": 3, "grey": 1, "points": 1, "zeros": 4, "filled": 5, "smooth": 5},
    "relative": 8,
}
FILLED = ("filled", "smooth")  # the network predicts a correction to the filled depth
RELATIVE = ("relative",)  # and its logarithm, in units of the scene
RGB_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, as torchvision's encoders
RGB_STD = np.array([0.229, 0.224, 0.225], np.float32)
# What is subtracted from a colour of 0…1, and by what it is divided then.
COLOURS = {
    "imagenet": (RGB_MEAN, RGB_STD),
    "unit": (np.float32(0), np.float32(1)),  # sparse-to-dense
    "bytes": (np.float32(0), np.float32(1 / 255)),  # E's released weights see 0…255
}
MeanDepth = float | Sequence[Sequence[float]]  # metres: of all pixels, or a small image (h, w)
FAR = 128.0  # px; farther from the nearest point is all the same
#: what a network of relative depth is asked for: so many times nearer or farther than the median
REACH = 20.0
LOG_REACH = float(np.log(REACH))
#: channels of ``relative`` beside the colour
SMOOTH, NEAREST, LACK, DISTANCE, POINTS = range(3, 8)


def nearest_fill(sparse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sparse depth (h, w) m, 0 = none → (depth of the nearest point, distance to it in px).

    Both float32 (h, w). At least one point has to be there.
    """
    empty = (sparse <= 0).astype(np.uint8)
    if empty.all():
        raise ValueError("sparse: expected at least one point, got none")
    distance, labels = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    lookup = np.zeros(int(labels.max()) + 1, np.float32)
    known = empty == 0
    lookup[labels[known]] = sparse[known]
    return lookup[labels], distance


def scene_unit(sparse: np.ndarray | None, sparse_input: str, mean_depth: MeanDepth) -> float:
    """What the network's depth is measured in, in units of ``sparse``: 1 but for ``relative``.

    There it is the median of the points, so that a scene twice as large is the same to the network,
    and without points the median of the training images' mean depth. Arguments as `assemble`'s.
    """
    if sparse_input not in RELATIVE:
        return 1.0
    known = np.asarray(mean_depth) if sparse is None else sparse[sparse > 0]
    return float(np.median(known if known.size else np.asarray(mean_depth)))


def assemble(
    rgb: np.ndarray,
    sparse: np.ndarray | None,
    sparse_input: str,
    mean_depth: MeanDepth,
    colour: str = "imagenet",
) -> np.ndarray:
    """Colour uint8 (h, w, 3) and sparse depth float32 (h, w) m → float32 (C, h, w).

    ``none``: colour (C = 3). ``grey``: its luminance alone (C = 1; D). ``zeros``: paper A's sparse
    channel, metres, 0 between the points (C = 4). ``points``: that channel alone (C = 1).
    ``filled``: depth of the nearest point in metres and the distance to it divided by 128 px, at
    most 1 (C = 5); without points the mean depth of the training set (one number, or an image of
    any size that is resized) and 1. ``colour`` names how colour is normalised (``COLOURS``).
    ``smooth``: as ``filled``, with the smooth interpolation of the points (`interpolation.smooth`)
    in the place of the nearest one's depth. ``relative``: logarithms of depths in units of the
    scene (`scene_unit`), of the smooth interpolation, of the nearest point, and what the first
    lacks at the points (0 elsewhere); the square root of the distance to the nearest point as
    above; and 1 at the points (C = 8); without points the mean depth, its distance 1.
    """
    if sparse_input not in CHANNELS:
        raise ValueError(
            f"sparse_input: expected one of {', '.join(CHANNELS)}, got {sparse_input!r}"
        )
    if sparse_input == "grey":
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        return ((grey - RGB_MEAN.mean()) / RGB_STD.mean())[None]
    has_points = sparse is not None and bool((sparse > 0).any())
    if sparse_input == "points":
        return (sparse if has_points else np.zeros(rgb.shape[:2])).astype(np.float32)[None]
    x = np.empty((CHANNELS[sparse_input], *rgb.shape[:2]), np.float32)
    mean, std = COLOURS[colour]
    x[:3] = ((rgb.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    if sparse_input == "zeros":
        x[3] = sparse if has_points else 0
    elif sparse_input in RELATIVE:
        x[3:] = _relative(sparse if has_points else None, mean_depth, rgb.shape[:2])
    elif sparse_input in FILLED:
        if has_points:
            x[3], distance = nearest_fill(sparse)
            if sparse_input == "smooth":
                x[3] = interpolation.smooth(sparse)
            x[4] = np.minimum(distance / FAR, 1)
        else:
            x[3] = _mean_image(mean_depth, rgb.shape[:2])
            x[4] = 1
    return x


def _mean_image(mean_depth: MeanDepth, size: tuple[int, int]) -> np.ndarray:
    """The training images' mean depth at a size (h, w): float32 m."""
    mean = np.atleast_2d(np.asarray(mean_depth, np.float32))
    return cv2.resize(mean, size[::-1], interpolation=cv2.INTER_LINEAR)


def _relative(
    sparse: np.ndarray | None, mean_depth: MeanDepth, size: tuple[int, int]
) -> np.ndarray:
    """The five channels of depth of ``relative``: float32 (5, h, w)."""
    found = np.zeros((5, *size), np.float32)
    unit = np.float32(scene_unit(sparse, "relative", mean_depth))
    if sparse is None:
        found[0] = found[1] = np.log(_mean_image(mean_depth, size) / unit)
        found[3] = 1
        return found
    nearest, distance = nearest_fill(sparse)
    known = sparse > 0
    found[0] = np.log(interpolation.smooth(sparse) / unit)
    found[1] = np.log(nearest / unit)
    found[2][known] = np.log(sparse[known] / unit) - found[0][known]
    found[3] = np.sqrt(np.minimum(distance / FAR, 1))
    found[4] = known
    return found
