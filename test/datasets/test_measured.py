# SPDX-License-Identifier: Apache-2.0
"""Each protocol on the data it is made for: from the files to the figures."""

import numpy as np
import pytest
import torch
from test_kitti import write_date, write_drive
from test_kitti_depth import make_selection, truth
from test_kitti_tracking import make_tree as make_tracking
from test_make3d import write as write_make3d
from test_nyu import make_mat
from test_nyu_h5 import make_tree as make_h5

from depth_two_stage import networks
from depth_two_stage.datasets import open_dataset
from depth_two_stage.estimator import DepthEstimator
from depth_two_stage.evaluation import Plan, default_sparse, evaluate
from depth_two_stage.metrics import MEASURES

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
    "stage_two": None,
    "settings": {"sparse_input": "zeros", "input_size": [64, 96], "max_depth": 80.0},
}


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    torch.manual_seed(0)
    model = networks.build(SPEC)
    with torch.no_grad():
        model.stage_one.predict.bias.fill_(4.0)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    networks.save(path, model, SPEC, {"seed": 0})
    return DepthEstimator(str(path), device="cpu", engine="torch", threads=1)


def raw(root):
    write_date(root / "2011_09_26")
    write_drive(root / "2011_09_26", "2011_09_26_drive_0001_sync")


@pytest.mark.parametrize(
    ("name", "make", "protocol", "sparse", "images"),
    [
        ("nyu", lambda r: make_mat(r / "nyu", 3, (2,)), "E", "none", 1),
        ("nyu", lambda r: make_mat(r / "nyu", 3, (2,)), "C", "none", 1),
        ("nyu", lambda r: make_mat(r / "nyu", 3, (2,)), "D-nyu", "none", 1),
        ("nyu_h5", make_h5, "eigen", "bernoulli:200", 1),
        ("nyu_h5", make_h5, "centre", "bernoulli:200", 1),
        ("make3d", lambda r: write_make3d(r, "Test134", "Gridlaserdata", "a"), "make3d", "none", 1),
        ("kitti", raw, "garg", "none", 2),
        ("kitti_depth", make_selection, "kitti", "points", 2),
        ("kitti_depth", make_selection, "garg", "points", 2),
        ("kitti_tracking", make_tracking, "D-kitti-small", "none", 4),
        ("kitti_tracking", make_tracking, "D-kitti", "none", 4),
    ],
)
def test_every_protocol_measures_its_data(
    tmp_path, estimator, name, make, protocol, sparse, images
):
    make(tmp_path)
    data = open_dataset(name, tmp_path / "nyu" if name == "nyu" else tmp_path)
    report = evaluate(data, estimator, Plan((sparse,), protocol=protocol))
    found = report["results"][sparse]["refined"]
    assert found["images"] == images and found["empty"] == 0
    assert all(np.isfinite(found[measure]) for measure in MEASURES)


def test_depth_completion_counts_the_pixels_with_truth(tmp_path, estimator):
    make_selection(tmp_path)
    data = open_dataset("kitti_depth", tmp_path)
    assert default_sparse(data) == "points"
    row = evaluate(data, estimator, Plan(("points",), protocol="kitti"))["results"]["points"]
    wanted = [truth(index, (352, 1216)) for index in (8, 23)]
    assert row["refined"]["pixels"] == sum(np.count_nonzero(depth) for depth in wanted)
    scans = [truth(index + 1, (352, 1216)) for index in (8, 23)]
    assert row["points"] == np.mean([np.count_nonzero(scan) for scan in scans])


def test_make3d_counts_what_could_not_be_read_and_leaves_out_the_sky(tmp_path, estimator):
    write_make3d(tmp_path, "Test134", "Gridlaserdata", "a")
    data = open_dataset("make3d", tmp_path)
    row = evaluate(data, estimator, Plan(("none",), protocol="make3d"))["results"]["none"]
    depth = data[0].depth
    assert row["refined"]["pixels"] == np.count_nonzero((depth > 0) & (depth < 70))
    assert row["refined"]["invalid_targets"] == 2
