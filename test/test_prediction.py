# SPDX-License-Identifier: Apache-2.0
"""evaluate, predict and benchmark as commands: files in, files out, one line on bad input."""

import json
import math

import numpy as np
import pytest
import torch

from depth_two_stage import benchmark, cli, files, networks
from depth_two_stage.camera import Camera
from depth_two_stage.prediction import Shot, assumed_lens, measured, parse_extrinsics, read_lens

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
    "stage_two": {"name": "residual_generator", "widths": [4, 8, 8], "output": "residual"},
    "settings": {"sparse_input": "filled", "aligned": True},
}
CAMERA = Camera(160, 120, 130, 130, 79.5, 59.5)
CALIBRATION = """
image_width: 160
image_height: 120
camera_name: test
camera_matrix: {rows: 3, cols: 3, data: [130, 0, 79.5, 0, 130, 59.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.05, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [120, 0, 79.5, 0, 0, 120, 59.5, 0, 0, 0, 1, 0]}
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = networks.build(SPEC)
    with torch.no_grad():
        model.stage_one.predict.weight.normal_(std=0.005)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    networks.save(path, model, SPEC, {"seed": 0})
    return str(path)


@pytest.fixture
def shot(tmp_path):
    """Return a folder with image.png, cloud.npy, sparse.png and camera.json of one view."""
    rng = np.random.default_rng(0)
    files.write_image(tmp_path / "image.png", rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    sparse = np.where(rng.random((120, 160)) < 0.02, 2.5, 0).astype(np.float32)
    files.write_depth(tmp_path / "sparse.png", sparse)
    np.save(tmp_path / "cloud.npy", CAMERA.backproject(sparse)[sparse > 0])
    camera = {"width": 160, "height": 120, "fx": 130, "fy": 130, "cx": 79.5, "cy": 59.5}
    files.write_json(tmp_path / "camera.json", camera)
    (tmp_path / "camera.yaml").write_text(CALIBRATION)
    return tmp_path


def run(*arguments):
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return end.value.code


@pytest.mark.parametrize("source", [("--points", "cloud.npy"), ("--sparse-depth", "sparse.png")])
def test_predict_writes_depth_pictures_and_cloud(shot, weights, source, capsys):
    code = run(
        *("predict", shot / "image.png", source[0], shot / source[1], "-o", shot / "out"),
        *("--camera", shot / "camera.json", "--weights", weights, "--engine", "torch"),
        *("--device", "cpu", "--json", shot / "table.json"),
    )
    assert code == 0
    row = json.loads((shot / "table.json").read_text())[0]
    assert row["points"] == np.count_nonzero(files.read_depth(shot / "sparse.png"))
    assert row["median_depth"] == pytest.approx(2.5, rel=0.05)
    assert row["scale_residual"] < 0.05
    depth = np.load(shot / "out" / "image_depth.npy")
    assert depth.shape == (120, 160) and depth.dtype == np.float32
    np.testing.assert_allclose(files.read_depth(shot / "out" / "image_depth.png"), depth, atol=6e-4)
    cloud = files.read_ply(shot / "out" / "image.ply")
    assert 0 < len(cloud.points) <= np.count_nonzero(depth) and cloud.colors is not None
    picture = files.read_image(shot / "out" / "image.png")
    assert picture.shape[1] > 4 * 320
    assert "image.png" in capsys.readouterr().out


def test_predict_without_camera_says_what_it_assumes(shot, weights, capsys):
    common = ("--weights", weights, "--engine", "torch", "--device", "cpu")
    assert run("predict", shot / "image.png", "-o", shot / "out", *common) == 0
    assert "camera: none given, a view 60° wide is assumed" in capsys.readouterr().err
    camera = assumed_lens(160, 120).rectified
    assert camera.fx == pytest.approx(80 / math.tan(math.radians(30)))


def test_extrinsics_move_the_points(shot):
    points = np.load(shot / "cloud.npy")
    np.save(shot / "lidar.npy", (points[:, [2, 0, 1]] * [1, -1, -1]).astype(np.float32))  # REP 103
    T = parse_extrinsics("0 0 0 0.5 -0.5 0.5 0.5")  # optical from forward-left-up
    lens = read_lens(shot / "camera.json")
    moved = Shot(shot / "image.png", lens, shot / "lidar.npy", None, T)
    plain = Shot(shot / "image.png", lens, shot / "cloud.npy")
    a, b = (measured(s, lens, lens.rectified) for s in (moved, plain))
    np.testing.assert_allclose(a, b, atol=1e-5)
    for text in ("1 2 3", "a b c d e f g", "0 0 0 0 0 0 0", "0 0 nan 0 0 0 1"):
        with pytest.raises(ValueError, match="extrinsics: expected x y z and a unit quaternion"):
            parse_extrinsics(text)


def test_sparse_depth_is_rectified_point_by_point(shot):
    """Each raw pixel lands where its ray meets the rectified camera; none is resampled away."""
    lens = read_lens(shot / "camera.yaml")
    assert lens.rectified.fx == 120 and not lens.is_rectified
    one = np.zeros((120, 160), np.float32)
    one[20, 30] = 2.0
    files.write_depth(shot / "one.png", one)
    sparse = measured(Shot(shot / "image.png", lens, None, shot / "one.png"), lens, lens.rectified)
    (row,), (column,) = np.nonzero(sparse)
    assert sparse[row, column] == pytest.approx(2.0)
    # The forward model of plumb_bob takes that rectified pixel back to the raw one.
    x, y = (column - 79.5) / 120, (row - 59.5) / 120
    r2 = x * x + y * y
    factor = 1 - 0.2 * r2 + 0.05 * r2 * r2
    assert abs(x * factor * 130 + 79.5 - 30) < 1 and abs(y * factor * 130 + 59.5 - 20) < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", "cloud.npy", "--sparse-depth", "sparse.png"), "got both"),
        (("--points", "missing.npy"), "missing.npy"),
        (("--points", "behind.npy"), "points: expected some in view of image.png, got none"),
        (("--camera", "small.json"), "camera: expected the size of"),
        (("--camera", "broken.yaml"), "expected YAML"),
        (("--camera", "empty.yaml"), "expected camera_matrix"),
        (("--camera", "endless.yaml"), "endless.yaml: cannot convert float infinity"),
        (("--camera", "turned.yaml"), "turned.yaml: lens: expected finite K, D and R"),
        (("--sparse-depth", "image.png"), "expected a 16-bit single-channel PNG"),
        (("--weights", "none-such"), "weights: expected"),
        (("--anchor", "glue"), "anchor: expected one of none, scale, residual, got 'glue'"),
        (("--device", "tpu"), "device: expected one of auto, cuda, cpu, got 'tpu'"),
        (("--extrinsics", "0 0 0 0 0 0 1"), "--extrinsics: expected --points"),
    ],
)
def test_predict_refuses_in_one_line(shot, weights, arguments, message, capsys):
    np.save(shot / "behind.npy", np.array([[0, 0, -2.0]]))
    camera = {"width": 80, "height": 60, "fx": 130, "fy": 130, "cx": 79.5, "cy": 59.5}
    files.write_json(shot / "small.json", camera)
    (shot / "broken.yaml").write_text("a: [1")
    (shot / "endless.yaml").write_text(CALIBRATION.replace("width: 160", "width: .inf"))
    (shot / "turned.yaml").write_text(CALIBRATION.replace("data: [1, 0", "data: [.nan, 0"))
    (shot / "empty.yaml").write_text("image_width: 3")
    paths = [shot / a if "." in a and " " not in a else a for a in arguments]
    common = ("--weights", weights, "--engine", "torch")
    code = run("predict", shot / "image.png", "-o", shot / "out", *common, *paths)
    err = capsys.readouterr().err.strip().splitlines()
    assert code != 0 and message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (shot / "out").exists()


def test_evaluate_as_a_command(weights, tmp_path, capsys):
    common = ("--root", ".", "--split", "frames:20,size:120x160", "--limit", "1", "--engine")
    common = (*common, "torch", "--weights", weights)
    sparse = ("--sparse", "none", "--sparse", "bernoulli:50", "--sparse", "lines:16")
    code = run(
        "evaluate", "rendered", *common, *sparse, "--baselines", "--json", tmp_path / "r.json"
    )
    assert code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["frames"] == 1 and report["engine"] == "torch"
    assert list(report["results"]) == ["none", "bernoulli:50", "lines:16"]
    for text in ("bernoulli:50", "lines:16"):
        for method in ("coarse", "refined", "nearest", "linear"):
            assert isinstance(report["results"][text][method]["rmse"], float)
    assert "bernoulli:50" in capsys.readouterr().out
    some = (*common[:2], "--split", "frames:7,size:120x160", *common[6:], "--every", "3")
    assert (
        run("evaluate", "rendered", *some, "--sparse", "none", "--json", tmp_path / "s.json") == 0
    )
    assert json.loads((tmp_path / "s.json").read_text())["frames"] == 3
    for arguments, message in (
        (("nyud", "--root", tmp_path), "dataset: expected one of nyu"),
        (("tum", "--root", tmp_path / "none"), "root: expected an existing tum recording"),
        (("rendered", *common, "--sparse", "x"), "sparse: expected none, bernoulli:N"),
        (("rendered", *common, "--protocol", "x"), "protocol: expected one of full"),
        (("rendered", *common, "-p", "tsdf.voxel=1"), "tsdf.voxel"),
        (("rendered", *common, "--json", tmp_path / "r.json" / "x"), "expected a writable file"),
    ):
        assert run("evaluate", *arguments) != 0
        err = capsys.readouterr().err.strip().splitlines()
        assert message in err[-1]


def test_benchmark_compares_engines_in_the_same_run(weights):
    report = benchmark.benchmark(weights, ["torch"], threads=1, rounds=2)
    rows = {row["what"]: row for row in report["rows"]}
    assert rows[benchmark.REFERENCE]["median"] > 0
    assert rows["estimator, torch bf16"]["ratio"] > 0
    assert {"cloud", "map, integrate", "map, mesh", "conversion, Image to array"} <= set(rows)
    more = benchmark.benchmark(
        weights, ["torch"], rounds=1, more=lambda: [{"what": "node over DDS", "median": 1.0}]
    )
    assert more["rows"][-1]["what"] == "node over DDS"
    with pytest.raises(ValueError, match="engine: expected one of auto, torch"):
        benchmark.benchmark(weights, ["tensorrt"])
