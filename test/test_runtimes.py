# SPDX-License-Identifier: Apache-2.0
"""Every installed engine against torch in fp32, and what happens when one is wrong or missing."""

import numpy as np
import pytest
import torch

from depth_two_stage import networks, runtimes

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "decoder": "upproj", "width": 0.125},
    "stage_two": {"name": "residual_generator", "widths": [4, 8, 8], "output": "residual"},
    "settings": {"sparse_input": "filled", "aligned": True},
}


@pytest.fixture(scope="module")
def model():
    """Return a narrow network with random weights whose two stages both matter."""
    torch.manual_seed(0)
    model = networks.build(SPEC).eval()
    with torch.no_grad():
        model.stage_one.predict.weight.normal_(std=0.05)
        model.stage_two.out.weight.normal_(std=0.02)
    return model


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 3, (1, 5, 228, 304)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", list(runtimes.ENGINES))
def test_engine_agrees_with_fp32(model, x, engine, precision):
    if engine not in runtimes.installed():
        pytest.skip(f"{engine} is not installed")
    if precision not in runtimes.RUNS[engine, "cpu"]:
        with pytest.raises(ValueError, match="precision: expected one of auto, fp32 with engine"):
            runtimes.start(model, x, engine, "cpu", precision)
        return
    chosen = runtimes.start(model, x, engine, "cpu", precision, threads=1)
    assert (chosen.name, chosen.device, chosen.precision) == (engine, "cpu", precision)
    with torch.inference_mode():
        expected = [y[0, 0].numpy() for y in model(torch.from_numpy(x))]
    other = x * np.float32(0.9)  # the answer depends on what is asked now, not on the first frame
    tolerance = 1e-4 if precision == "fp32" else runtimes.TOLERANCE
    answers = chosen(x)
    assert runtimes.difference(answers, expected) < tolerance
    assert runtimes.difference(chosen(other), answers) > 0.01
    assert runtimes.difference(answers, expected) < tolerance  # not overwritten by the second call
    assert all(y.shape == (256, 256) and y.dtype == np.float32 for y in answers)


def test_a_wrong_engine_falls_back_with_a_warning(model, x, monkeypatch):
    class Wrong(runtimes.TorchEngine):
        name = "openvino"

        def __call__(self, x):
            coarse, refined = super().__call__(x)
            return coarse, refined * np.float32(1.05)

    monkeypatch.setitem(runtimes.ENGINES, "openvino", Wrong)
    monkeypatch.setitem(runtimes.NEEDS, "openvino", ("torch",))
    with pytest.warns(RuntimeWarning, match=r"engine openvino: .* 5\.0%.*using torch in fp32"):
        chosen = runtimes.start(model, x, "auto", "cpu")
    assert (chosen.name, chosen.precision) == ("torch", "fp32")


def test_an_engine_that_answers_nan_falls_back(model, x, monkeypatch):
    class Broken(runtimes.TorchEngine):
        def __call__(self, x):
            return tuple(np.full_like(y, np.nan) for y in super().__call__(x))

    monkeypatch.setitem(runtimes.ENGINES, "openvino", Broken)
    monkeypatch.setitem(runtimes.NEEDS, "openvino", ("torch",))
    with pytest.warns(RuntimeWarning, match="using torch"):
        chosen = runtimes.start(model, x, "openvino", "cpu")
    assert np.isfinite(chosen(x)).all()


def test_an_engine_that_cannot_convert(model, x, monkeypatch):
    class Unable(runtimes.TorchEngine):
        def __init__(self, *arguments):
            raise RuntimeError("no such operation\nat line 3")

    monkeypatch.setitem(runtimes.ENGINES, "openvino", Unable)
    monkeypatch.setitem(runtimes.NEEDS, "openvino", ("torch",))
    with pytest.warns(RuntimeWarning, match=r"openvino: it cannot run .*\(no such operation\)"):
        assert runtimes.start(model, x, "auto", "cpu").name == "torch"
    with pytest.raises(ValueError, match="engine: openvino cannot run this network"):
        runtimes.start(model, x, "openvino", "cpu")


def test_openvino_is_the_default_on_cpu_only_when_installed(monkeypatch):
    monkeypatch.setattr(runtimes, "installed", lambda: ["torch", "openvino"])
    assert runtimes.pick("auto", "cpu", "auto") == ("openvino", "cpu")
    monkeypatch.setattr(runtimes, "installed", lambda: ["torch"])
    assert runtimes.pick("auto", "cpu", "auto") == ("torch", "cpu")
    with pytest.raises(ValueError, match=r"engine: expected one installed here \(torch\)"):
        runtimes.pick("openvino", "cpu", "auto")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt", "cpu", "auto"), "engine: expected one of auto, torch, .* got 'tensorrt'"),
        (("auto", "tpu", "auto"), "device: expected one of auto, cuda, cpu, got 'tpu'"),
        (("auto", "cpu", "int8"), "precision: expected one of auto, fp32, fp16, bf16, got 'int8'"),
        (("torch", "cpu", "fp16"), "precision: expected .* with engine torch on cpu, got 'fp16'"),
        (("onnxruntime", "cuda", "auto"), "device: expected cpu with engine onnxruntime"),
    ],
)
def test_what_cannot_be_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        runtimes.pick(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_that_is_absent_is_an_error_not_a_fallback():
    with pytest.raises(ValueError, match=r"device: .*no CUDA device"):
        runtimes.pick("auto", "cuda", "auto")


def test_threads():
    assert runtimes.cores(3) == 3 and runtimes.cores(0) >= 1
    with pytest.raises(ValueError, match="threads: expected 0"):
        runtimes.cores(-1)
    with pytest.raises(ValueError, match=r"threads: expected .* to 256, got 100000"):
        runtimes.cores(100_000)
