# SPDX-License-Identifier: Apache-2.0
"""Image, truth, samples and camera move together: checked in space, on a textured plane."""

import dataclasses

import numpy as np
import pytest
import torch

from depth_two_stage.camera import Camera
from depth_two_stage.datasets import open_dataset
from depth_two_stage.datasets.augmentation import Augmentation, PairAugmentation
from depth_two_stage.datasets.ranges import RANGES, PairRanges, Ranges

CAMERA = Camera(320, 240, 260.0, 260.0, 150.0, 126.0)
NORMAL = np.array([0.3, -0.2, -1.0])  # the plane NORMAL · p = OFFSET, slanted to the camera
OFFSET = -3.0


def plane(camera=CAMERA):
    """A slanted plane; its colour tells where on the optical frame's x and y a pixel looks."""
    rays = camera.rays().astype(np.float64)
    depth = (OFFSET / (rays @ NORMAL)).astype(np.float32)
    rgb = np.zeros((*camera.size, 3), np.uint8)
    rgb[..., 0] = np.clip(128 + 150 * rays[..., 0], 0, 255)
    rgb[..., 1] = np.clip(128 + 150 * rays[..., 1], 0, 255)
    return rgb, depth


def samples(depth, seed=0, count=400):
    sparse = np.zeros_like(depth)
    chosen = np.random.default_rng(seed).choice(depth.size, count, replace=False)
    sparse.flat[chosen] = depth.flat[chosen]
    return sparse


def test_switched_off_it_changes_nothing():
    rgb, depth = plane()
    sparse = samples(depth)
    view = Augmentation(np.random.default_rng(0), enabled=False)(rgb, depth, sparse, CAMERA)
    assert np.array_equal(view.rgb, rgb)
    assert np.array_equal(view.depth, depth)
    assert np.array_equal(view.sparse, sparse)
    assert view.camera == CAMERA


def test_centre_crop_is_a_crop():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), size=(228, 304), enabled=False)
    view = augment(rgb, depth, None, CAMERA)
    assert np.array_equal(view.rgb, rgb[6:234, 8:312])
    assert np.array_equal(view.depth, depth[6:234, 8:312])
    assert view.camera == CAMERA.cropped(8, 6, 304, 228)
    assert view.sparse is None


@pytest.mark.parametrize("seed", range(6))
def test_samples_agree_with_the_truth_and_none_is_doubled(seed):
    rgb, depth = plane()
    sparse = samples(depth, seed)
    augment = Augmentation(np.random.default_rng(seed), size=(228, 304))
    view = augment(rgb, depth, sparse, CAMERA)
    kept = view.sparse > 0
    assert 60 < kept.sum() <= 400
    both = kept & (view.depth > 0)
    # A pixel's step on this plane is below 1 %: rounding a position costs no more.
    assert np.abs(view.sparse / np.where(both, view.depth, 1) - 1)[both].max() < 0.01


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_new_view_is_the_plane_seen_by_the_new_camera(seed, flip):
    # Zooming by s with depth / s keeps a point's x and y and divides z: the plane n · p = o becomes
    # (nx, ny, s nz) · p = o, rolled. It comes out so only if depth, centre, crop and flip agree.
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(seed), size=(228, 304), flip=flip)
    view = augment(rgb, depth, None, CAMERA)
    s = np.random.default_rng(seed).uniform(1.0, 1.5)
    points = view.camera.backproject(view.depth)[view.depth > 0].astype(np.float64)
    fit, *_ = np.linalg.lstsq(points, np.ones(len(points)), rcond=None)
    assert np.abs(points @ fit - 1).max() < 0.01
    want = NORMAL * [1, 1, s] / OFFSET
    assert fit[2] == pytest.approx(want[2], rel=5e-3)
    assert np.hypot(*fit[:2]) == pytest.approx(np.hypot(*want[:2]), rel=2e-2)


def test_scale_divides_the_depth_and_keeps_the_focal_length():
    rgb = np.zeros((240, 320, 3), np.uint8)
    depth = np.full((240, 320), 3.0, np.float32)
    augment = Augmentation(np.random.default_rng(0), scale=(1.5, 1.5), rotation=0)
    view = augment(rgb, depth, depth, CAMERA)
    assert np.allclose(view.depth, 2.0) and np.allclose(view.sparse[view.sparse > 0], 2.0)
    assert (view.camera.fx, view.camera.fy) == (CAMERA.fx, CAMERA.fy)


