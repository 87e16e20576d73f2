# SPDX-License-Identifier: Apache-2.0
"""Evaluation on rendered rooms: trajectories and maps."""

from dataclasses import replace

import numpy as np
import pytest

from depth_two_stage import ply
from depth_two_stage.config import SurfelParameters
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.evaluation import Plan, evaluate
from depth_two_stage.evaluation_tables import evaluation_tables
from depth_two_stage.reconstruction import surface_points, surface_scores


def test_given_poses_fuse_a_mesh_that_is_compared_with_the_sensors(estimator, room, tmp_path):
    plan = Plan(("lines:32",), True, slam=True, poses="given", pictures=tmp_path, pictures_count=1)
    row = evaluate(room, estimator, plan)["results"]["lines:32"]
    assert row["ate_rmse"] < 1e-9 and row["rpe_rmse"] < 1e-9 and row["lost_frames"] == 0
    assert set(row["map"]) == {"refined", "linear"}
    assert 0.05 < row["map"]["linear"]["fscore"] <= 1
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [n for n in names if n.endswith(".ply")] == [
        "mesh_linear_lines32.ply",
        "mesh_reference.ply",
        "mesh_refined_lines32.ply",
    ]
    assert sum(n.endswith(".png") for n in names) == 1


def test_surfels_beside_the_tsdf_against_the_surfaces(estimator, tmp_path):
    walk = open_dataset("rendered", ".", "frames:120,size:120x160,lidar:0")[:6]
    plan = Plan(
        ("none",),
        slam=True,
        depth="sensor",
        poses="given",
        fusion="surfels",
        reference="surfaces",
        surfels=SurfelParameters(stable_confidence=3.0),
        pictures=tmp_path,
        pictures_count=1,
    )
    report = evaluate(walk, estimator, plan)
    row = report["results"]["none"]
    assert list(row["map"]) == ["sensor", "sensor_surfels", "sensor_surfels_all"]
    tsdf, stable, all_of_them = row["map"].values()
    # Exact depth: what is fused lies on the surfaces; what counts as stable is a part of it.
    assert tsdf["fscore"] > 0.9 and all_of_them["fscore"] > 0.95
    assert stable["precision"] > 0.99 and stable["accuracy"] < tsdf["accuracy"]
    assert 0.3 < stable["recall"] < all_of_them["recall"]
    assert set(row["fuse_ms"]) == {"tsdf", "surfels"}
    table = evaluation_tables(report)[-1]
    assert table.title == "map against the surfaces that the frames saw, at 5 cm"
    assert list(table.columns[1].cells) == ["sensor", "sensor surfels", "sensor surfels all"]
    written = {path.name: ply.decode(path.read_bytes()) for path in tmp_path.glob("*.ply")}
    assert set(written) == {
        "mesh_reference.ply",
        "mesh_sensor_none.ply",
        "mesh_sensor_surfels_none.ply",
        "mesh_sensor_surfels_all_none.ply",
    }
    normals = written["mesh_sensor_surfels_none.ply"].normals
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)


def test_sensor_depth_and_own_odometry(estimator):
    walk = open_dataset("rendered", ".", "frames:120,size:120x160")[:8]
    report = evaluate(walk, estimator, Plan(("none",), slam=True, depth="sensor"))
    row = report["results"]["none"]
    assert row["ate_rmse"] < 0.03 and row["slam_frames"] == 8
    assert row["ate_rmse_scaled"] <= row["ate_rmse"] and 0.8 < row["trajectory_scale"] < 1.25
    assert row["lost_frames"] + row["fused_frames"] <= 8
    assert row["map"]["sensor"]["fscore"] > 0.7
    assert report["gate"]["good"] + report["gate"]["wrong"] == 7
    # Without the network and the gate: the same trajectory and map (Open3D's sums vary by 1e-5).
    alone = evaluate(walk, estimator, Plan(("none",), slam=True, depth="sensor", slam_only=True))
    assert "gate" not in alone and "refined" not in alone["results"]["none"]
    assert alone["results"]["none"]["ate_rmse"] == pytest.approx(row["ate_rmse"], abs=1e-3)
    assert alone["results"]["none"]["map"]["sensor"]["fscore"] > 0.7
    assert [table.title.split(",")[0] for table in evaluation_tables(alone)] == [
        "trajectory",
        "map against the mesh of sensor depth from true poses",
    ]
    with pytest.raises(ValueError, match="--slam-only: expected --slam --depth sensor"):
        Plan(slam=True, slam_only=True)


