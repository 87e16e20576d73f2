# SPDX-License-Identifier: Apache-2.0
"""Every entry of the table of networks: it trains, is saved and loaded, and runs in the node."""

import functools

import numpy as np
import pytest
import torch

from depth_two_stage import networks, runtimes

NAMES = list(networks.MODELS)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@functools.lru_cache(maxsize=1)
def small(name):
    """An entry at an eighth of its width, in eval mode, with weights that fp16 holds exactly."""
    torch.manual_seed(0)
    spec = networks.architecture(name, 1 / 8)
    return spec, networks.build(spec).half().float().eval()


def example(settings, batch=1, size=None):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, settings.channels, *(size or settings.input_size), generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_forward_and_back(name):
    _, model = small(name)
    model.train()
    coarse, refined = model(example(model.settings, 2))
    assert coarse.shape == refined.shape == (2, 1, *model.settings.refined_size)
    (coarse.abs().mean() + refined.square().mean()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name
    small.cache_clear()  # its running means have moved


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_odd_sizes_or_refuses_them(name):
    _, model = small(name)
    x = example(model.settings, size=(101, 151))
    with torch.no_grad():
        if model.fixed_size:
            with pytest.raises(ValueError, match="input: expected 228×304 .* got 101×151"):
                model(x)
        else:
            coarse, refined = model(x)
            assert coarse.shape == refined.shape == (1, 1, *model.settings.refined_size)
            assert coarse.isfinite().all() and refined.isfinite().all()


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
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
