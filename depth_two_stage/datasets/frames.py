# SPDX-License-Identifier: Apache-2.0
"""Frames that lie on disk as one file an image: what the folder layouts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_two_stage import files
from depth_two_stage.camera import Camera, Lens
from depth_two_stage.datasets import Dataset, DatasetError, Sample, clean_depth

#: Recordings without stamps are taken to run at 10 Hz.
FRAME_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class Frame:
    """Where one sample lies: paths, stamp in nanoseconds, pose T_world_camera (4, 4) or None.

    ``lens`` and ``T_camera_lidar`` (4, 4) come before the data set's where frames differ in them.
    """

    name: str
    rgb: Path
    depth: Path | None
    stamp: int
    T_world_camera: np.ndarray | None = None
    sparse: Path | None = None
    points: Path | None = None
    lens: Lens | None = None
    T_camera_lidar: np.ndarray | None = None


class FrameDataset(Dataset):
    """Samples from image files: read, brought to one size, rectified together.

    ``lens`` is the raw colour camera, or None where each frame has its own. An image of another
    size than the lens (NYU's halved colour) takes the lens's camera resized with half-pixel
    centres; that needs an undistorted lens. ``depth_scale`` is units per metre of the depth PNG.
    Depth of another size than the colour is resampled to it by nearest neighbour when both show
    the same field of view (same aspect).
    """

    def __init__(
        self,
        name: str,
        split: str | None,
        frames: Sequence[Frame],
        lens: Lens | None,
        depth_scale: float,
        read_points: Callable[[Path], np.ndarray] | None = None,
        T_camera_lidar: np.ndarray | None = None,
    ) -> None:
        self.frames = list(frames)
        self.depth_scale = depth_scale
        self.read_points = read_points
        self.T_camera_lidar = T_camera_lidar
        lenses = {id(frame.lens): frame.lens for frame in self.frames if frame.lens is not None}
        if len(lenses) == 1:
            (lens,) = lenses.values()
        camera = None if lens is None else lens.rectified
        if self.frames and lens is not None:
            height, width = files.read_image(self.frames[0].rgb).shape[:2]
            camera = _camera_for(lens, height, width, self.frames[0].rgb)
        super().__init__(name, split, [f.name for f in self.frames], camera, lens)

    def raw(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour uint8 (H, W, 3) and depth (H, W) m as recorded, not rectified."""
        return self._read(self.frames[int(self._order[index])])

    def jpeg(self, index: int) -> Path | None:
        """The frame's own JPEG file where nothing is rectified."""
        frame = self.frames[int(self._order[index])]
        as_it_is = (frame.lens or self.lens).is_rectified
        return frame.rgb if as_it_is and frame.rgb.suffix.lower() in (".jpg", ".jpeg") else None

    def _read(self, frame: Frame) -> tuple[np.ndarray, np.ndarray | None]:
        rgb = files.read_image(frame.rgb)
        if frame.depth is None:
            return rgb, None
        return rgb, self.read_depth(frame, rgb.shape[:2])

    def read_depth(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """The frame's raw depth float32 m at the colour's size (H, W), 0 = none."""
        depth = clean_depth(files.read_depth(frame.depth, self.depth_scale))
        return _resampled(depth, size, frame.depth)

    def decode(self, index: int) -> Sample:
        """Read and rectify the frame at a position of ``names``."""
        frame = self.frames[index]
        rgb, depth = self._read(frame)
        sparse = None
        if frame.sparse is not None:
            sparse = clean_depth(files.read_depth(frame.sparse, self.depth_scale))
            if sparse.shape != rgb.shape[:2]:
                raise DatasetError(
                    f"{frame.sparse}: expected the colour's size {rgb.shape[:2]}, "
                    f"got {sparse.shape}"
                )
        lens = frame.lens or self.lens
        camera = _camera_for(lens, *rgb.shape[:2], frame.rgb)
        if not lens.is_rectified:
            rgb = lens.rectify_image(rgb)
            depth = None if depth is None else lens.rectify_depth(depth)
            sparse = None if sparse is None else _rectify_sparse(lens, sparse)
        points, T_camera_lidar = None, None
        if frame.points is not None:
            points = self.read_points(frame.points)
            T_camera_lidar = self.T_camera_lidar
            if frame.T_camera_lidar is not None:
                T_camera_lidar = frame.T_camera_lidar
        return Sample(
            rgb,
            depth,
            camera,
            frame.stamp,
            frame.name,
            points=points,
            T_camera_lidar=T_camera_lidar,
            T_world_camera=frame.T_world_camera,
            sparse=sparse,
        )


def images_of(folder: Path, what: str) -> list[Path]:
    """The image files of a folder, sorted by name."""
    if not folder.is_dir():
        raise DatasetError(f"{what}: expected a folder {folder}, got none")
    found = [p for p in folder.iterdir() if p.suffix.lower() in files.IMAGE_SUFFIXES]
    if not found:
        raise DatasetError(f"{what}: expected JPEG or PNG images in {folder}, got none")
    return sorted(found)


def all_there(root: Path, wanted: Iterable[Path], named_by: str = "root") -> None:
    """Every file of a list, or an error with the first ten that are missing and their count."""
    missing = [path for path in wanted if not path.is_file()]
    if not missing:
        return
    first = [str(path.relative_to(root)) for path in missing[:10]]
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    raise DatasetError(
        f"{named_by}: expected every file of {root}, "
        f"got {len(missing)} missing: {', '.join(first)}{more}"
    )


def images_for(folder: Path, suffix: str, images: list[Path]) -> list[Path]:
    """The images that a folder's files (NAME + suffix) go with; images all lie in one folder.

    With `all_there` no image can be missing unnoticed and shorten what is measured.
    """
    place, ending = images[0].parent, images[0].suffix
    known = {image.stem for image in images}
    names = [path.name.removesuffix(suffix) for path in sorted(folder.glob(f"*{suffix}"))]
    return [place / f"{name}{ending}" for name in names if name not in known]


def existing(path: Path, named_by: str) -> Path:
    """The path, which must be a file; otherwise the error says who named it."""
    if not path.is_file():
        raise DatasetError(f"{named_by}: expected the file {path}, got none")
    return path


def _camera_for(lens: Lens, height: int, width: int, path: Path) -> Camera:
    camera = lens.rectified
    if camera.size == (height, width):
        return camera
    if not lens.is_rectified or not _same_aspect((height, width), camera.size):
        raise DatasetError(
            f"{path}: expected the camera's size {camera.height}x{camera.width}, "
            f"got {height}x{width}"
        )
    return camera.resized(width, height)


def _same_aspect(a: tuple[int, int], b: tuple[int, int]) -> bool:
    # Half a pixel of the smaller image is what rounding a size may cost.
    return abs(a[0] * b[1] - a[1] * b[0]) <= 0.5 * max(a[1], b[1], a[0], b[0])


def _resampled(depth: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    if depth.shape == size:
        return depth
    if not _same_aspect(depth.shape, size):
        raise DatasetError(
            f"{path}: expected the colour's size {size} or its aspect ratio, got {depth.shape}"
        )
    return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _rectify_sparse(lens: Lens, sparse: np.ndarray) -> np.ndarray:
    # Points are moved, not images: remapping would lose or double single pixels.
    v, u = np.nonzero(sparse)
    if not len(u):
        return sparse
    pixels = np.stack([u, v], axis=1).astype(np.float64)[:, None]
    undistort = cv2.undistortPoints
    if lens.model == "equidistant":
        undistort = cv2.fisheye.undistortPoints
    rays = undistort(pixels, lens.K, lens.D if lens.D.size else np.zeros(4)).reshape(-1, 2)
    points = np.column_stack([rays, np.ones(len(rays))]) * sparse[v, u, None]
    return lens.rectified.project(points @ lens.R.T)