def test_linear_interpolation_is_tracked_beside_the_prediction(estimator):
    walk = open_dataset("rendered", ".", "frames:120,size:120x160")[:4]
    report = evaluate(walk, estimator, Plan(("lines:32", "none"), True, slam=True))
    row = report["results"]["lines:32"]
    assert row["linear_slam"]["slam_frames"] == 4 and row["linear_slam"]["ate_rmse"] < 0.1
    assert row["linear_slam"]["ate_rmse"] != row["ate_rmse"]
    assert "linear_slam" not in report["results"]["none"]  # no points, nothing to interpolate
    table = next(t for t in evaluation_tables(report) if str(t.title).startswith("trajectory"))
    assert list(table.columns[1].cells) == ["refined", "linear", "refined"]
    # The scale of predicted depth is in question; of sensor depth and given poses it is not.
    names = ["ATE m", "ATE scaled m", "scale"]
    assert [column.header for column in table.columns[2:5]] == names
    known = report | {"slam_depth": "sensor"}, report | {"slam_poses": "given"}
    for table in (evaluation_tables(other)[-2] for other in known):
        assert [column.header for column in table.columns[2:4]] == ["ATE m", "RPE m/frame"]


def test_frames_without_depth_are_left_out_and_counted(estimator, room):
    some = [room[0], replace(room[1], depth=None), room[1]]
    report = evaluate(some, estimator, Plan(("bernoulli:50", "points")))
    drawn, own = report["results"]["bernoulli:50"], report["results"]["points"]
    assert drawn["refined"]["images"] == 2 and drawn["frames_without_depth"] == 1
    assert own["refined"]["images"] == 3 and "frames_without_depth" not in own
    caption = evaluation_tables(report)[0].caption
    assert "left out, frames without depth: bernoulli:50 1" in caption.splitlines()
    with pytest.raises(DatasetError, match="sparse bernoulli:50: expected depth in some of the fr"):
        evaluate(some[1:2], estimator, Plan(("bernoulli:50",)))


def test_poses_that_are_wanted_but_absent_are_named(estimator, room):
    lost = [replace(room[0], T_world_camera=None)]
    given = Plan(("none",), slam=True, poses="given")
    with pytest.raises(ValueError, match="poses: expected true poses, got none in 1 frames"):
        evaluate(lost, estimator, given)
    row = evaluate([lost[0], *room[:2]], estimator, given)["results"]["none"]
    assert row["frames_without_pose"] == 1 and row["slam_frames"] == 2
    blind = [replace(room[0], depth=None)]
    exact = Plan(("none",), slam=True, reference="surfaces")
    with pytest.raises(DatasetError, match="--reference surfaces: expected exact depth, as of ren"):
        evaluate(room, estimator, exact)  # a list of frames does not say that it is exact
    with pytest.raises(DatasetError, match="depth sensor: expected depth in"):
        evaluate(blind, estimator, Plan(("none",), slam=True, depth="sensor"))


def test_surface_scores():
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    points = surface_points(square, faces, 0.02)
    assert len(points) == 2500 and points.min() >= 0 and points.max() <= 1
    assert (np.histogram2d(points[:, 0], points[:, 1], 5)[0] > 60).all()  # evenly: 100 expected
    assert surface_scores(points, points)["fscore"] == 1
    near, far = (points + np.array([0, 0, z]) for z in (0.04, 0.06))
    assert surface_scores(near, points)["fscore"] == 1
    assert surface_scores(far, points) == pytest.approx(
        {"fscore": 0, "precision": 0, "recall": 0, "accuracy": 0.06, "completeness": 0.06}
    )
    half = surface_scores(points[points[:, 0] < 0.5], points)
    assert half["precision"] == 1 and half["recall"] == pytest.approx(0.55, abs=0.02)
    assert surface_scores(np.zeros((0, 3)), points)["fscore"] == 0
