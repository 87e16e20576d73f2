# SPDX-License-Identifier: Apache-2.0
"""Imported networks against straight-line NumPy written from the layouts' descriptions alone."""

import warnings

import authors_files
import numpy as np
import pytest
import torch

from depth_two_stage import estimator, networks
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.datasets import Sample, nyu
from depth_two_stage.framing import Framing
from depth_two_stage.protocols import PROTOCOLS

BLOCKS = (3, 4, 6, 3)


def near(found, expected):
    """Equal to 1e-5, of the largest value where that is above one."""
    scale = max(1.0, float(np.abs(expected).max()))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(expected).max() > 0.05  # not a comparison of nothings


def convolve(x, kernel, stride=1, pad=(0, 0, 0, 0), bias=None):
    """Input (C, H, W), kernel (kh, kw, in, out), pad (top, bottom, left, right) → (out, H', W')."""
    kh, kw = kernel.shape[:2]
    x = np.pad(x, ((0, 0), pad[:2], pad[2:]))
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    out = np.zeros((kernel.shape[3], height, width))
    for i in range(kh):
        for j in range(kw):
            seen = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.tensordot(kernel[i, j].astype(np.float64), seen, ([0], [0]))
    return out if bias is None else out + bias[:, None, None]


def pool(x, pad):
    """3×3 maximum with stride 2; pad (before, after) on both axes."""
    x = np.pad(x, ((0, 0), pad, pad), constant_values=-np.inf)
    height, width = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    windows = [
        x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
        for i in range(3)
        for j in range(3)
    ]
    return np.max(windows, axis=0)


def relu(x):
    return np.maximum(x, 0)


def image(shape=(3, 64, 96), seed=1):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def ours(module, x):
    with torch.inference_mode():
        return module(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None])[0].numpy()


def exactly(model, x):
    """Stage one's answer in double precision: so many layers add up the rounding of float32."""
    with torch.inference_mode():
        return model.stage_one.double()(torch.from_numpy(x).double()[None])[0].numpy()


# E's released network --------------------------------------------------------------------------


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
    layers = authors_files.fcrn_arrays()
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


# sparse-to-dense -------------------------------------------------------------------------------


class SparseToDense:
    """The facts of the sparse-to-dense layout, from its state dict."""

    def __init__(self, state, decoder):
        self.state = {name: value.numpy().astype(np.float64) for name, value in state.items()}
        self.decoder = decoder

    def conv(self, name, x, stride=1):
        kernel = self.state[f"{name}.weight"].transpose(2, 3, 1, 0)
        return convolve(x, kernel, stride, (kernel.shape[0] // 2,) * 4)

    def norm(self, name, x):
        weight, bias, mean, variance = (
            self.state[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return weight * (x - mean) / np.sqrt(variance + 1e-5) + bias

    def stem(self, x):
        return pool(relu(self.norm("bn1", self.conv("conv1", x, 2))), (1, 1))

    def block(self, name, x, stride):
        shortcut = x
        if f"{name}.downsample.0.weight" in self.state:
            down = f"{name}.downsample"
            shortcut = self.norm(f"{down}.1", self.conv(f"{down}.0", x, stride))
        if f"{name}.conv3.weight" in self.state:
            x = relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)))
            x = relu(self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", x, stride)))
            x = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", x))
        else:
            x = relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride)))
            x = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", x))
        return relu(x + shortcut)

    def up(self, number, x):
        name = f"decoder.layer{number}"
        if self.decoder.startswith("deconv"):
            return relu(
                self.norm(f"{name}.batchnorm", self.transposed(f"{name}.{self.decoder}", x))
            )
        wide = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
        wide[:, ::2, ::2] = x
        if self.decoder == "upconv":
            return relu(self.norm(f"{name}.batchnorm", self.conv(f"{name}.conv", wide)))
        upper, lower = f"{name}.upper_branch", f"{name}.bottom_branch"
        y = relu(self.norm(f"{upper}.batchnorm1", self.conv(f"{upper}.conv1", wide)))
        y = self.norm(f"{upper}.batchnorm2", self.conv(f"{upper}.conv2", y))
        return relu(y + self.norm(f"{lower}.batchnorm", self.conv(f"{lower}.conv", wide)))

    def transposed(self, name, x):
        """Each pixel puts its kernel down two pixels on from the last; the middle stays."""
        kernel = self.state[f"{name}.weight"]  # (in, out, k, k)
        size, height, width = kernel.shape[2], *x.shape[1:]
        out = np.zeros((kernel.shape[1], 2 * height + 2, 2 * width + 2))
        for i in range(size):
            for j in range(size):
                put = np.tensordot(kernel[:, :, i, j], x, ([0], [0]))
                out[:, i : i + 2 * height : 2, j : j + 2 * width : 2] += put
        skip = (size - 1) // 2
        return out[:, skip : skip + 2 * height, skip : skip + 2 * width]

    def small(self, x, encoder):
        x = self.stem(x)
        for layer, blocks in enumerate(authors_files.BLOCKS[encoder], start=1):
            for index in range(blocks):
                stride = 2 if layer > 1 and index == 0 else 1
                x = self.block(f"layer{layer}.{index}", x, stride)
        x = self.norm("bn2", self.conv("conv2", x))
        for number in (1, 2, 3, 4):
            x = self.up(number, x)
        return self.conv("conv3", x)

    def whole(self, x, encoder):
        return corners(self.small(x, encoder)[0], 228, 304)


