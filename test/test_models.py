# SPDX-License-Identifier: Apache-2.0
"""Every entry of the table of networks: it trains, is saved and loaded, and runs in the node."""

import functools

import cv2
import numpy as np
import pytest
import torch

from depth_two_stage import estimator, networks, runtimes
from depth_two_stage.camera import Camera
from depth_two_stage.networks.inputs import assemble

NAMES = list(networks.MODELS)


@functools.lru_cache(maxsize=1)
def small(name):
    """An entry at an eighth of its width, in eval mode, with weights that fp16 holds exactly.

    The last layers, which start near zero, are stirred: what they answer is to depend on the input.
    """
    torch.manual_seed(0)
    spec = networks.architecture(name, 1 / 8)
    model = networks.build(spec)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("predict.weight", "out.weight", "out.0.weight")):
            torch.nn.init.normal_(parameter, std=0.05)
    return spec, model.half().float().eval()


def example(settings, batch=1, size=None):
    height, width = size or settings.input_size
    if settings.relative:  # whose points are points: elsewhere there are none
        rng = np.random.default_rng(1)
        rgb = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (width, height))
        sparse = np.where(rng.random((height, width)) < 2e-3, rng.uniform(1, 4, (height, width)), 0)
        x = assemble(rgb, sparse.astype(np.float32), settings.sparse_input, settings.mean_depth)
        return torch.from_numpy(x).repeat(batch, 1, 1, 1)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, settings.channels, height, width, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_forward_and_back(name):
    _, model = small(name)
    model.train()
    outputs = model(example(model.settings, 2))
    assert len(outputs) == 2 + model.confident
    assert {out.shape for out in outputs} == {(2, 1, *model.settings.refined_size)}
    sum(out.square().mean() for out in outputs).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(
            ("outliers.", "registration.", "prior.", "joint_filter.")
        ):  # no part of it
            continue
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name
    small.cache_clear()  # its running means have moved


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_odd_sizes_or_refuses_them(name):
    _, model = small(name)
    x = example(model.settings, size=(101, 151))
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(ValueError, match=r"input: expected 228×304 .* got 101×151"):
                model(x)
        else:
            for out in model(x):
                assert out.shape == (1, 1, *model.settings.refined_size) and out.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_saved_and_loaded(name, tmp_path):
    spec, model = small(name)
    networks.save(tmp_path / "net.safetensors", model, spec, {})
    again, _ = networks.load(tmp_path / "net.safetensors")
    x = example(model.settings)
    with torch.no_grad():
        for expected, found in zip(model(x), again(x), strict=True):
            assert torch.equal(expected, found)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_onnx(name):
    if "onnxruntime" not in runtimes.installed():
        pytest.skip("onnxruntime is not installed")
    _, model = small(name)
    x = example(model.settings)
    engine = runtimes.OnnxEngine(model, x.numpy(), "cpu", "fp32", 1)
    with torch.inference_mode():
        expected = [y[0, 0].numpy() for y in model(x)]
    for found, wanted in zip(engine(x.numpy()), expected, strict=True):
        assert np.ptp(wanted) > 1e-3
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["three-stage-rgb", "single-cgan-rgb", "cnn-fc", "scrdu-grey"])
def test_the_estimator_takes_it(name, tmp_path):
    spec, model = small(name)
    networks.save(tmp_path / "net.safetensors", model, spec, {})
    estimate = estimator.DepthEstimator(
        str(tmp_path / "net.safetensors"), "cpu", "fp32", "torch", 1, anchor="none"
    )
    rgb = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    found = estimate(rgb, None, Camera(160, 120, 140.0, 140.0, 79.5, 59.5))
    assert found.depth.shape == found.coarse.shape == (120, 160)
    assert np.isfinite(found.depth).all() and found.depth.max() <= model.settings.max_depth * 2
