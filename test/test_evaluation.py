# SPDX-License-Identifier: Apache-2.0
"""Evaluation on rendered rooms: figures, SLAM, calibration, protocols, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import files, networks, ply
from depth_two_stage.boundaries import TrueEdges
from depth_two_stage.calibration import calibrate, half_of
from depth_two_stage.confidence import Confidence
from depth_two_stage.config import SurfelParameters
from depth_two_stage.datasets import DatasetError, open_dataset
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.evaluation import Plan, default_sparse, evaluate
from depth_two_stage.evaluation_tables import evaluation_tables
from depth_two_stage.interpolation import linear, triangle_spread
from depth_two_stage.metrics import GROUPS, MEASURES, METRICS, chosen, score
from depth_two_stage.morphology import morphological
from depth_two_stage.protocols import GARG, PROTOCOLS
from depth_two_stage.reconstruction import surface_points, surface_scores
from depth_two_stage.scan_band import scan_band

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
    "stage_two": {"name": "residual_generator", "widths": [4, 8, 8], "output": "residual"},
    "settings": {"sparse_input": "filled", "aligned": True},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = networks.build(SPEC)
    with torch.no_grad():
        model.stage_one.predict.weight.normal_(std=0.005)
        model.stage_two.out.weight.normal_(std=0.003)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    networks.save(path, model, SPEC, {"seed": 0})
    return str(path)


@pytest.fixture(scope="module")
def estimator(weights):
    return DepthEstimator(weights, device="cpu", engine="torch", threads=1)


@pytest.fixture(scope="module")
def room():
    """Four frames of a hand-held walk, decoded once."""
    return list(open_dataset("rendered", ".", "frames:40,size:120x160")[:4])


def test_figures_are_those_of_the_estimator(estimator, room):
    report = evaluate(room, estimator, Plan(("lines:16", "bernoulli:100"), baselines=True))
    assert list(report["results"]) == ["lines:16", "bernoulli:100"]
    for row in report["results"].values():
        assert {"coarse", "refined", "nearest", "linear", "confidence"} <= set(row)
        for method in ("coarse", "refined", "nearest", "linear"):
            assert all(isinstance(row[method][name], float) for name in METRICS)
            assert row[method]["images"] == 4
    # One frame again by hand, from the same draw.
    one = evaluate(room[:1], estimator, Plan(("points",), baselines=True))["results"]["points"]
    sample = room[0]
    sparse = sample.camera.project(sample.points, sample.T_camera_lidar)
    estimate = estimator(sample.rgb, sparse, sample.camera)
    assert one["refined"]["rmse"] == pytest.approx(score(estimate.depth, sample.depth)["rmse"])
    assert one["coarse"]["rel"] == pytest.approx(score(estimate.coarse, sample.depth)["rel"])
    assert one["linear"]["mae"] == pytest.approx(score(linear(sparse), sample.depth)["mae"])
    json.dumps(files.plain(report), allow_nan=False)
    assert all(table.row_count for table in evaluation_tables(report))


def test_what_else_is_measured_of_a_frame_is_that_of_its_arrays(estimator, room):
    sample = room[0]
    report = evaluate(room[:1], estimator, Plan(("points", "none"), baselines=True))
    row, truth = report["results"]["points"], sample.depth
    sparse = sample.camera.project(sample.points, sample.T_camera_lidar)
    estimate = estimator(sample.rgb, sparse, sample.camera)
    answers = {"morphological": morphological(sparse), "refined": estimate.depth}
    band = scan_band(sparse)
    for name, answer in answers.items():
        assert row[name]["rmse"] == pytest.approx(score(answer, truth)["rmse"])
        for part, mask in (("inside", band), ("outside", ~band)):
            expected = score(answer, np.where(mask, truth, 0))
            assert row[name][part]["rmse"] == pytest.approx(expected["rmse"])
            assert row[name][part]["pixels"] == expected["pixels"] > 0
        edges = TrueEdges(truth, 160).compare(answer)
        assert (row[name]["dbe_acc"], row[name]["dbe_comp"]) == pytest.approx(edges)
    change = np.median(np.abs(estimate.depth - estimate.coarse))
    assert row["refined"]["change_median"] == pytest.approx(change, rel=1e-5)
    # Dropping the fifth of the refined depth that lies in the widest triangles.
    valid = truth > 0
    doubt, error = triangle_spread(sparse)[valid], (estimate.depth - truth)[valid]
    kept = np.argsort(doubt, kind="stable")[: round(0.8 * len(doubt))]
    left = np.sqrt(np.mean(error[kept] ** 2) / np.mean(error**2))
    assert row["confidence"]["triangle_spread_drop"] == pytest.approx(1 - left, rel=1e-4)
    assert len(row["confidence"]["bins"]) == 10 and "aligned_rmse" not in row["refined"]
    # Without points: the same, brought to the truth's scale.
    row, answer = report["results"]["none"], estimator(sample.rgb, None, sample.camera).depth
    assert "inside" not in row["refined"] and "triangle_spread_drop" not in row["confidence"]
    factor = np.median(truth[valid] / answer[valid])
    expected = score(answer * factor, truth)
    assert row["refined"]["aligned_rmse"] == pytest.approx(expected["rmse"], rel=1e-5)
    assert row["refined"]["aligned_rel"] == pytest.approx(expected["rel"], rel=1e-5)
    assert row["refined"]["aligned_rmse"] < row["refined"]["rmse"]
    titles = " ".join(table.title or "" for table in evaluation_tables(report))
    assert all(word in titles for word in ("scanned band", "depth edges", "truth's scale"))


def test_a_band_is_reported_of_scans_alone(estimator, room):
    report = evaluate(room[:1], estimator, Plan(("bernoulli:100",)))
    assert "inside" not in report["results"]["bernoulli:100"]["refined"]
    titles = " ".join(table.title or "" for table in evaluation_tables(report))
    assert "scanned band" not in titles and "depth edges" in titles


def test_disturbed_points_are_those_of_the_clean_pattern_and_the_truth_stays(estimator, room):
    patterns = ("bernoulli:100", "bernoulli:100,outliers=0.2", "bernoulli:100,shift=8")
    report = evaluate(room[:2], estimator, Plan(patterns, baselines=True))["results"]
    clean, wrong, moved = (report[text] for text in patterns)
    assert clean["points"] == wrong["points"] > moved["points"]
    assert clean["nearest"]["pixels"] == wrong["nearest"]["pixels"] == moved["nearest"]["pixels"]
    assert wrong["nearest"]["rmse"] > 1.5 * clean["nearest"]["rmse"]
    assert moved["linear"]["rmse"] > clean["linear"]["rmse"]


def test_the_network_sees_other_colours_the_truth_and_the_points_stay(estimator, room):
    plan = Plan(("bernoulli:100",), baselines=True, colours="inverted")
    report = evaluate(room[:1], estimator, plan)
    row, sample = report["results"]["bernoulli:100"], room[0]
    plain = evaluate(room[:1], estimator, Plan(("bernoulli:100",), True))["results"]
    assert report["colours"] == "inverted" and row["linear"] == plain["bernoulli:100"]["linear"]
    none = evaluate([sample], estimator, replace(plan, sparse=("none",)))["results"]["none"]
    answer = estimator(255 - sample.rgb, None, sample.camera).depth
    assert none["refined"]["rmse"] == pytest.approx(score(answer, sample.depth)["rmse"])


def test_from_frame_to_frame(estimator, room):
    report = evaluate(room[:3], estimator, Plan(("bernoulli:100", "none"), temporal=True))
    drawn, none = (report["results"][text]["temporal"] for text in ("bernoulli:100", "none"))
    assert drawn["pairs"] == none["pairs"] == 2
    assert set(drawn["warped_rel"]) == {"refined", "linear"}  # without --baselines too
    assert set(none["warped_rel"]) == {"refined"} and none["refined_to_linear"] is None
    ratios = []
    for sample in room[:3]:
        answer = estimator(sample.rgb, None, sample.camera).depth
        ratios.append(np.median((answer / np.maximum(sample.depth, 1e-9))[sample.depth > 0]))
    assert none["ratio_std"]["refined"] == pytest.approx(np.std(ratios), rel=1e-4)
    assert "refined" in [list(t.columns[1].cells) for t in evaluation_tables(report)][-1]
    lost = [replace(sample, T_world_camera=None) for sample in room[:2]]
    with pytest.raises(ValueError, match="temporal: expected true poses of consecutive frames"):
        evaluate(lost, estimator, Plan(("none",), temporal=True))


def test_two_runs_are_identical_and_the_seed_matters(estimator, room):
    def run(seed):
        result = evaluate(room[:2], estimator, Plan(("bernoulli:50",), True, seed=seed))
        row = result["results"]["bernoulli:50"]
        return {name: row[name] for name in ("coarse", "refined", "nearest", "confidence")}

    assert run(1) == run(1)
    assert run(1)["nearest"]["rmse"] != run(2)["nearest"]["rmse"]


def test_the_order_of_settings_changes_no_draw(estimator, room):
    a = evaluate(room[:1], estimator, Plan(("bernoulli:50", "bernoulli:20")))["results"]
    b = evaluate(room[:1], estimator, Plan(("bernoulli:20",)))["results"]
    assert a["bernoulli:20"]["refined"] == b["bernoulli:20"]["refined"]


def test_without_truth_half_of_the_points_is_truth(estimator, room):
    blind = [replace(sample, depth=None) for sample in room[:2]]
    row = evaluate(blind, estimator, Plan(("points",), baselines=True))["results"]["points"]
    total = [np.count_nonzero(s.camera.project(s.points, s.T_camera_lidar)) for s in blind]
    assert row["points"] == pytest.approx(np.mean(total) / 2, rel=0.15)
    assert row["refined"]["pixels"] + 2 * row["points"] == sum(total)
    assert 0 < row["nearest"]["rmse"] < 2
    assert default_sparse(blind) == "points"
    none = evaluate(blind, estimator, Plan(("none",)))["results"]["none"]
    assert "refined" not in none and none["confidence"] is None


def test_without_points_the_mean_depth_is_the_baseline(estimator, room):
    mean = np.full((12, 16), 2.5, np.float32)
    plan = Plan(("none", "bernoulli:50"), baselines=True)
    rows = evaluate(room[:1], estimator, plan, mean)["results"]
    expected = np.abs(room[0].depth - 2.5).mean()
    assert rows["none"]["mean"]["mae"] == pytest.approx(expected, rel=1e-4)
    assert "nearest" not in rows["none"] and "mean" not in rows["bernoulli:50"]


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
    assert row["lost_frames"] + row["fused_frames"] <= 8
    assert row["map"]["sensor"]["fscore"] > 0.7
    assert report["gate"]["good"] + report["gate"]["wrong"] == 7


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "F"}, "protocol: expected one of full, E, eigen, centre, make3d, .* got 'F'"),
        ({"protocol": "eigne"}, "got 'eigne'; nearest: eigen"),
        ({"protocol": "E", "slam": True}, "--slam: expected a protocol that keeps the camera's ge"),
        ({"colours": "day"}, "colours: expected one of recorded, inverted, night, got 'day'"),
        ({"depth": "x"}, "depth: expected one of predicted, sensor, got 'x'"),
        ({"poses": "x"}, "poses: expected one of odometry, given, got 'x'"),
        ({"fusion": "x"}, "fusion: expected one of tsdf, surfels, got 'x'"),
        ({"fusion": "surfels"}, "--fusion surfels: expected --poses given, got 'odometry'"),
        ({"reference": "x"}, "reference: expected one of sensor, surfaces, got 'x'"),
        ({"sparse": ("bernoulli:-1",)}, "sparse: expected"),
    ],
)
def test_a_plan_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        Plan(**arguments)


def test_calibration_is_written_beside_the_weights_and_used(weights, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(weights).read_bytes())
    rooms = open_dataset("rendered", ".", "frames:8,scenes:4,size:120x160")
    report = calibrate(rooms, str(copy), engine="torch", device="cpu")
    content = files.read_json(tmp_path / "copy.confidence.json")
    assert content["fitted_to"] == "first 4 of 8 frames" and report["frames"] == 4
    estimator = DepthEstimator(str(copy), engine="torch", device="cpu")
    assert estimator.confidence.calibrated
    assert estimator.confidence.weights["points"] == pytest.approx(content["weights"]["points"])
    # Calibrated means: nearer to the share that is right than the uncalibrated formula.
    fitted = report["results"]["bernoulli:200"]["confidence"]
    estimator.confidence = Confidence()
    plain = evaluate(rooms[4:], estimator, Plan())["results"]["bernoulli:200"]["confidence"]
    gap = [abs(c["mean"] - c["within_5_percent"]) for c in (fitted, plain)]
    assert gap[0] < gap[1] and gap[0] < 0.15
    assert fitted["reduction"] > 0


def test_halves_are_those_of_the_calibration():
    frames = open_dataset("rendered", ".", "frames:7,size:120x160")
    first, second = (half_of(frames, name) for name in ("first", "second"))
    names = [frames.names[i] for i in range(7)]
    assert [s.name for s in first] == names[:3] and [s.name for s in second] == names[3:]
    with pytest.raises(ValueError, match="half: expected one of first, second, got 'third'"):
        half_of(frames, "third")
    with pytest.raises(ValueError, match="half: expected at least 2 frames, got 1"):
        half_of(frames[:1], "first")


def test_protocols_shape_what_is_compared(estimator, room):
    """The figures of a protocol are those of its own prepared frames, by hand."""
    sample = room[0]

    def refined(protocol, *samples, **plan):
        report = evaluate(
            samples or (sample,), estimator, Plan(("none",), protocol=protocol, **plan)
        )
        assert report["protocol_terms"]["name"] == protocol
        json.dumps(files.plain(report), allow_nan=False)
        return report["results"]["none"]["refined"]

    # C: extremes masked.
    answer = estimator(sample.rgb, None, sample.camera).depth
    inner = (sample.depth > sample.depth[sample.depth > 0].min()) & (
        sample.depth < sample.depth.max()
    )
    found = refined("C")
    assert found["pixels"] == inner.sum() < (sample.depth > 0).sum()
    assert found["rel"] == pytest.approx(
        np.mean(np.abs(answer - sample.depth)[inner] / sample.depth[inner]), rel=1e-5
    )
    # D: all at 37x147, in units of 80 m.
    camera = sample.camera.resized(147, 37)
    small = cv2.resize(sample.rgb, (147, 37), interpolation=cv2.INTER_AREA)
    truth = cv2.resize(sample.depth, (147, 37), interpolation=cv2.INTER_NEAREST_EXACT)
    answer = estimator(small, None, camera).depth
    found = refined("D-kitti-small")
    assert found["pixels"] == (truth > 0).sum()
    assert found["rmse"] == pytest.approx(score(answer, truth)["rmse"] / 80, rel=1e-5)
    assert found["srd"] == pytest.approx(score(answer, truth)["srd"] / 80, rel=1e-5)
    assert found["ard_printed"] == pytest.approx(score(answer, truth)["ard_printed"], rel=1e-5)
    # Targets that the recording could not read are counted.
    assert refined("full", replace(sample, invalid_depth=7))["invalid_targets"] == 7


def test_a_protocol_of_scans_takes_them_as_truth(estimator, room):
    blind = [replace(sample, depth=None) for sample in room[:2]]
    row = evaluate(blind, estimator, Plan(("none",), protocol="garg"))["results"]["none"]
    truth = blind[0].camera.project(blind[0].points, blind[0].T_camera_lidar)
    top, bottom, left, right = (int(f * n) for f, n in zip(GARG, (120, 120, 160, 160), strict=True))
    first = evaluate(blind[:1], estimator, Plan(("none",), protocol="garg"))["results"]["none"]
    assert row["points"] == 0 and row["refined"]["images"] == 2
    assert first["refined"]["pixels"] == np.count_nonzero(truth[top:bottom, left:right])


def test_centre_shows_and_samples_the_centre_only(estimator):
    frames = open_dataset("rendered", ".", "frames:1,size:480x640")
    mean = np.tile(np.arange(1, 161, dtype=np.float32) / 40, (120, 1))
    plan = Plan(("bernoulli:200", "none"), baselines=True, protocol="centre")
    report = evaluate(frames, estimator, plan, mean)["results"]
    sample = PROTOCOLS["centre"].prepare(frames[0])
    assert report["none"]["refined"]["pixels"] == np.count_nonzero(sample.depth)
    assert 140 < report["bernoulli:200"]["points"] < 260
    answer = estimator(sample.rgb, None, sample.camera).depth
    assert report["none"]["refined"]["mae"] == pytest.approx(score(answer, sample.depth)["mae"])
    whole = cv2.resize(mean, (640, 480), interpolation=cv2.INTER_LINEAR)[12:468, 16:624]
    assert report["none"]["mean"]["mae"] == pytest.approx(score(whole, sample.depth)["mae"])


def test_tables_show_the_measures_asked_for(estimator, room):
    report = evaluate(room[:1], estimator, Plan(("none",)))
    assert set(MEASURES) <= set(report["results"]["none"]["refined"])

    def columns(table):
        return tuple(column.header for column in table.columns)[3:-1]

    assert columns(evaluation_tables(report)[0]) == METRICS
    assert columns(evaluation_tables(report, chosen("D"))[0]) == GROUPS["D"]
    report = evaluate(room[:1], estimator, Plan(("none",), protocol="D-kitti"))
    table = evaluation_tables(report)[0]
    assert columns(table) == GROUPS["D"]
    assert "protocol D-kitti: paper D, Table 2: KITTI at 94x310" in table.caption
    assert "per image, then over images" in table.title
    every = evaluation_tables(report, chosen("all"))[:2]  # too many to be read in one table
    assert columns(every[0]) + columns(every[1]) == tuple(MEASURES)
    assert every[0].title and not every[1].title and every[1].caption == table.caption
    per_pixel = evaluate(room[:1], estimator, Plan(("none",), pooled=True))
    assert "mean per pixel" in evaluation_tables(per_pixel)[0].title


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