def test_flip_mirrors_image_truth_samples_and_centre():
    rgb, depth = plane()
    sparse = samples(depth)
    augment = Augmentation(np.random.default_rng(0), rotation=0, scale=(1, 1), flip=1.0, colour=0.0)
    view = augment(rgb, depth, sparse, CAMERA)
    assert np.array_equal(view.rgb, rgb[:, ::-1])
    assert np.array_equal(view.depth, depth[:, ::-1])
    assert np.array_equal(view.sparse, sparse[:, ::-1])
    assert view.camera.cx == 319 - CAMERA.cx


def test_flips_happen_half_of_the_time():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), rotation=0, scale=(1, 1))
    mirrored = [augment(rgb, depth, None, CAMERA).camera.cx != CAMERA.cx for _ in range(100)]
    assert 30 < sum(mirrored) < 70


def test_the_colour_follows_the_ray_through_rotation_scale_and_crop():
    # Without flip and jitter, colour is a function of the ray; after a roll by a and an approach
    # by s the pixel with ray r shows the old ray R(-a) r / s.
    rgb, depth = plane()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        view = Augmentation(rng, size=(200, 260), flip=0.0, colour=0.0)(rgb, depth, None, CAMERA)
        rng = np.random.default_rng(seed)
        s, angle = rng.uniform(1.0, 1.5), np.deg2rad(rng.uniform(-5, 5))
        rays = view.camera.rays().astype(np.float64)[..., :2]
        c, d = np.cos(angle), np.sin(angle)
        old = np.stack([c * rays[..., 0] + d * rays[..., 1], -d * rays[..., 0] + c * rays[..., 1]])
        want = 128 + 150 * old / s
        inside = view.depth > 0
        error = np.abs(view.rgb[..., 0] - want[0])[inside]
        assert np.median(error) < 1.5 and np.percentile(error, 99) < 3
        error = np.abs(view.rgb[..., 1] - want[1])[inside]
        assert np.median(error) < 1.5 and np.percentile(error, 99) < 3


def test_another_cameras_frame_is_brought_to_the_canonical_focal_length():
    big = CAMERA.resized(640, 480)
    rgb, depth = plane(big)
    augment = Augmentation(np.random.default_rng(0), (228, 304), focal=260.0, enabled=False)
    view = augment(rgb, depth, samples(depth), big)
    assert view.rgb.shape == (228, 304, 3)
    assert view.camera.focal == pytest.approx(260.0, rel=1e-3)
    points = view.camera.backproject(view.depth)[view.depth > 0]
    assert np.abs(points @ NORMAL - OFFSET).max() < 0.02
    kept = view.sparse > 0
    assert np.allclose(view.sparse[kept], view.depth[kept], rtol=0.01)


def test_a_frame_smaller_than_the_crop_has_no_truth_outside():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0), size=(300, 400), enabled=False)
    view = augment(rgb, depth, None, CAMERA)
    assert view.depth.shape == (300, 400)
    assert np.count_nonzero(view.depth) == depth.size
    assert np.array_equal(view.depth[30:270, 40:360], depth)


def test_no_truth_stays_no_truth_and_values_are_never_blended():
    rgb, depth = plane()
    depth[:, :160] = 0
    depth[:, 160:] = np.where(np.indices((240, 160)).sum(axis=0) % 2, 1, 9)
    view = Augmentation(np.random.default_rng(1), scale=(1, 1))(rgb, depth, None, CAMERA)
    assert set(np.unique(view.depth)) <= {0.0, 1.0, 9.0}


def test_the_seed_decides_the_view_and_jitter_changes_the_image_only():
    rgb, depth = plane()
    one, two = (Augmentation(np.random.default_rng(5))(rgb, depth, None, CAMERA) for _ in range(2))
    assert np.array_equal(one.rgb, two.rgb) and one.camera == two.camera
    augment = Augmentation(np.random.default_rng(5), rotation=0, scale=(1, 1), flip=0)
    view = augment(rgb, depth, None, CAMERA)
    assert not np.array_equal(view.rgb, rgb)
    assert np.array_equal(view.depth, depth)


# --- point by point ------------------------------------------------------------------------------

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


