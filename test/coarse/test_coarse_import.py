# SPDX-License-Identifier: Apache-2.0
"""Folders of Hugging Face: what they say of their range, what is refused, and that no code runs."""

import json

import pytest
import torch

pytest.importorskip("transformers", reason="the extra huggingface is not installed")
import huggingface as tiny
from small_models import ALONE, plugged

from depth_two_stage import networks


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


def test_names_that_are_none_get_the_nearest():
    with pytest.raises(ValueError, match=r"or one of the shipped .*nearest models: fcrn50-rgb"):
        networks.plug(ALONE, "fcrn50-rbg")
    with pytest.raises(ValueError, match="nearest: scrx-rgb, scrxu-rgb, scrx-grey"):
        networks.architecture("SCRX")
    with pytest.raises(ValueError, match=r"network: expected .*, huggingface, got .hugging"):
        networks.build({"stage_one": {"name": "hugging"}, "stage_two": None})
