# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols, each written once as data: what the network sees, what is compared.

In this order: the recorded extremes are masked (C), the frame is cut to what the network sees
(sparse-to-dense), brought to another size (D), or halved, cut and stretched back (E); the compared
part is cut out; truth outside the limits is left out; predictions are clipped where the protocol's
authors do so; both are divided by the unit. A prediction that is missing (0, negative, NaN,
infinite) is never clipped into a value: it stays missing and is counted.

Averages are per image, then over images, for every protocol, unless asked for per pixel.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import Sample, without_extremes

__all__ = ["PROTOCOLS", "Protocol"]

Box = tuple[int, int, int, int]
Size = tuple[int, int]


@dataclass(frozen=True)
class Protocol:
    """How predictions are compared with the truth; boxes are top, bottom, left, right in pixels.

    `size` (h, w) is what the recording's images must have. `extremes` masks truth equal to the
    image's smallest or largest recorded depth. The network sees the box `sees`, then the frame
    resized to `resized` (image by area, truth by nearest neighbour). `stretched` is E's own way:
    it sees the centre 228x304 of the halved image (nearest neighbour), and its answer is resized
    over the whole frame although it saw less. `crop` bounds the compared pixels, `fractions` does
    so as shares of any size; `low` < truth < `high` in metres; `clip` bounds predictions, metres;
    `unit` metres become 1 before errors are taken. `lidar`: where a recording has no true depth,
    its projected scan is the truth. `measures` names the group of `metrics` its authors report.
    """

    name: str
    help: str
    size: Size | None = None
    extremes: bool = False
    sees: Box | None = None
    resized: Size | None = None
    stretched: bool = False
    crop: Box | None = None
    fractions: tuple[float, float, float, float] | None = None
    low: float = 1e-3
    high: float = np.inf
    clip: tuple[float, float] | None = None
    unit: float = 1.0
    lidar: bool = False
    measures: str = "usual"

    def check(self, camera: Camera, sparse: str) -> None:
        """Refuse what this protocol is not defined for."""
        if self.size is not None and camera.size != self.size:
            raise ValueError(
                f"protocol {self.name}: expected images of {self.size[1]}x{self.size[0]}, "
                f"got {camera.width}x{camera.height}"
            )
        if (self.stretched or self.resized) and sparse != "none":
            why = "stretching" if self.stretched else "resizing"
            raise ValueError(
                f"protocol {self.name}: expected --sparse none ({why} moves the points), "
                f"got {sparse!r}"
            )

    def terms(self) -> dict:
        """Every setting by name, for the report."""
        return dataclasses.asdict(self)

    def prepare(self, sample: Sample) -> Sample:
        """Return the sample as this protocol knows it: masked, cut, resized, with its camera."""
        if self.extremes and sample.depth is not None:
            sample = dataclasses.replace(sample, depth=without_extremes(sample.depth))
        if self.sees is not None:
            top, bottom, left, right = self.sees
            camera = sample.camera.cropped(left, top, right - left, bottom - top)
            sample = _with_images(sample, camera, self.seen)
        if self.resized is not None:
            height, width = self.resized
            camera = sample.camera.resized(width, height)
            sample = _with_images(sample, camera, lambda image: _resized(image, self.resized))
        return sample

    def seen(self, image: np.ndarray) -> np.ndarray:
        """Return the part of a recorded frame (H, W[, 3]) that the network may see."""
        if self.sees is None:
            return image
        top, bottom, left, right = self.sees
        return image[top:bottom, left:right]

    def view(self, rgb: np.ndarray, camera: Camera) -> tuple[np.ndarray, Camera]:
        """Return what the estimator is shown of a prepared rgb (H, W, 3), and its camera."""
        if not self.stretched:
            return rgb, camera
        height, width = camera.height // 2, camera.width // 2
        half = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_NEAREST)
        x, y = (width - 304) // 2, (height - 228) // 2
        shown = np.ascontiguousarray(half[y : y + 228, x : x + 304])
        return shown, camera.resized(width, height).cropped(x, y, 304, 228)

    def frame(self, depth: np.ndarray, size: Size) -> np.ndarray:
        """Bring the answer to the view over the prepared truth's frame, (H, W) metres."""
        if not self.stretched:
            return depth
        return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_LINEAR)

    def cut(self, depth: np.ndarray) -> np.ndarray:
        """Return the compared part of a prepared frame (H, W)."""
        if self.fractions is not None:
            height, width = depth.shape
            top, bottom, left, right = self.fractions
            box = int(top * height), int(bottom * height), int(left * width), int(right * width)
        elif self.crop is not None:
            box = self.crop
        else:
            return depth
        top, bottom, left, right = box
        return depth[top:bottom, left:right]

    def truth(self, depth: np.ndarray) -> np.ndarray:
        """Return what is compared of a prepared frame's truth (H, W) m, in units, 0 = left out."""
        depth = self.cut(depth)
        counts = (depth > self.low) & (depth < self.high)
        return np.where(counts, depth, np.float32(0)) / np.float32(self.unit)

    def answer(self, depth: np.ndarray) -> np.ndarray:
        """Return what is compared of an answer (H, W) m, clipped, in units; missing stays 0."""
        depth = self.cut(depth)
        with np.errstate(invalid="ignore"):
            stands = np.isfinite(depth) & (depth > 0)
        if self.clip is not None:
            depth = np.clip(depth, *np.float32(self.clip))
        return np.where(stands, depth, np.float32(0)) / np.float32(self.unit)


