# SPDX-License-Identifier: Apache-2.0
"""Image and camera_info messages → rectified arrays."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

import sensors
from sensor_msgs.msg import Image
from sensors import SIZE

from depth_two_stage.messages import MessageError
from depth_two_stage.ros import build
from depth_two_stage.ros.frames import Frame, FrameDecoder, decode_image

DISTORTION = (-0.3, 0.1, 0.0, 0.0, 0.0)


def frame(info, image=None) -> Frame:
    return Frame(1, sensors.rgb_image() if image is None else image, info, 0.0)


def test_a_distorted_image_is_rectified_unless_told_that_it_is():
    info = sensors.camera_info(D=DISTORTION)
    rectified, _, camera = FrameDecoder()(frame(info))
    assert not np.array_equal(rectified, sensors.texture())
    # The centre of a radial distortion stays where it is.
    assert np.abs(rectified[29:31, 39:41].astype(int) - sensors.texture()[29:31, 39:41]).max() <= 2
    assert (camera.fx, camera.cx) == (70.0, 39.5)
    asis, lens, _ = FrameDecoder()(frame(info), rectified=True)
    assert np.array_equal(asis, sensors.texture())
    assert lens.is_rectified


def test_the_camera_is_p_where_p_differs_from_k():
    info = sensors.camera_info(D=DISTORTION)
    P = np.array(info.p).reshape(3, 4)
    P[0, 0], P[1, 1] = 60.0, 61.0
    info.p = P.reshape(-1)
    for rectified in (False, True):
        _, _, camera = FrameDecoder()(frame(info), rectified=rectified)
        assert (camera.fx, camera.fy) == (60.0, 61.0)


def test_a_new_calibration_is_used_at_once():
    decoder = FrameDecoder()
    assert decoder(frame(sensors.camera_info(f=70.0)))[2].fx == 70.0
    assert decoder(frame(sensors.camera_info(f=75.0)))[2].fx == 75.0
    assert decoder(frame(sensors.camera_info(f=75.0)), scale=0.5)[2].fx == 37.5


def test_region_of_interest_and_binning():
    """camera_info of a larger sensor, binned by two and cut: the image is as the info says."""
    info = sensors.camera_info((4 * SIZE[0], 4 * SIZE[1]), f=70.0)
    info.binning_x = info.binning_y = 2
    info.roi.x_offset, info.roi.y_offset = 10, 20
    info.roi.width, info.roi.height = 2 * SIZE[1], 2 * SIZE[0]
    _, _, camera = FrameDecoder()(frame(info))
    K = np.array(info.k).reshape(3, 3)
    assert camera.fx == K[0, 0] / 2
    assert camera.cx == pytest.approx((K[0, 2] - 10 + 0.5) / 2 - 0.5)


def test_encodings_beyond_ours_go_through_the_bridge():
    wide = np.zeros((*SIZE, 4), np.uint16)
    wide[..., :3] = sensors.texture().astype(np.uint16) * 257
    image = Image(height=SIZE[0], width=SIZE[1], encoding="rgba16", step=8 * SIZE[1])
    image.data = build.data(wide)
    difference = decode_image(image).astype(int) - sensors.texture()
    assert np.abs(difference).max() <= 1
    image.data = image.data[:-1]
    with pytest.raises(MessageError, match=r"image: expected step \* height = 38400 bytes"):
        decode_image(image)
    image.encoding = "rgb99"
    with pytest.raises(MessageError, match="image: expected"):
        decode_image(image)
