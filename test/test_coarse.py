# SPDX-License-Identifier: Apache-2.0
"""Stage one from a Hugging Face folder: the same answers, behind everything that takes weights."""

import json
import shutil
import socket

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra huggingface is not installed")

import huggingface as tiny

from depth_two_stage import cli, estimator, networks, recipes, runtimes, training
from depth_two_stage.camera import Camera
from depth_two_stage.networks import coarse, coarse_import
from depth_two_stage.networks.inputs import assemble

KINDS = list(tiny.PROCESSING)
ALONE = {"stage_two": None}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of each kind."""
    coarse.quiet_transformers()  # quiet from here on
    root = tmp_path_factory.mktemp("huggingface")
    return {kind: tiny.write(root / kind, kind) for kind in KINDS}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of Depth Anything's folder to spoil."""
    return shutil.copytree(folders["depth_anything"], tmp_path / "model")


@pytest.fixture(scope="module")
def weights(folders, tmp_path_factory):
    """A checkpoint that the command made of Depth Anything's folder."""
    path = tmp_path_factory.mktemp("plugged") / "anything.safetensors"
    with pytest.raises(SystemExit) as ended:
        cli.main(["plug", f"hf:{folders['depth_anything']}", "-o", str(path)])
    assert ended.value.code == 0
    return path


def plugged(source, base=ALONE):
    spec, state = networks.plug(base, str(source))
    model = networks.build(spec)
    model.stage_one.load_state_dict(state)
    return spec, model.eval()


def picture(size, seed=0):
    """An image uint8 (*size, 3) with structure in it."""
    small = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def theirs(folder, rgb):
    """Depth (H, W) m of an image by `transformers`' own steps: processor, model, processor."""
    pytest.importorskip("PIL", reason="transformers' image processors need Pillow")
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = model(**processor(images=rgb, return_tensors="pt"))
    assert outputs.predicted_depth.shape[-2:] == rgb.shape[:2]  # nothing was resized
    return outputs.predicted_depth[0].numpy()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


# --- The same answers -----------------------------------------------------------------------------


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


# --- In front of a stage two ----------------------------------------------------------------------


def test_a_stage_two_is_trained_on_it(folders):
    base = networks.architecture("two-stage-rgbd", 1 / 16)  # its sparse channel goes
    spec, model = plugged(folders["depth_anything"], base)
    assert spec["stage_two"] == base["stage_two"]
    settings = model.settings
    assert (settings.sparse_input, settings.refined_size) == ("none", (256, 256))
    assert (settings.input_size, settings.max_depth) == ((70, 98), 20.0)
    model.train()
    assert not any(part.training for part in model.stage_one.modules())
    coarse_depth, refined = model(torch.randn(2, 3, 70, 98))
    assert refined.shape == (2, 1, 256, 256) and not coarse_depth.requires_grad
    refined.square().mean().backward()
    assert all(p.grad is None for p in model.stage_one.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.stage_two.parameters())
    # Whoever asks for it trains it as well.
    model.stage_one.requires_grad_(True)
    model.train()
    assert model.stage_one.model.training


def test_a_recipe_trains_a_stage_two_behind_it(folders, tmp_path):
    """``plug: hf:FOLDER``: stage two learns, stage one stays, the file goes to the estimator."""
    for split, count in (("train", 2), ("val", 1)):
        for kind in ("rgb", "depth"):
            (tmp_path / split / kind).mkdir(parents=True)
        for index in range(count):
            depth = np.tile(np.linspace(1000, 4000, 640).astype(np.uint16), (480, 1))
            cv2.imwrite(str(tmp_path / split / "depth" / f"{index:04d}.png"), depth)
            cv2.imwrite(str(tmp_path / split / "rgb" / f"{index:04d}.jpg"), picture((480, 640)))
    folder = folders["depth_anything"]
    changes = {
        "model": "two-stage-rgb",
        "width": 1 / 32,
        "plug": f"hf:{folder}",
        "budget": 2,
        "precision": "fp32",
        "data.root": str(tmp_path),
        "data.validation_limit": 1,
        "stage_two.batch": 1,
    }
    run = training.Run(recipes.load("default", changes), tmp_path / "run")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    model, checkpoint = networks.load(run.train())
    assert checkpoint.facts["images"] == {"stage_one": 0, "stage_two": 2, "stage_three": 0}
    after = run.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("stage_two.") for name in moved)
    _, weights = networks.plug(ALONE, f"hf:{folder}")
    for name, value in model.stage_one.state_dict().items():
        assert torch.equal(value, weights[name].half().float()), name
    made = estimator.DepthEstimator(str(checkpoint.path), "cpu", "fp32", "torch", 1)
    found = made(picture((120, 160)), None, Camera(160, 120, 140.0, 140.0, 79.5, 59.5))
    assert found.depth.shape == (120, 160) and np.isfinite(found.depth).all()
    changes["model"] = "fcrn50-rgb"
    with pytest.raises(training.TrainingError, match=r"plug: expected something .* left to train"):
        training.Run(recipes.load("default", changes), tmp_path / "nothing")


