# SPDX-License-Identifier: Apache-2.0
"""The command `plug`, and `predict` with what it made."""

import json

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra huggingface is not installed")
from small_models import picture, plugged, run

from depth_two_stage import networks


def test_plug_says_what_it_made(capsys, folders, tmp_path):
    path = tmp_path / "small"
    code, out, _ = run(
        capsys, "plug", folders["depth_anything"], "-o", path, "--input-size", "42x56", "--half"
    )
    assert code == 0 and "input: 42 x 56 px" in out and "depth: 0.1 to 20 m" in out
    assert f"{42 * 886.81 / 768:.1f} px (the training data of depth_anything" in out
    facts = json.loads((tmp_path / "small.json").read_text())
    settings = facts["architecture"]["settings"]
    assert settings["input_size"] == settings["refined_size"] == [42, 56]
    source = facts["architecture"]["stage_one_source"]
    assert source["folder"] == "depth_anything" and len(source["files"]["model.safetensors"]) == 16
    code, out, _ = run(capsys, "plug", path, "-o", tmp_path / "f", "--focal", "55.5")
    assert code == 0 and "55.5 px (given)" in out
    assert networks.load(str(tmp_path / "f"))[0].settings.focal == 55.5


def test_plug_puts_a_trained_stage_two_behind_it(capsys, folders, tmp_path):
    spec = networks.architecture("two-stage-rgb", 1 / 16)
    refining = networks.build(spec).half().float().eval()
    networks.save(tmp_path / "b", refining, spec, {})
    folder, path = folders["depth_anything"], tmp_path / "both"
    code, _, _ = run(capsys, "plug", f"hf:{folder}", "--stage-two", tmp_path / "b", "-o", path)
    assert code == 0
    model, checkpoint = networks.load(str(path))
    assert checkpoint.facts["stage_two_source"]["file"] == "b.safetensors"
    assert model.settings.refined_size == (256, 256)
    x = torch.randn(1, 3, 70, 98)
    with torch.no_grad():
        rough = plugged(folder, spec)[1].coarse(x)
        normal = rough / 10 - 1  # 0…20 m in [-1, 1]
        expected = 10 * (refining.stage_two(normal) + 1)
        assert torch.equal(model(x)[0], rough)
        assert torch.allclose(model(x)[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hf:/nowhere"], "hf: expected a folder with config.json, got '/nowhere'"),
        (["fcrn18-rgb"], "STAGE_ONE: expected weights, got the untrained model 'fcrn18-rgb'"),
        (["default", "--input-size", "42"], "--input-size: expected HEIGHTxWIDTH, got '42'"),
        (["default", "--input-size", "0x9"], "--input-size: expected at least 1x1"),
        (["default", "--focal", "0"], "focal: expected a positive number of pixels, got 0.0"),
        (["default", "--stage-two", "no"], "weights: expected a file or one of the shipped"),
    ],
)
def test_plug_refuses(arguments, message, capsys, tmp_path):
    code, _, err = run(capsys, "plug", *arguments, "-o", tmp_path / "out")
    assert code == 1 and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []


def test_plug_asks_first_whether_it_may_write(capsys, weights, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "plug", weights, "-o", tmp_path / "file" / "out")
    assert code == 1 and err.count("\n") == 1 and "expected" in err and "file/out" in err


def test_plug_refuses_a_stage_two_that_is_none(capsys, weights, tmp_path):
    code, _, err = run(capsys, "plug", weights, "--stage-two", weights, "-o", tmp_path / "out")
    assert code == 1 and "--stage-two: expected weights that refine depth" in err


def test_predict_takes_it(capsys, weights, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture((120, 160)))
    out = tmp_path / "out"
    options = ["-o", out, "--weights", weights, "--engine", "torch"]
    code, _, _ = run(capsys, "predict", tmp_path / "a.png", *options)
    depth = np.load(next(out.glob("*.npy")))
    assert code == 0 and depth.shape == (120, 160) and depth.std() > 0.1
