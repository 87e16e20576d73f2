# SPDX-License-Identifier: Apache-2.0
"""sparse-to-dense against straight-line NumPy, written from its layout's description."""

import warnings

import numpy as np
import pytest
import sparse_to_dense_files
from straight_line import convolve, corners, exactly, image, near, ours, pool, relu

from depth_two_stage import estimator, networks
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.datasets import nyu


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
        for layer, blocks in enumerate(sparse_to_dense_files.BLOCKS[encoder], start=1):
            for index in range(blocks):
                stride = 2 if layer > 1 and index == 0 else 1
                x = self.block(f"layer{layer}.{index}", x, stride)
        x = self.norm("bn2", self.conv("conv2", x))
        for number in (1, 2, 3, 4):
            x = self.up(number, x)
        return self.conv("conv3", x)

    def whole(self, x, encoder):
        return corners(self.small(x, encoder)[0], 228, 304)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Make the authors' file and import it: (its NumPy form, checkpoint)."""

    def make(encoder, decoder, modality, zipped=False):
        folder = tmp_path_factory.mktemp("sparse-to-dense")
        path = folder / "model_best.pth.tar"
        with sparse_to_dense_files.authors_modules() as classes, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of source it does not find
            net = sparse_to_dense_files.sparse_to_dense(classes, encoder, decoder, len(modality))
            state = net.state_dict()
            sparse_to_dense_files.save_sparse_to_dense(path, net, classes, zipped, modality)
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