def _with_images(sample: Sample, camera: Camera, change) -> Sample:
    return dataclasses.replace(
        sample,
        rgb=np.ascontiguousarray(change(sample.rgb)),
        depth=None if sample.depth is None else np.ascontiguousarray(change(sample.depth)),
        sparse=None if sample.sparse is None else np.ascontiguousarray(change(sample.sparse)),
        camera=camera,
    )


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    colour = image.ndim == 3
    how = cv2.INTER_AREA if colour else cv2.INTER_NEAREST_EXACT  # depths are never mixed
    return cv2.resize(image, size[::-1], interpolation=how)


GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)  # shares of height and width
NYU = (480, 640)
_ALL = (
    Protocol("full", "whole frame, nothing stretched or clipped"),
    Protocol(
        "E",
        "papers E, B: NYU, centre crop stretched over 480x640, no clipping",
        NYU,
        stretched=True,
        measures="E",
    ),
    Protocol(
        "eigen",
        "NYU, rows 45:471, columns 41:601, 1e-3 < d < 10 m, predictions clipped to that",
        NYU,
        crop=(45, 471, 41, 601),
        high=10.0,
        clip=(1e-3, 10.0),
    ),
    # Ma and Karaman halve the frame and draw the samples from the half; counts here are of full
    # resolution, so it is not halved.
    Protocol(
        "centre",
        "sparse-to-dense: NYU, the network sees, and samples are drawn from, the centre 456x608",
        NYU,
        sees=(12, 468, 16, 624),
    ),
    # C2 (all depths up to 80 m) is not in the papers' texts.
    Protocol(
        "make3d",
        "papers E, B: Make3D at 460x345, criterion C1 (0 < d < 70 m), no clipping",
        (460, 345),
        low=0.0,
        high=70.0,
        measures="B",
    ),
    Protocol(
        "garg",
        "KITTI: Garg crop, 1e-3 < d < 80 m, predictions clipped to that; truth is the LiDAR's",
        fractions=GARG,
        high=80.0,
        clip=(1e-3, 80.0),
        lidar=True,
    ),
    Protocol(
        "kitti",
        "KITTI depth completion: all pixels with truth, no crop, no clipping",
        low=0.0,
        measures="kitti",
    ),
    Protocol(
        "C",
        "paper C: depths at the image's recorded minimum or maximum are masked",
        extremes=True,
        low=0.0,
        measures="C",
    ),
    # What D's 0…1 stands for is not said: depth over the largest depth of its networks here.
    Protocol(
        "D-kitti-small",
        "paper D, Table 1: KITTI at 37x147, depth / 80 m in 0…1",
        resized=(37, 147),
        low=0.0,
        high=80.0,
        unit=80.0,
        measures="D",
    ),
    Protocol(
        "D-kitti",
        "paper D, Table 2: KITTI at 94x310, depth / 80 m in 0…1",
        resized=(94, 310),
        low=0.0,
        high=80.0,
        unit=80.0,
        measures="D",
    ),
    Protocol(
        "D-nyu",
        "paper D, Table 3: NYU at 240x320, depth / 10 m in 0…1",
        resized=(240, 320),
        low=0.0,
        high=10.0,
        unit=10.0,
        measures="D",
    ),
)

#: the protocols by name
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