def test_a_checkpoint_of_it_is_plugged_on(folders, weights):
    """From a folder to a file, from the file behind another network: the same stage one."""
    base = networks.architecture("two-stage-rgb", 1 / 16)
    (_, first), (spec, second) = (plugged(s, base) for s in (folders["depth_anything"], weights))
    assert spec["stage_one_source"]["file"] == "anything.safetensors"
    x = torch.randn(1, 3, 70, 98)
    with torch.no_grad():
        assert torch.equal(first.coarse(x), second.coarse(x))


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


def test_ranges(folder, folders):
    spec, _ = networks.plug(ALONE, f"hf:{folders['zoedepth']}")
    assert (spec["settings"]["min_depth"], spec["settings"]["max_depth"]) == (0.1, 10.0)
    tiny.rewrite(folder / "config.json", max_depth=1)
    spec, _ = networks.plug(ALONE, str(folder))  # the folder's path alone is enough
    assert (spec["settings"]["min_depth"], spec["settings"]["max_depth"]) == (0.01, 1.0)


def test_the_hub_is_asked_by_name_only(folders, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, **options):
        asked.append((name, options["revision"], sorted(options["allow_patterns"])))
        return str(folders["glpn"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    networks.plug(ALONE, f"hf:{folders['glpn']}")
    with pytest.raises(ValueError, match=r"hf: expected a folder .*hub:OWNER/NAME downloads"):
        networks.plug(ALONE, "hf:vinvino02/glpn-nyu")
    with pytest.raises(ValueError, match="weights: expected a file"):
        networks.plug(ALONE, "vinvino02/glpn-nyu")
    assert asked == []
    spec, _ = networks.plug(ALONE, "hub:vinvino02/glpn-nyu@abc")
    (name, revision, patterns) = asked[0]
    assert (name, revision) == ("vinvino02/glpn-nyu", "abc")
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in patterns)
    assert spec["stage_one_source"]["hub"] == name

    def unreachable(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ValueError, match=r"hub: expected a model to download, got 'a/b': no conn"):
        networks.plug(ALONE, "hub:a/b")


# --- What is refused ------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def spoil_tensor(folder, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


HEAD = "head.conv3.weight"
SPOILT = {
    "relative": (
        lambda f: tiny.rewrite(f / "config.json", depth_estimation_type="relative"),
        "expected depth_estimation_type 'metric' .*got 'relative': relative depth has neither",
    ),
    "another type": (
        lambda f: tiny.rewrite(f / "config.json", model_type="dpt"),
        "expected a model of metric depth, Depth Anything V2 metric .*got model_type 'dpt'",
    ),
    "no type": (
        lambda f: tiny.rewrite(f / "config.json", model_type=None),
        "expected a model of metric depth, .*got model_type None",
    ),
    "no range": (
        lambda f: tiny.rewrite(f / "config.json", max_depth=-20),
        "expected max_depth in metres, got -20",
    ),
    "wrong setting": (
        lambda f: tiny.rewrite(f / "config.json", fusion_hidden_size="wide"),
        # named by transformers 5, found while building before it
        "expected (settings of depth_anything, got .*fusion_hidden_size|weights of its config)",
    ),
    "no heads": (
        lambda f: tiny.rewrite(
            f / "config.json",
            backbone_config=json.loads((f / "config.json").read_text())["backbone_config"]
            | {"num_attention_heads": 0},
        ),
        "expected weights of its config, got ",
    ),
    "backbone by name": (
        lambda f: tiny.rewrite(f / "config.json", backbone="vit_tiny", use_timm_backbone=True),
        r"expected a backbone described by backbone_config, got .*\('vit_tiny'\)",
    ),
    "broken config": (
        lambda f: (f / "config.json").write_text("{"),
        "config.json: expected JSON",
    ),
    "list for config": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json: expected a mapping, got list",
    ),
    "no processing": (
        lambda f: (f / "preprocessor_config.json").unlink(),
        "expected the files of save_pretrained, got no preprocessor_config.json",
    ),
    "no mean": (
        lambda f: tiny.rewrite(f / "preprocessor_config.json", image_mean=None),
        "preprocessor_config.json: huggingface: expected image_mean of three numbers, got None",
    ),
    "no height": (
        lambda f: tiny.rewrite(f / "preprocessor_config.json", size={"width": 70}),
        r"preprocessor_config.json: size: expected height and width, got \{'width': 70\}",
    ),
    "no scale": (
        lambda f: tiny.rewrite(f / "preprocessor_config.json", rescale_factor=0),
        "preprocessor_config.json: rescale_factor: expected a positive number, got 0",
    ),
    "pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        r"expected model.safetensors \(pickles are not read\), got pytorch_model.bin",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "expected model.safetensors .*got no weights",
    ),
    "truncated": (
        lambda f: truncate(f / "model.safetensors"),
        "expected weights of its config, got ",
    ),
    "missing tensor": (
        lambda f: spoil_tensor(f, lambda tensors: tensors.pop(HEAD)),
        r"expected all weights of its config, got 1 missing \(head.conv3.weight\)",
    ),
    "another shape": (
        lambda f: spoil_tensor(f, lambda tensors: tensors.update({HEAD: torch.zeros(1, 9, 1, 1)})),
        r"expected all weights of its config, got 1 of another shape \(head.conv3.weight\)",
    ),
    "not finite": (
        lambda f: spoil_tensor(f, lambda tensors: tensors[HEAD].fill_(torch.nan)),
        "expected finite weights, got NaN or infinity in model.head.conv3.weight",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_refused(case, folder):
    spoil, message = SPOILT[case]
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        networks.plug(ALONE, f"hf:{folder}")


def test_a_model_that_decides_between_ranges_is_refused(tmp_path):
    bins = [
        {"n_bins": 8, "min_depth": 1e-3, "max_depth": high, "name": name}
        for name, high in (("nyu", 10.0), ("kitti", 80.0))
    ]
    tiny.write(tmp_path / "both", "zoedepth", bin_configurations=bins)
    with pytest.raises(ValueError, match=r"expected ZoeDepth of one data set, got .* of 2"):
        networks.plug(ALONE, f"hf:{tmp_path / 'both'}")


def test_no_code_of_a_folder_runs(folder, folders):
    """A class named by the folder and a pickle beside the weights: neither is touched."""
    mark = folder / "executed"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    (folder / "pytorch_model.bin").write_bytes(
        b"cbuiltins\nopen\n(V" + str(mark).encode() + b"\nVw\ntR."
    )
    names = ("AutoConfig", "AutoModelForDepthEstimation")
    tiny.rewrite(
        folder / "config.json",
        auto_map=dict.fromkeys(names, "evil.Evil"),
        attn_implementation="someone/kernels",
        _attn_implementation="someone/kernels",
    )
    spec, model = plugged(folder)
    assert not mark.exists()
    assert "auto_map" not in spec["stage_one"]["config"]
    x = torch.randn(1, 3, 70, 98)
    with torch.no_grad():
        assert torch.equal(model(x)[0], plugged(folders["depth_anything"])[1](x)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": [0.2, 0.0, 0.2]}, "expected positive std"),
        ({"mean": "grey"}, "expected mean of three numbers, got 'grey'"),
        ({"multiple": 0}, "expected multiple of at least 1, got 0"),
        ({"config": None}, "expected a model of metric depth, .*got model_type None"),
        ({"multiple": "many"}, "expected multiple of at least 1, got 'many'"),
        ({"depth": 3}, "network huggingface: expected its own settings, got .*'depth'"),
    ],
)
def test_a_header_of_another_kind_is_refused(change, message, folders, tmp_path):
    spec, model = plugged(folders["depth_anything"])
    spec["stage_one"].update(change)
    networks.save(tmp_path / "net", model, spec, {})
    with pytest.raises(networks.CheckpointError, match=message):
        networks.load(tmp_path / "net.safetensors")


def test_it_sees_colour_only(folders):
    spec, _ = plugged(folders["depth_anything"])
    spec["settings"]["sparse_input"] = "zeros"
    with pytest.raises(ValueError, match="expected sparse_input 'none', got 4 inputs"):
        networks.build(spec)


def test_without_the_package_it_says_how_to_get_it(weights, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"expected the package transformers \(pip install"):
        networks.load(str(weights))


def test_names_that_are_none_get_the_nearest():
    with pytest.raises(ValueError, match=r"or one of the shipped .*nearest models: fcrn50-rgb"):
        networks.plug(ALONE, "fcrn50-rbg")
    with pytest.raises(ValueError, match="nearest: scrx-rgb, scrxu-rgb, scrx-grey"):
        networks.architecture("SCRX")
    with pytest.raises(ValueError, match=r"network: expected .*, huggingface, got .hugging"):
        networks.build({"stage_one": {"name": "hugging"}, "stage_two": None})


# --- The command ----------------------------------------------------------------------------------


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
