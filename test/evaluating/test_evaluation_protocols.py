# SPDX-License-Identifier: Apache-2.0
"""Evaluation on rendered rooms: protocols, calibration, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_two_stage import files
from depth_two_stage.calibration import calibrate, half_of
from depth_two_stage.confidence import Confidence
from depth_two_stage.datasets import open_dataset
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.evaluation import Plan, evaluate
from depth_two_stage.metrics import score
from depth_two_stage.protocols import GARG, PROTOCOLS


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
