# SPDX-License-Identifier: Apache-2.0
"""Boundary error of steps whose distance is known."""

import numpy as np
import pytest

from depth_two_stage.boundaries import BoundaryErrors, TrueEdges, edges


def step(column, width=64, height=20, near=1.0, far=2.0):
    """Return depth that jumps from near to far after a column."""
    depth = np.full((height, width), far, np.float32)
    depth[:, : column + 1] = near
    return depth


def test_edges_are_the_nearer_pixel_of_a_jump_of_more_than_ten_percent():
    depth = np.array([[1, 1.09, 1.21, 1.21, 1], [1, 1.09, 1.21, 0, 1]], np.float32)
    expected = np.array([[0, 1, 0, 0, 1], [0, 1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(edges(depth), expected)
    np.testing.assert_array_equal(edges(depth.T), expected.T)
    assert not edges(np.zeros((3, 4), np.float32)).any()


@pytest.mark.parametrize(("width", "scale"), [(640, 1), (320, 2), (1280, 0.5)])
def test_a_moved_step_is_as_far_in_both_directions_in_pixels_of_640(width, scale):
    truth, answer = step(30), step(33)
    assert TrueEdges(truth, width).compare(answer) == pytest.approx((3 * scale, 3 * scale))
    assert TrueEdges(truth, width).compare(truth) == (0, 0)


def test_directions_differ_and_distances_are_capped():
    truth = step(30)
    # An invented second edge 25 px away: accuracy (0 + 10) / 2, completeness 0.
    answer = truth.copy()
    answer[:, 56:] = 3.0
    assert TrueEdges(truth, 640).compare(answer) == (5, 0)
    # A missed one: the other way round.
    assert TrueEdges(answer, 640).compare(truth) == (0, 5)
    assert TrueEdges(truth, 640).compare(np.ones_like(truth)) == (10, 10)


def test_distance_is_euclidean():
    truth, answer = (np.full((20, 20), 2.0, np.float32) for _ in range(2))
    truth[5, 5] = answer[8, 9] = 1.0
    assert TrueEdges(truth, 640).compare(answer) == (5, 5)


def test_holes_make_no_edges_and_hide_those_of_the_answer_that_lie_by_them():
    truth = step(30)
    truth[:, 28:36] = 0  # the true step lies in a hole
    assert not edges(truth).any() and not TrueEdges(truth, 640).any
    truth[:, 50:] = 3.0  # another edge, at column 49
    assert TrueEdges(truth, 640).compare(step(30)) == pytest.approx((np.nan, 10), nan_ok=True)
    # Column 38 is 3 from the hole and 11 from the edge: left out. 46 is 3 from the edge.
    for column, accuracy in ((38, np.nan), (46, 3.0)):
        answer = step(column)
        found = TrueEdges(truth, 640).compare(answer)[0]
        assert found == pytest.approx(accuracy, nan_ok=True)
    # Farther than 10 from the hole and from the edge it is invented.
    wide = step(99, width=120, far=3.0)
    wide[:, :5] = 0
    assert TrueEdges(wide, 640).compare(step(50, width=120))[0] == 10


def test_means_over_the_images_that_have_edges():
    errors = BoundaryErrors()
    flat = np.ones((20, 64), np.float32)
    errors.add({"a": step(31), "b": flat}, step(30), 640)
    errors.add({"a": step(33), "b": step(30)}, step(30), 640)
    errors.add({"a": step(33), "b": step(30)}, flat, 640)
    both = {"edge_images": 2, "without_edges": 1}
    assert errors.result("a").items() >= {"dbe_acc": 2, "dbe_comp": 2, **both}.items()
    assert errors.result("b").items() >= {"dbe_acc": 5, "dbe_comp": 5, **both}.items()
    assert BoundaryErrors().result("a")["dbe_acc"] is None


def test_a_jump_spread_over_some_pixels_is_an_edge_of_the_reduced_image_alone():
    truth = step(31)  # of the reduced image's columns (every fourth) the jump is after 28
    answer = np.full((20, 64), 1.0, np.float32)
    answer[:, 36:] = 1.3  # no 10 % between neighbours, but from column 32 to 36
    answer[:, 32:37] = np.linspace(1.0, 1.3, 5)
    errors = BoundaryErrors()
    errors.add({"a": answer, "b": step(31)}, truth, 640)
    result = errors.result("a")
    assert (result["dbe_acc"], result["dbe_comp"]) == (10, 10)
    assert (result["dbe_acc_160"], result["dbe_comp_160"]) == (4, 4)
    assert errors.result("b")["dbe_comp_160"] == 0 and result["edge_images_160"] == 1
