# SPDX-License-Identifier: Apache-2.0
"""Stamps of serialised messages: read, written in place, shifted from lap to lap."""

import pytest

pytest.importorskip("rclpy")
import small_bag

from depth_two_stage.messages import stamp_ns
from depth_two_stage.ros.stamps import (
    TRANSFORMS,
    StampShift,
    read_stamp,
    shift_transforms,
    write_stamp,
)


def test_transforms_are_shifted_wherever_their_stamps_lie():
    raw = small_bag.STORE.serialize_cdr(small_bag.transforms(5 * 10**9), TRANSFORMS)
    shift = StampShift()
    shift.new_lap(3 * 10**9 + 1)
    (moved,) = small_bag.STORE.deserialize_cdr(
        shift_transforms(raw, shift, "/tf"), TRANSFORMS
    ).transforms
    assert stamp_ns(moved) == 8 * 10**9 + 1
    assert moved.child_frame_id == "lidar" and moved.transform.translation.z == 0.05


@pytest.mark.parametrize("order", [1, 0])
def test_stamps_are_changed_in_place(order):
    body = bytes([0, order, 0, 0]) + (12).to_bytes(4, "little" if order else "big")
    raw = body + (34).to_bytes(4, "little" if order else "big") + b"rest"
    assert read_stamp(raw) == 12 * 10**9 + 34
    changed = write_stamp(raw, 99 * 10**9 + 7)
    assert read_stamp(changed) == 99 * 10**9 + 7
    assert changed[:4] == raw[:4] and changed[12:] == b"rest"


def test_equal_stamps_stay_equal_whatever_the_time():
    shift = StampShift()
    shift.anchor_to_present(1000)
    first = shift(1000)
    shift.anchor_to_present(5000)
    assert shift(1000) == first
    assert shift(0) == 0