def corners(field, height, width):
    """Bilinear, corner pixels on corner pixels."""
    at = [np.linspace(0, n - 1, m) for n, m in zip(field.shape, (height, width), strict=True)]
    for axis, where in enumerate(at):
        low = np.minimum(where.astype(int), field.shape[axis] - 2)
        part = (where - low)[(slice(None), None) if axis == 0 else (None, slice(None))]
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field


def half_pixel(field, height, width):
    """Bilinear with half-pixel centres, the edge repeated."""
    for axis, size in enumerate((height, width)):
        at = np.clip((np.arange(size) + 0.5) * field.shape[axis] / size - 0.5, 0, None)
        at = np.minimum(at, field.shape[axis] - 1)
        low = np.minimum(at.astype(int), field.shape[axis] - 2)
        part = (at - low)[(slice(None), None) if axis == 0 else (None, slice(None))]
        field = np.take(field, low, axis) * (1 - part) + np.take(field, low + 1, axis) * part
    return field


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Make the authors' file and import it: (its NumPy form, checkpoint)."""

    def make(encoder, decoder, modality, zipped=False):
        folder = tmp_path_factory.mktemp("sparse-to-dense")
        path = folder / "model_best.pth.tar"
        with authors_files.authors_modules() as classes, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of source it does not find
            net = authors_files.sparse_to_dense(classes, encoder, decoder, len(modality))
            state = net.state_dict()
            authors_files.save_sparse_to_dense(path, net, classes, zipped, modality)
        import_weights(path, folder / "net")
        return SparseToDense(state, decoder), str(folder / "net.safetensors")

    return make


@pytest.mark.parametrize(
    ("encoder", "decoder", "modality", "zipped"),
    [
        ("resnet50", "upproj", "rgbd", False),
        ("resnet18", "upconv", "rgb", True),
        ("resnet18", "deconv2", "d", False),
        ("resnet18", "deconv3", "rgbd", True),
    ],
)
def test_sparse_to_dense(imported, encoder, decoder, modality, zipped):
    reference, path = imported(encoder, decoder, modality, zipped)
    model, _ = networks.load(path)
    stage = model.stage_one
    x = image((len(modality), 228, 304)) / 100 - 1
    # The stem, a block that halves, one step up, then all.
    inner = stage.encoder
    found = ours(lambda x: inner.maxpool(inner.relu(inner.bn1(inner.conv1(x)))), x)
    near(found, reference.stem(x))
    y = image((inner.layer2[0].conv1.in_channels, 15, 20)) / 100 - 1
    near(ours(inner.layer2[0], y), reference.block("layer2.0", y, 2))
    y = image((stage.conv.out_channels, 8, 10)) / 100 - 1
    near(ours(stage.decoder[0], y), reference.up(1, y))
    near(exactly(model, x), reference.small(x, encoder))
    near(ours(model.float().coarse, x)[0], corners(ours(model.stage_one, x)[0], 228, 304))


@pytest.mark.parametrize("modality", ["rgbd", "d", "rgb"])
def test_the_estimator_gives_sparse_to_dense_what_it_was_trained_with(imported, modality):
    reference, path = imported("resnet18", "upproj", modality)
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (228, 304, 3), np.uint8)
    points = np.where(rng.random((228, 304)) < 0.003, rng.uniform(1, 9, (228, 304)), 0)
    points = points.astype(np.float32)
    camera = nyu.CAMERA.resized(320, 240).cropped(8, 6, 304, 228)
    run = estimator.DepthEstimator(path, "cpu", "fp32", "torch", 1, anchor="none")
    colour = rgb.transpose(2, 0, 1) / 255
    seen = {"rgb": colour, "d": points[None], "rgbd": np.concatenate((colour, points[None]))}
    expected = reference.whole(seen[modality], "resnet18")
    np.testing.assert_allclose(run._input(rgb, points)[0], seen[modality], atol=1e-6)
    depth = run(rgb, points, camera).depth
    valid = (expected > 1e-3) & (expected < 9.99)
    assert valid.sum() > 1000
    if modality == "rgb":  # no points are put aside as strays: the very same input
        np.testing.assert_allclose(depth[valid], expected[valid], atol=2e-3)
