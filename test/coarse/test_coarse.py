# SPDX-License-Identifier: Apache-2.0
"""Stage one from a Hugging Face folder: the same answers, behind everything that takes weights."""

import socket

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra huggingface is not installed")
import huggingface as tiny
from small_models import KINDS, picture, plugged, theirs

from depth_two_stage import estimator, networks, runtimes
from depth_two_stage.camera import Camera
from depth_two_stage.networks import coarse, coarse_import
from depth_two_stage.networks.inputs import assemble


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_transformers_does(kind, folders):
    rgb = picture(tiny.INPUT_SIZES[kind])
    spec, model = plugged(folders[kind])
    assert tuple(spec["settings"]["input_size"]) == model.settings.input_size == rgb.shape[:2]
    x = torch.from_numpy(assemble(rgb, None, "none", 2.8)[None])
    with torch.no_grad():
        found, refined = model(x)
    expected = theirs(folders[kind], rgb)
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found, refined)


def test_the_published_configuration_has_the_published_parameters():
    """config.json of Depth Anything V2 Metric Indoor Small: 24.8 M parameters (its page)."""
    config = {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "_commit_hash": None,
        "backbone": None,
        "backbone_config": {
            "architectures": ["Dinov2Model"],
            "hidden_size": 384,
            "image_size": 518,
            "model_type": "dinov2",
            "num_attention_heads": 6,
            "out_features": ["stage3", "stage6", "stage9", "stage12"],
            "out_indices": [3, 6, 9, 12],
            "patch_size": 14,
            "reshape_hidden_states": False,
            "torch_dtype": "float32",
        },
        "depth_estimation_type": "metric",
        "fusion_hidden_size": 64,
        "head_hidden_size": 32,
        "head_in_index": -1,
        "initializer_range": 0.02,
        "max_depth": 20,
        "model_type": "depth_anything",
        "neck_hidden_sizes": [48, 96, 192, 384],
        "patch_size": 14,
        "reassemble_factors": [4, 2, 1, 0.5],
        "reassemble_hidden_size": 384,
        "torch_dtype": "float32",
        "transformers_version": "4.44.0.dev0",
        "use_pretrained_backbone": False,
    }
    with torch.device("meta"):
        model = coarse.HuggingFaceDepth(config, [0.5] * 3, [0.5] * 3, 14)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(24.8e6, rel=2e-3)


def test_a_batch_and_an_odd_size(folders):
    _, model = plugged(folders["depth_anything"])
    x = torch.randn(2, 3, 101, 151, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.stage_one(x)
        assert found.shape == (2, 1, 98, 154)  # the nearest multiples of 14
        assert torch.allclose(found[1:], model.stage_one(x[1:]), atol=1e-4)
        assert model(x)[1].shape == (2, 1, 70, 98)


def test_the_estimator_answers_as_transformers_does(folders, weights):
    """The checkpoint that the command made, through the door that node and commands use."""
    rgb = picture((70, 98))
    made = estimator.DepthEstimator(str(weights), "cpu", "fp32", "torch", 1, anchor="none")
    focal = made.settings.focal
    assert focal == pytest.approx(70 * 886.81 / 768)  # Hypersim's camera
    found = made(rgb, None, Camera(98, 70, focal, focal, 48.5, 34.5))
    expected = theirs(folders["depth_anything"], rgb)
    np.testing.assert_allclose(found.depth, expected, rtol=1e-5, atol=1e-5)
    # A lens twice as long sees the same image of things twice as far.
    far = made(rgb, None, Camera(98, 70, 2 * focal, 2 * focal, 48.5, 34.5))
    np.testing.assert_allclose(far.depth, 2 * expected, rtol=1e-5, atol=1e-5)
    # Measured points set the scale.
    sparse = np.zeros((70, 98), np.float32)
    sparse[::5, ::5] = 0.5 * expected[::5, ::5]
    made.anchor = "scale"
    tied = made(rgb, sparse, Camera(98, 70, focal, focal, 48.5, 34.5))
    np.testing.assert_allclose(np.median(tied.depth / expected), 0.5, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_answer_alike(kind, engine, folders):
    if engine not in runtimes.installed():
        pytest.skip(f"{engine} is not installed")
    _, model = plugged(folders[kind])
    size = (70, 98) if kind == "depth_anything" else (96, 128)  # small: converting takes long
    x = assemble(picture(size), None, "none", 2.8)[None]
    with torch.inference_mode():
        expected = model(torch.from_numpy(x))[1][0, 0].numpy()
    found = runtimes.ENGINES[engine](model, x, "cpu", "fp32", 1)(x)[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_half_precision_is_near_and_the_file_alone_is_enough(folders, tmp_path, monkeypatch):
    spec, model = plugged(folders["depth_anything"])
    x = torch.randn(1, 3, 70, 98, generator=torch.Generator().manual_seed(0))
    networks.save(tmp_path / "half.safetensors", model, spec, {})
    networks.save(tmp_path / "exact.safetensors", model, spec, {}, half=False)

    def refuse(*_):
        raise AssertionError("expected no network, got a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with torch.no_grad():
        expected = model(x)[1]
        assert torch.equal(networks.load(tmp_path / "exact.safetensors")[0](x)[1], expected)
        half = networks.load(tmp_path / "half.safetensors")[0](x)[1]
    assert 0 < (half - expected).abs().max() < 0.05
    # Saved once more, it is the same.
    again, checkpoint = networks.load(tmp_path / "half.safetensors")
    networks.save(tmp_path / "twice", again, checkpoint.facts["architecture"], {})
    with torch.no_grad():
        assert torch.equal(networks.load(tmp_path / "twice")[0](x)[1], half)


# --- What a folder says ---------------------------------------------------------------------------


def test_the_published_processing_gives_the_published_size():
    """Depth Anything V2: 518 with the ratio kept, in steps of 14, makes 518×686 of 480×640."""
    content = tiny.PROCESSING["depth_anything"] | {"size": {"height": 518, "width": 518}}
    found = coarse_import.processing(content, 14)
    assert (found["input_size"], found["multiple"]) == ([518, 686], 14)
    content = {"size": {"shortest_edge": 384}, "do_normalize": False, "do_rescale": False}
    found = coarse_import.processing(content, 16)
    assert found["input_size"] == [384, 384] and found["mean"] == [0, 0, 0]
    assert found["std"] == pytest.approx([1 / 255] * 3)  # such a model wants 0…255
    assert coarse_import.processing({"size": 64, "image_mean": 0.5, "image_std": 0.5}, 1) == {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "multiple": 1,
        "input_size": [64, 64],
    }


@pytest.mark.parametrize(
    ("kind", "high", "focal"),
    [
        ("depth_anything", 80.0, 725.0087 * 518 / 375),  # Virtual KITTI 2
        ("zoedepth", 10.0, 518.86 * 518 / 480),  # NYU
        ("glpn", 33.0, 686 / 2 / np.tan(np.pi / 6)),  # not known: 60° wide
    ],
)
def test_focal_lengths_of_training(kind, high, focal):
    assert coarse_import.focal_length(kind, high, (518, 686))[0] == pytest.approx(focal)


def test_it_sees_colour_only(folders):
    spec, _ = plugged(folders["depth_anything"])
    spec["settings"]["sparse_input"] = "zeros"
    with pytest.raises(ValueError, match="expected sparse_input 'none', got 4 inputs"):
        networks.build(spec)


def test_without_the_package_it_says_how_to_get_it(weights, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"expected the package transformers \(pip install"):
        networks.load(str(weights))