def test_nan_in_the_truth_stays_its_own_pixels_and_is_no_sample():
    rgb, depth = plane()
    sparse = samples(depth)
    depth[100, 100] = np.nan
    sparse[sparse > 0] = np.where(np.arange(400) % 2, np.nan, sparse[sparse > 0])
    view = Augmentation(np.random.default_rng(0), scale=(1, 1))(rgb, depth, sparse, CAMERA)
    assert 0 < np.isnan(view.depth).sum() <= 4  # not blended into its neighbours
    assert np.isfinite(view.sparse).all() and 100 < np.count_nonzero(view.sparse) <= 200


# --- the papers' ranges --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["E", "E-Make3D", "A", "B", "B-Make3D"])
def test_stage_one_sees_the_views_of_e(name):
    # E, section 4.1, "with values following Eigen et al."
    r = RANGES[name]
    assert (r.rotation, r.scale, r.flip, r.gain) == (5.0, (1.0, 1.5), 0.5, (0.8, 1.2))
    assert r.translate


def test_stage_two_of_b_on_make3d_as_printed_and_no_other_changes_pairs():
    assert RANGES["B-Make3D"].pair == PairRanges((10.0, 15.0), 0.9, (0.8, 1.2))
    for name in RANGES.keys() - {"B-Make3D"}:
        assert RANGES[name].pair == PairRanges((1.0, 1.0), 0.0, (1.0, 1.0))


@pytest.mark.parametrize("name", ["C", "D"])
def test_papers_that_print_no_augmentation_get_the_centre_crop(name):
    rgb, depth = plane()
    sparse = samples(depth)
    for seed in range(3):
        augment = Augmentation.of(name, np.random.default_rng(seed), size=(228, 304))
        view = augment(rgb, depth, sparse, CAMERA)
        assert np.array_equal(view.rgb, rgb[6:234, 8:312])
        assert np.array_equal(view.depth, depth[6:234, 8:312])
        assert np.array_equal(view.sparse, sparse[6:234, 8:312])


def test_views_of_e_fill_its_ranges_and_no_more():
    grey = np.full((240, 320, 3), 100, np.uint8)
    depth = np.full((240, 320), 3.0, np.float32)
    augment = Augmentation.of("E", np.random.default_rng(0), size=(228, 304))
    scales, gains, places = [], [], []
    for _ in range(300):
        view = augment(grey, depth, None, CAMERA)
        scales.append(3 / view.depth.max())
        assert (view.rgb == view.rgb[0, 0]).all()  # one factor for the whole image
        gains.append(view.rgb[0, 0] / 100)
        places.append(view.camera.cx)
    gains = np.array(gains)
    assert 1.0 <= min(scales) < 1.05 and 1.45 < max(scales) <= 1.5
    assert (gains.min(0) >= 0.795).all() and (gains.min(0) < 0.83).all()
    assert (gains.max(0) <= 1.205).all() and (gains.max(0) > 1.17).all()
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.3  # each channel its own
    assert np.ptp(places) > 50  # crops all over the frame


def test_the_angle_of_e_fills_five_degrees_either_way():
    rgb, depth = plane()
    angles = []
    sparse = np.zeros_like(depth)
    sparse[126, 40], sparse[126, 260] = 2.0, 4.0  # left and right of the principal point
    ranges = dataclasses.replace(RANGES["E"], scale=(1.0, 1.0), flip=0.0)
    augment = Augmentation.of(ranges, np.random.default_rng(0))
    for _ in range(200):
        view = augment(rgb, depth, sparse, CAMERA)
        (v1, u1), (v2, u2) = (np.argwhere(view.sparse == z)[0] for z in (2.0, 4.0))
        angles.append(np.rad2deg(np.arctan2(v2 - v1, u2 - u1)))
    assert -5.3 < min(angles) < -4.5 and 4.5 < max(angles) < 5.3


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_pairs_of_b_scale_the_rough_map_and_divide_the_truth(kind):
    rough = np.full((1, 1, 2, 4), 2.0, np.float32) * np.arange(1, 5, dtype=np.float32)
    target = np.array([3.0, 0.0, 5.0, 6.0], np.float32) + np.zeros_like(rough)
    if kind == "torch":
        rough, target = torch.from_numpy(rough), torch.from_numpy(target)
    kept = np.asarray(rough).copy(), np.asarray(target).copy()
    augment = PairAugmentation.of(
        Ranges(pair=dataclasses.replace(RANGES["B-Make3D"].pair, brightness=(1.0, 1.0))),
        np.random.default_rng(0),
    )
    scales, mirrored = [], 0
    for _ in range(1000):
        new, truth = (np.asarray(a) for a in augment(rough, target))
        if new[0, 0, 0, 0] > new[0, 0, 0, 3]:
            mirrored += 1
            new, truth = new[..., ::-1], truth[..., ::-1]
        s = new[0, 0, 0, 0] / 2
        np.testing.assert_allclose(new, kept[0] * s, rtol=1e-6)
        np.testing.assert_allclose(truth, kept[1] / s, rtol=1e-6)  # 0 stays no depth
        scales.append(s)
    assert 10 <= min(scales) < 10.1 and 14.9 < max(scales) <= 15
    assert 870 < mirrored < 930
    assert np.array_equal(rough, kept[0]) and np.array_equal(target, kept[1])


