# SPDX-License-Identifier: Apache-2.0
"""camera_info: rosbags' messages and rclpy's decode alike; bad ones are one clear line."""

import cv2
import numpy as np
import pytest
from made_messages import camera_info

from depth_two_stage import messages
from depth_two_stage.messages import MessageError


def test_camera_info(make):
    d = np.array([0.26, -0.95, -0.005, 0.003, 1.16])
    p = np.array([480.0, 0, 310, 0, 0, 490, 235, 0, 0, 0, 1, 0])
    lens = messages.to_lens(camera_info(make, d=d, p=p), (480, 640))
    np.testing.assert_array_equal(lens.D, d)
    assert lens.model == "plumb_bob" and not lens.is_rectified
    np.testing.assert_array_equal(lens.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    camera = messages.to_camera(camera_info(make, d=d, p=p))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (480, 490, 310, 235)
    assert (camera.width, camera.height) == (640, 480)
    without_p = messages.to_camera(camera_info(make, d=d, p=np.zeros(12), r=np.zeros(9)))
    assert (without_p.fx, without_p.fy, without_p.cx, without_p.cy) == (500, 510, 320, 240)
    plain = messages.to_lens(camera_info(make, distortion_model="", d=np.zeros(0)))
    assert plain.is_rectified


@pytest.mark.parametrize(
    ("model", "size", "kept"),
    [
        ("rational_polynomial", 8, "rational_polynomial"),
        ("equidistant", 4, "equidistant"),
        ("fisheye", 4, "equidistant"),
    ],
)
def test_distortion_models(make, model, size, kept):
    info = camera_info(make, distortion_model=model, d=np.full(size, 0.01))
    assert messages.to_lens(info).model == kept


def test_rectified_frame_rotation(make):
    r = cv2.Rodrigues(np.array([0.0, 0.02, 0.01]))[0]
    np.testing.assert_allclose(messages.to_lens(camera_info(make, r=r.ravel())).R, r)


def test_roi_and_binning(make):
    roi = {"x_offset": 100, "y_offset": 40, "width": 400, "height": 300, "do_rectify": True}
    camera = messages.to_camera(camera_info(make, roi=roi))
    assert (camera.width, camera.height) == (400, 300)
    assert (camera.fx, camera.cx, camera.cy) == (500, 220, 200)
    info = camera_info(make, roi=roi, binning_x=2, binning_y=2)
    lens = messages.to_lens(info, (150, 200))
    expected = camera.resized(200, 150)
    np.testing.assert_allclose(lens.K, expected.K)
    np.testing.assert_allclose(lens.rectified.K, expected.K)
    # The same ray falls on the same place of the scene in full and in binned pixels.
    full = np.array([500 * 0.1 + 320, 510 * 0.2 + 240])
    binned = lens.K @ [0.1, 0.2, 1]
    np.testing.assert_allclose(binned[:2], (full - [100, 40] + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": np.zeros(9)}, r"camera_info.k: expected focal lengths above 0, got fx = 0"),
        ({"p": np.array([0, 0, 9.0, 0, 0, 5, 9, 0, 0, 0, 1, 0])}, r"camera_info.p: expected focal"),
        ({"k": np.array([np.nan] * 9)}, r"camera_info.k: expected finite numbers"),
        ({"distortion_model": "ds"}, r"expected one of plumb_bob, rational_polynomial, equidist"),
        ({"d": np.zeros(3)}, r"expected 4, 5, 8, 12 or 14 values, got 3"),
        ({"width": 0}, r"expected a size above 0"),
        ({"roi": {"x_offset": 600, "width": 100, "height": 10}}, r"camera_info.roi: expected"),
        ({"width": 320}, r"expected the image's size 480x640, got 480x320"),
        ({"binning_x": 2, "binning_y": 2}, r"expected the image's size 480x640, got 240x320"),
    ],
)
def test_bad_camera_info(make, changes, text):
    with pytest.raises(MessageError, match=text):
        messages.to_lens(camera_info(make, **changes), (480, 640))
