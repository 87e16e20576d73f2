# SPDX-License-Identifier: Apache-2.0
"""What points say of each other: neighbours, ratios of depth, colours between, planes."""

import numpy as np
import pytest

from depth_two_stage.point_graph import NEIGHBOURS, OWN, PAIR, PointGraph

SIZE = (120, 160)
PAIR_NAMES = ["ratio", "fine", "rows", "columns", "length", "ends", "most", "all"]
OWN_NAMES = ["plane6", "fine6", "left6", "plane12", "fine12", "left12", "spacing", "count"]


def points(count=80, seed=0):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(SIZE[0] * SIZE[1], count, replace=False)
    return np.divmod(chosen, SIZE[1])


def feature(graph, name):
    if name in OWN_NAMES:
        return graph.own[:, OWN_NAMES.index(name)]
    return graph.pairs[..., PAIR_NAMES.index(name)]


def wall(rows, columns):
    """Depth of a slanted plane: its inverse is linear in the pixels."""
    return 1 / (0.2 + 0.002 * columns + 0.001 * rows)


def test_neighbours_are_the_nearest_others():
    rows, columns = points()
    graph = PointGraph.of(np.zeros((*SIZE, 3), np.uint8), rows, columns, wall(rows, columns))
    assert graph.pairs.shape == (80, NEIGHBOURS, PAIR) and graph.own.shape == (80, OWN)
    away = np.hypot(rows - rows[:, None], columns - columns[:, None])
    expected = np.sort(away, axis=1)[:, 1 : NEIGHBOURS + 1]
    found = np.take_along_axis(away, graph.near, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not (graph.near == np.arange(80)[:, None]).any()
    depth = wall(rows, columns)
    ratio = np.log(depth[graph.near] / depth[:, None])
    np.testing.assert_allclose(feature(graph, "ratio"), 3 * ratio, atol=1e-4)


def test_the_unit_of_depth_and_the_size_of_the_image_are_of_no_matter():
    rows, columns = points()
    rgb = np.full((*SIZE, 3), 90, np.uint8)
    one = PointGraph.of(rgb, rows, columns, wall(rows, columns))
    far = PointGraph.of(rgb, rows, columns, 1000 * wall(rows, columns))
    large = PointGraph.of(
        np.full((240, 320, 3), 90, np.uint8), 2 * rows, 2 * columns, wall(rows, columns)
    )
    for other in (far, large):
        np.testing.assert_allclose(other.pairs, one.pairs, atol=1e-3)
        np.testing.assert_allclose(other.own, one.own, atol=1e-3)


def test_what_lies_in_a_plane_is_what_its_neighbours_expect():
    rows, columns = points()
    depth = wall(rows, columns)
    depth[7] *= 1.3
    graph = PointGraph.of(np.zeros((*SIZE, 3), np.uint8), rows, columns, depth)
    for name in ("plane6", "plane12"):
        error = feature(graph, name) / 3
        assert error[7] == pytest.approx(-np.log(1.3), abs=0.01)
        assert np.abs(np.delete(error, 7)).max() < 0.05 and np.median(np.abs(error)) < 1e-3


def test_colours_differ_across_an_edge_alone():
    rows, columns = points()
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:, 80:] = 200
    graph = PointGraph.of(rgb, rows, columns, wall(rows, columns))
    left = columns < 76
    right = columns > 84
    across = (left[:, None] & right[graph.near]) | (right[:, None] & left[graph.near])
    same = (left[:, None] & left[graph.near]) | (right[:, None] & right[graph.near])
    for name in ("ends", "most", "all"):
        assert feature(graph, name)[across].min() > 1 and feature(graph, name)[same].max() < 1e-3
    # A thin line between two alike sides is seen in the steps, not at the ends.
    rgb[:, 80:] = 0
    rgb[:, 70:90] = 200
    graph = PointGraph.of(rgb, rows, columns, wall(rows, columns))
    left, right = columns < 66, columns > 94
    across = left[:, None] & right[graph.near]
    assert across.any()
    assert feature(graph, "ends")[across].max() < 1e-3 < 1 < feature(graph, "most")[across].min()


def test_images_are_joined_without_mixing_their_points():
    rgb = np.zeros((*SIZE, 3), np.uint8)
    graphs = []
    for count in (30, 50):
        rows, columns = points(count)
        graphs.append(PointGraph.of(rgb, rows, columns, wall(rows, columns)))
    both = PointGraph.joined(graphs)
    assert both.frame.tolist() == [0] * 30 + [1] * 50
    assert (both.near[:30] < 30).all() and np.array_equal(both.near[30:], graphs[1].near + 30)
    tensors = both.to("cpu")
    assert np.array_equal(tensors.near.numpy(), both.near)


def test_too_few_points_are_refused():
    rows, columns = points(NEIGHBOURS)
    with pytest.raises(ValueError, match="points: expected more than 16, got 16"):
        PointGraph.of(np.zeros((*SIZE, 3), np.uint8), rows, columns, wall(rows, columns))
