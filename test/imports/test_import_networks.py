# SPDX-License-Identifier: Apache-2.0
"""What networks of public weights have that ours have not: forms, colours, inputs, resizing."""

import numpy as np
import pytest
import torch
from torch import nn

from depth_two_stage import networks, runtimes
from depth_two_stage.networks import forms
from depth_two_stage.networks.blocks import DeConv, FastUp, UpProj
from depth_two_stage.networks.inputs import assemble

RGB = np.array([[[0, 128, 255], [51, 102, 204]]], np.uint8)
POINTS = np.array([[0.0, 2.5]], np.float32)


def small(variant="own", settings=None, **stage_one):
    return {
        "stage_one": {"name": "fcrn", "width": 1 / 16, "variant": variant, **stage_one},
        "stage_two": None,
        "settings": {"input_size": [64, 96], "refined_size": [64, 96], **(settings or {})},
    }


def test_colours():
    x = assemble(RGB, POINTS, "none", 1.0, "bytes")
    np.testing.assert_allclose(x[:, 0], RGB[0].T, rtol=1e-6)
    x = assemble(RGB, POINTS, "zeros", 1.0, "unit")
    np.testing.assert_allclose(x[:3, 0, 1], [0.2, 0.4, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(x[3], POINTS)
    x = assemble(RGB, None, "none", 1.0)  # ImageNet's, as ever
    np.testing.assert_allclose(x[0, 0], [-0.485 / 0.229, (0.2 - 0.485) / 0.229], rtol=1e-5)
    with pytest.raises(ValueError, match="colour: expected one of imagenet, unit, bytes"):
        networks.NetworkSettings(colour="caffe")


def test_points_alone():
    np.testing.assert_array_equal(assemble(RGB, POINTS, "points", 1.0), POINTS[None])
    for nothing in (None, np.zeros((1, 2), np.float32)):
        x = assemble(RGB, nothing, "points", 1.0)
        assert x.shape == (1, 1, 2) and x.dtype == np.float32 and not x.any()
    assert networks.NetworkSettings(sparse_input="points").channels == 1


def test_corners_lie_on_corners():
    class Ramp(nn.Module):
        def forward(self, x):
            return torch.tensor([[[[0.0, 3.0]]]])

    for corners, expected in ((True, [0, 1, 2, 3]), (False, [0, 0.75, 2.25, 3])):
        settings = networks.NetworkSettings(refined_size=(1, 4), corners=corners)
        coarse = networks.TwoStage(Ramp(), None, settings).coarse(torch.zeros(1, 4, 1, 4))
        np.testing.assert_allclose(coarse[0, 0, 0], expected, atol=1e-6)


def test_the_released_variant():
    model = networks.build(small("tensorflow", {"sparse_input": "none"}, side="top_left"))
    stage = model.stage_one
    biased = [n for n, m in stage.named_modules() if getattr(m, "bias", None) is not None]
    assert "encoder.conv1" in biased and "conv" in biased and "predict" in biased
    assert {m.eps for m in stage.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-4}
    for number, layer in enumerate(("layer1", "layer2", "layer3", "layer4")):
        first = getattr(stage.encoder, layer)[0]
        stride = (2, 2) if number else (1, 1)
        assert first.conv1.stride == first.downsample[0].stride == stride
        assert first.conv2.stride == (1, 1)
    # The pool looks to the right and below: the first of a row of eight is the largest of three.
    x = torch.tensor([8.0, 1, 2, 3, 4, 5, 6, 7]).expand(1, 1, 8, 8)
    assert stage.encoder.maxpool(x)[0, 0, 0].tolist() == [8, 4, 6, 7]
    nn.init.constant_(stage.predict.bias, -1e3)
    assert model.eval()(torch.zeros(1, 3, 64, 96))[0].abs().max() == 0  # a last ReLU
    trained = networks.build(small("sparse-to-dense"))
    assert trained.stage_one.predict.bias is None


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (small("caffe"), "variant: expected one of own, tensorflow, sparse-to-dense, got 'caffe'"),
        (small("tensorflow", encoder="resnet18"), "fast resnet50 upproj"),
        (small("tensorflow", decoder="upconv"), "fast resnet50 upproj"),
        (small("tensorflow", fast=False), "fast resnet50 upproj"),
        (small(decoder="deconv5"), "decoder: expected one of upproj, upconv, deconv, deconv3"),
    ],
)
def test_what_a_variant_is_not(spec, wanted):
    with pytest.raises(ValueError, match=wanted):
        networks.build(spec)


def test_four_biases_have_no_plain_form():
    with pytest.raises(ValueError, match="bias: expected none in a plain up-convolution"):
        forms.to_plain(FastUp(2, 1, bias=True))
    with pytest.raises(ValueError, match="fast: expected True with biases"):
        UpProj(2, 1, fast=False, bias=True)


def test_a_3x3_deconvolution_doubles_the_size():
    block = DeConv(1, 1, 3).eval()
    nn.init.constant_(block[0].weight, 1)
    found = block(torch.tensor([[[[1.0, 2], [3, 4]]]]))[0, 0] * np.sqrt(1 + 1e-5)
    # Each pixel lies on an even one and its neighbours; those between two or four get their sum.
    expected = [[1, 3, 2, 2], [4, 10, 6, 6], [3, 7, 4, 4], [3, 7, 4, 4]]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-6)


@pytest.mark.parametrize("engine", [e for e in runtimes.ENGINES if e != "torch"])
@pytest.mark.parametrize(
    "spec",
    [
        small("tensorflow", {"sparse_input": "none", "colour": "bytes"}, side="top_left"),
        small("sparse-to-dense", {"corners": True}, encoder="resnet18", decoder="deconv3"),
    ],
    ids=["tensorflow", "sparse-to-dense"],
)
def test_engines_give_the_same(spec, engine):
    if engine not in runtimes.installed():
        pytest.skip(f"{engine} is not installed")
    torch.manual_seed(0)
    model = networks.build(spec).eval()
    nn.init.normal_(model.stage_one.predict.weight, std=0.1)
    if model.stage_one.predict.bias is not None:
        nn.init.constant_(model.stage_one.predict.bias, 2)
    x = np.random.default_rng(0).random((1, model.settings.channels, 64, 96), np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x))[0][0, 0].numpy()
    run = runtimes.ENGINES[engine](model, x, "cpu", "fp32", 1)
    np.testing.assert_allclose(run(x)[0], expected, atol=1e-4 * np.abs(expected).max())
