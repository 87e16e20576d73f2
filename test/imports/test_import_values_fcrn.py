# SPDX-License-Identifier: Apache-2.0
"""FCRN's released network against straight-line NumPy, written from its layout's description."""

import fcrn_files
import numpy as np
import pytest
from straight_line import convolve, exactly, half_pixel, image, near, ours, pool, relu

from depth_two_stage import estimator, networks
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.datasets import Sample, nyu
from depth_two_stage.framing import Framing
from depth_two_stage.protocols import PROTOCOLS

BLOCKS = (3, 4, 6, 3)


class Released:
    """The facts of the TensorFlow layout, in the order of the layers."""

    def __init__(self, layers):
        self.layers = layers

    def conv(self, name, x, stride=1, pad=None):
        part = self.layers[name]
        side = (part["weights"].shape[0] - 1) // 2
        pad = (side,) * 4 if pad is None else pad
        return convolve(x, part["weights"], stride, pad, part.get("biases"))

    def norm(self, name, x):
        part = {k: v.astype(np.float64)[:, None, None] for k, v in self.layers[name].items()}
        normal = (x - part["mean"]) / np.sqrt(part["variance"] + 1e-4)
        return part["scale"] * normal + part["offset"]

    def stem(self, x):
        x = relu(self.norm("bn_conv1", self.conv("conv1", x, 2)))
        return pool(x, (0, 1))  # TensorFlow's SAME: below and to the right

    def bottleneck(self, name, x, stride=1):
        shortcut = x
        if f"res{name}_branch1" in self.layers:
            shortcut = self.norm(f"bn{name}_branch1", self.conv(f"res{name}_branch1", x, stride))
        x = relu(self.norm(f"bn{name}_branch2a", self.conv(f"res{name}_branch2a", x, stride)))
        x = relu(self.norm(f"bn{name}_branch2b", self.conv(f"res{name}_branch2b", x)))
        x = self.norm(f"bn{name}_branch2c", self.conv(f"res{name}_branch2c", x))
        return relu(x + shortcut)

    def unpooled(self, layer, x):
        a = self.conv(f"{layer}_ConvA", x, pad=(1, 1, 1, 1))
        b = self.conv(f"{layer}_ConvB", x, pad=(1, 0, 1, 1))
        c = self.conv(f"{layer}_ConvC", x, pad=(1, 1, 1, 0))
        d = self.conv(f"{layer}_ConvD", x, pad=(1, 0, 1, 0))
        out = np.empty((len(a), 2 * x.shape[1], 2 * x.shape[2]))
        out[:, 0::2, 0::2], out[:, 1::2, 0::2], out[:, 0::2, 1::2], out[:, 1::2, 1::2] = a, b, c, d
        return self.norm(f"{layer}_BN", out)

    def up_projection(self, scale, x):
        upper = relu(self.unpooled(f"layer{scale}_br1", x))
        upper = self.norm(f"layer{scale}_BN", self.conv(f"layer{scale}_Conv", upper))
        return relu(upper + self.unpooled(f"layer{scale}_br2", x))

    def whole(self, x):
        x = self.stem(x)
        for stage, blocks in enumerate(BLOCKS, start=2):
            for index in range(blocks):
                stride = 2 if stage > 2 and index == 0 else 1
                x = self.bottleneck(f"{stage}{'abcdef'[index]}", x, stride)
        x = self.norm("layer1_BN", self.conv("layer1", x))
        for scale in ("2x", "4x", "8x", "16x"):
            x = self.up_projection(scale, x)
        return relu(self.conv("ConvPred", x))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """(its NumPy form, the checkpoint that came of the .npy)."""
    folder = tmp_path_factory.mktemp("released")
    layers = fcrn_files.fcrn_arrays()
    np.save(folder / "NYU_ResNet-UpProj.npy", layers, allow_pickle=True)
    import_weights(folder / "NYU_ResNet-UpProj.npy", folder / "net")
    return Released(layers), str(folder / "net.safetensors")


def test_the_released_stem(released):
    reference, path = released
    encoder = networks.load(path)[0].stage_one.encoder
    found = ours(lambda x: encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(x)))), image())
    near(found, reference.stem(image()))


@pytest.mark.parametrize(
    ("name", "layer", "index", "cin", "stride"),
    [("2a", "layer1", 0, 4, 1), ("3a", "layer2", 0, 16, 2), ("4f", "layer3", 5, 64, 1)],
)
def test_a_released_bottleneck(released, name, layer, index, cin, stride):
    reference, path = released
    encoder = networks.load(path)[0].stage_one.encoder
    x = image((cin, 15, 20)) / 100 - 1
    near(ours(getattr(encoder, layer)[index], x), reference.bottleneck(name, x, stride))


@pytest.mark.parametrize(("scale", "number"), [("2x", 0), ("16x", 3)])
def test_a_released_up_projection(released, scale, number):
    reference, path = released
    decoder = networks.load(path)[0].stage_one.decoder
    x = image((64 >> number, 8, 10)) / 100 - 1
    near(ours(decoder[number], x), reference.up_projection(scale, x))


def test_the_whole_released_network(released):
    reference, path = released
    x = image((3, 228, 304))
    expected = reference.whole(x)
    assert expected.shape == (1, 128, 160) and (expected > 0).mean() > 0.3
    near(exactly(networks.load(path)[0], x), expected)


def test_the_estimator_gives_the_released_network_what_it_was_trained_with(released):
    reference, path = released
    rgb = image((228, 304, 3), 3).astype(np.uint8)
    camera = nyu.CAMERA.resized(320, 240).cropped(8, 6, 304, 228)
    run = estimator.DepthEstimator(path, "cpu", "fp32", "torch", 1, anchor="none")
    expected = reference.whole(rgb.transpose(2, 0, 1).astype(np.float64))[0]
    assert run.settings.focal == pytest.approx(camera.focal, rel=1e-9)
    np.testing.assert_allclose(run._input(rgb, None)[0], rgb.transpose(2, 0, 1), rtol=1e-6)
    depth = run(rgb, None, camera).depth
    # Bilinear over the whole view, half-pixel centres; beyond 10 m there is none.
    expected = half_pixel(expected, 228, 304)
    valid = (expected > 1e-3) & (expected < 9.99)
    assert valid.mean() > 0.2
    np.testing.assert_allclose(depth[valid], expected[valid], atol=2e-3)
    assert (depth[expected > 10.01] == 0).all() and (expected > 10.01).any()


@pytest.mark.parametrize("name", ["E", "centre"])
def test_the_protocols_show_the_networks_what_they_were_trained_on(released, name):
    """Half of NYU's frame, its centre, at one and the same focal length: nothing is rescaled."""
    settings = networks.load(released[1])[0].settings
    rgb = np.zeros((480, 640, 3), np.uint8)
    sample = PROTOCOLS[name].prepare(Sample(rgb, None, nyu.CAMERA, 0, "a"))
    seen, camera = PROTOCOLS[name].view(sample.rgb, sample.camera)
    framing = Framing.fit(seen.shape[:2], settings.input_size)
    assert framing.content_size == (228, 304)
    assert framing.camera(camera).focal == pytest.approx(settings.focal, rel=1e-9)
