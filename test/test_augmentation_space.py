# SPDX-License-Identifier: Apache-2.0
"""What is augmented lies in space where it lay, seen by the new camera."""

import numpy as np
import pytest
from slanted_plane import CAMERA

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.augmentation import Augmentation

MOTIONS = [
    # rotation, scale, flip, size
    (0.0, (1.0, 1.0), 0.0, None),
    (0.0, (1.0, 1.0), 0.0, (180, 200)),
    (5.0, (1.0, 1.0), 0.0, (228, 304)),
    (0.0, (1.5, 1.5), 0.0, (228, 304)),
    (5.0, (1.0, 1.5), 1.0, (228, 304)),
    (30.0, (0.9, 1.2), 0.0, (240, 320)),
    (5.0, (1.0, 1.5), 0.5, (300, 330)),
]


def fitted_roll(before, after):
    """The angle that turns x and y (N, 2) m into those of the view, radians; pixels blur it."""
    along = (after * before).sum()
    across = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum()
    return np.arctan2(across, along)


def rolled(xy, angle):
    c, d = np.cos(angle), np.sin(angle)
    return xy @ np.array([[c, d], [-d, c]])


@pytest.mark.parametrize(
    "camera", [CAMERA, Camera(320, 240, 250.0, 270.0, 175.0, 110.0)], ids=["square", "oblong"]
)
@pytest.mark.parametrize(("rotation", "scale", "flip", "size"), MOTIONS)
def test_every_sample_lies_in_space_where_it_lay(camera, rotation, scale, flip, size):
    # Depths that tell the samples apart, and a truth of 3 m everywhere that tells s.
    sparse = np.zeros(camera.size, np.float32)
    places = np.random.default_rng(3).choice(sparse.size, 300, replace=False)
    sparse.flat[places] = 2 * 1.01 ** np.arange(300)
    rgb = np.zeros((*camera.size, 3), np.uint8)
    rgb[:, : camera.width // 2] = 255  # tells whether the view is mirrored
    points = camera.backproject(sparse).reshape(-1, 3)[places].astype(np.float64)
    for seed in range(4):
        augment = Augmentation(np.random.default_rng(seed), size, None, rotation, scale, flip, 0.0)
        view = augment(rgb, np.full(camera.size, 3, np.float32), sparse, camera)
        s = 3 / view.depth.max()
        assert scale[0] - 1e-6 <= s <= scale[1] + 1e-6
        mirrored = view.rgb[:, 0].mean() < view.rgb[:, -1].mean()
        assert mirrored if flip == 1 else flip > 0 or not mirrored
        v, u = np.nonzero(view.sparse)
        assert len(v) > 60
        index = np.rint(np.log(view.sparse[v, u] * s / 2) / np.log(1.01)).astype(int)
        np.testing.assert_allclose(view.sparse[v, u] * s, 2 * 1.01**index, rtol=1e-5)
        before = points[index] * [-1 if mirrored else 1, 1, 1 / s]
        after = view.camera.backproject(view.sparse)[v, u].astype(np.float64)
        errors = []
        for angle in fitted_roll(before[:, :2], after[:, :2]) + np.linspace(-4e-3, 4e-3, 321):
            turned = np.column_stack([rolled(before[:, :2], angle), before[:, 2]])
            expected, _ = view.camera.pixels(turned)
            errors.append((np.abs(expected - np.column_stack([u, v])).max(), abs(angle)))
        error, angle = min(errors)
        # Half a pixel: each lies in the very pixel where its point is to be seen.
        assert error < 0.505
        assert np.rad2deg(angle) <= rotation + 0.2


@pytest.mark.parametrize("seed", range(3))
def test_truth_and_colour_of_a_rendered_room_lie_in_space_where_they_lay(seed):
    sample = open_dataset("rendered", "", "frames:20,noise:0")[7 * seed]
    camera, depth = sample.camera, sample.depth
    # Colour that says of which pixel it is: red the column, green the row.
    rgb = np.zeros((*camera.size, 3), np.uint8)
    v, u = np.indices(camera.size)
    rgb[..., 0], rgb[..., 1] = u * 255 / camera.width, v * 255 / camera.height
    view = Augmentation(np.random.default_rng(seed), (200, 280), colour=0.0)(
        rgb, depth, None, camera
    )
    rng = np.random.default_rng(seed)
    s, angle = rng.uniform(1.0, 1.5), np.deg2rad(rng.uniform(-5, 5))
    seen = view.depth > 0
    points = view.camera.backproject(view.depth)[seen].astype(np.float64)
    points *= [-1 if rng.random() < 0.5 else 1, 1, s]  # not mirrored, not pressed together
    points[:, :2] = rolled(points[:, :2], -angle)
    old, z = camera.pixels(points)
    near = np.rint(old).astype(int)
    inside = (near >= 0).all(1) & (near < [camera.width, camera.height]).all(1)
    assert inside.mean() > 0.99
    x, y = near[inside].T
    # Nearest neighbour: the very value of the pixel, but for ties between two.
    same = np.isclose(z[inside], depth[y, x], rtol=1e-5)
    assert same.mean() > 0.95
    window = [
        depth[np.clip(y + j, 0, camera.height - 1), np.clip(x + i, 0, camera.width - 1)]
        for j in (-1, 0, 1)
        for i in (-1, 0, 1)
    ]
    assert np.isclose(np.stack(window), z[inside], rtol=1e-5).any(0).all()
    for channel, place, span in ((0, x, camera.width), (1, y, camera.height)):
        wanted = place * 255 / span
        error = np.abs(view.rgb[seen][inside][:, channel] - wanted)
        assert np.median(error) < 1 and np.percentile(error, 99) < 2.5