def test_brightness_of_a_pair_is_one_factor_for_both():
    augment = PairAugmentation(np.random.default_rng(0), brightness=(0.8, 1.2))
    factors = []
    for _ in range(200):
        rough, target = augment(np.full((3, 4), 2.0), np.full((3, 4), 5.0))
        assert np.ptp(rough) == 0 and rough[0, 0] / 2 == pytest.approx(target[0, 0] / 5)
        factors.append(rough[0, 0] / 2)
    assert 0.8 <= min(factors) < 0.82 and 1.18 < max(factors) <= 1.2


def test_pairs_of_the_others_are_left_alone():
    rough, target = np.arange(12.0).reshape(3, 4), np.ones((3, 4))
    for name in RANGES.keys() - {"B-Make3D"}:
        new, truth = PairAugmentation.of(name, np.random.default_rng(0))(rough, target)
        assert np.array_equal(new, rough) and np.array_equal(truth, target)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -1}, "rotation: expected 0 to 180 degrees, got -1"),
        ({"scale": (0.0, 1.0)}, "scale: expected two numbers above 0"),
        ({"scale": (1.5, 1.0)}, "scale: expected two numbers above 0, the lower first"),
        ({"scale": (1.0, float("inf"))}, "scale: expected"),
        ({"scale": (1.0,)}, "scale: expected"),
        ({"gain": (1.0, float("nan"))}, "gain: expected"),
        ({"flip": 1.5}, "flip: expected a probability from 0 to 1, got 1.5"),
        ({"colour": 1.0}, "colour: expected"),
        ({"focal": 0.0}, "focal: expected"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(np.random.default_rng(0), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Augmentation.of("F", np.random.default_rng(0)),
            "ranges: expected one of E, .*'F'",
        ),
        (
            lambda: Augmentation.of("B-Make", np.random.default_rng(0)),
            "got 'B-Make'; nearest: B-Make3D",
        ),
        (lambda: PairAugmentation.of("X", np.random.default_rng(0)), "ranges: expected one of"),
        (lambda: Ranges(rotation=200), "rotation: expected"),
        (lambda: Ranges(gain=(0.0, 1.0)), "gain: expected"),
        (lambda: PairRanges(scale=(-1.0, 1.0)), "scale: expected"),
        (lambda: PairRanges(brightness=(2.0, 1.0)), "brightness: expected"),
        (lambda: PairAugmentation(np.random.default_rng(0), flip=-0.1), "flip: expected"),
    ],
)
def test_wrong_ranges_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_frames_whose_parts_do_not_fit_are_refused():
    rgb, depth = plane()
    augment = Augmentation(np.random.default_rng(0))
    for parts, message in (
        ((rgb[:100], depth, None), r"rgb: expected uint8 of the camera's size \(240, 320, 3\)"),
        ((rgb[..., 0], depth, None), "rgb: expected"),
        ((rgb / 255, depth, None), "rgb: expected uint8 .*got float64"),
        ((rgb, depth[:, :10], None), "depth: expected the camera's size"),
        ((rgb, depth, depth[::2]), "sparse: expected the camera's size"),
    ):
        with pytest.raises(ValueError, match=message):
            augment(*parts, CAMERA)
    with pytest.raises(ValueError, match="target: expected rough's shape"):
        PairAugmentation(np.random.default_rng(0))(depth, depth[:10])
