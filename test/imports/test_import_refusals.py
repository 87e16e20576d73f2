# SPDX-License-Identifier: Apache-2.0
"""``import-weights``: what does not fit is named, all of it, before the first copy."""

import fcrn_files
import numpy as np
import pytest
import torch
from import_commands import imagenet, refused, run

from depth_two_stage import networks
from depth_two_stage.checkpoints.importing import import_weights

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")


def test_all_that_does_not_fit_is_listed(npy, tmp_path):
    def change(layers):
        del layers["layer2x_br1_ConvB"], layers["bn3d_branch2c"]["variance"]
        layers["conv1"]["weights"] = layers["conv1"]["weights"][:5]
        layers["ConvPred"]["biases"] = np.zeros(2, np.float32)
        layers["bn2a_branch1"]["mean"][:] = np.nan
        layers["bn2a_branch1"]["variance"][0] = -1
        layers["layer1"]["biases"] = layers["layer1"]["biases"].astype(int)

    text = refused(npy(change), tmp_path)
    assert "expected the 394 tensors of FCRN" in text and "got 386 of them" in text
    assert (
        "3 missing: bn3d_branch2c/variance (16,), layer2x_br1_ConvB/weights (2, 3, 32, 16), "
        "layer2x_br1_ConvB/biases (16,)"
    ) in text
    assert "5 of another shape or type: " in text
    assert "conv1/weights (expected (7, 7, 3, 2), got (5, 7, 3, 2))" in text
    assert "ConvPred/biases (expected (1,), got (2,))" in text
    assert "bn2a_branch1/mean (expected finite values, got NaN or infinity)" in text
    assert "bn2a_branch1/variance (expected variances, got -1.0)" in text
    assert "layer1/biases (expected floating point, got int64)" in text


def test_names_nobody_asks_for_are_ignored_with_a_count(npy, tmp_path, capsys):
    def change(layers):
        layers["fc1000"] = {"weights": np.zeros((2, 3), np.float32), "biases": np.zeros(3, "f4")}

    code, shown, _ = run(capsys, "import-weights", npy(change), "-o", tmp_path / "out")
    assert code == 0 and "394 all found, 2 ignored" in shown
    _, checkpoint = networks.load(str(tmp_path / "out.safetensors"))
    assert checkpoint.facts["imported"]["ignored"] == 2


def test_b_and_c_swapped_is_an_error(npy, tmp_path):
    def change(layers):
        b, c = "layer4x_br2_ConvB", "layer4x_br2_ConvC"
        layers[b], layers[c] = layers[c], layers[b]

    text = refused(npy(change), tmp_path)
    assert "layer4x_br2_ConvB/weights (expected (2, 3, 16, 8), got (3, 2, 16, 8))" in text


def test_another_architecture_is_an_error(npy, best, tmp_path):
    def other(layers):
        kept = layers.pop("conv1")
        layers.clear()
        layers["vgg_conv1"] = kept

    text = refused(npy(other), tmp_path)
    assert "got 0 of them; 394 missing: conv1/weights" in text and "ConvPred/biases" in text

    def deeper(net):
        net.layer1.append(net.layer1[1])

    text = refused(best(deeper), tmp_path)
    assert "unknown: layer1.2.conv1.weight" in text
    text = refused(best(lambda net: delattr(net, "decoder")), tmp_path)
    assert "decoder: expected one of upproj, upconv, deconv2, deconv3" in text

    def resnet34(net):
        for layer, count in zip(
            (net.layer1, net.layer2, net.layer3, net.layer4), (3, 4, 6, 3), strict=True
        ):
            while len(layer) < count:
                layer.append(layer[-1])

    assert "expected ResNet-18 or ResNet-50, got ResNet-34" in refused(best(resnet34), tmp_path)

    def two_channels(net):
        net.conv1 = torch.nn.Conv2d(2, 2, 7, 2, 3, bias=False)

    text = refused(best(two_channels), tmp_path)
    assert "expected the channels of d, rgb or rgbd (1, 3, 4), got 2" in text
    assert "got 1 g" in refused(best(modality="g"), tmp_path)

    def biased(net):
        net.conv3.bias = torch.nn.Parameter(torch.zeros(1))

    assert "1 unknown: conv3.bias" in refused(best(biased), tmp_path)


def test_errors_are_one_line(capsys, npy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = npy(lambda layers: layers.pop("layer1"))
    good = tmp_path / "good.npy"
    np.save(good, fcrn_files.fcrn_arrays(2), allow_pickle=True)
    for arguments, wanted in (
        ((broken, "-o", "out"), "2 missing: layer1/weights"),
        (("nothing.npy", "-o", "out"), "nothing.npy: expected a file"),
        ((good, "-o", "out", "--layout", "caffe"), "layout: expected one of auto"),
        ((good, "-o", "out", "--model", "fcrn50-rgb"), "model: expected none"),
        ((good,), "Missing option"),
        ((good, "-o", tmp_path), "expected a writable file, got a folder"),
        ((good, "-o", good / "out"), "expected a writable file, got Not a directory"),
        ((good, "-o", "out", "--json", good / "out"), "expected a writable file"),
    ):
        code, _, err = run(capsys, "import-weights", *arguments)
        assert code not in (0, None) and len(err.strip().splitlines()) == 1
        assert wanted in err
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_checkpoint_of_this_package_is_no_import(tmp_path):
    imagenet(tmp_path / "net.pth")
    import_weights(tmp_path / "net.pth", tmp_path / "out")
    text = refused(tmp_path / "out.safetensors", tmp_path)
    assert "got a checkpoint of this package" in text
