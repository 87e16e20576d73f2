# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a file alone rebuilds its model; everything else is refused in one line."""

import json
import pickle

import pytest
import torch

from depth_two_stage import networks
from depth_two_stage.networks import checkpoint

SPEC = {
    "stage_one": {"name": "fcrn", "encoder": "resnet18", "width": 1 / 16},
    "stage_two": {"name": "residual_generator", "widths": [4, 4, 4], "blocks": 9},
    "settings": {"sparse_input": "filled", "input_size": [64, 80], "mean_depth": 2.5},
}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = networks.build(SPEC).eval()
    networks.save(tmp_path / "net.safetensors", model, SPEC, {"seed": 3, "data_hash": "abc"})
    return model, tmp_path / "net.safetensors"


def test_load_rebuilds_the_model(saved):
    model, path = saved
    again, found = networks.load(path)
    assert again.settings == model.settings and not again.training
    assert found.facts["seed"] == 3 and found.name == "net" and len(found.checksum) == 16
    x = torch.randn(1, 5, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model.half().float()(x))
    assert json.loads(path.with_suffix(".json").read_text()) == found.facts


def test_a_renamed_file_loads_without_its_json(saved):
    _, path = saved
    moved = path.with_name("other.safetensors")
    path.rename(moved)
    path.with_suffix(".json").unlink()
    assert networks.load(str(moved))[1].facts["data_hash"] == "abc"


def test_large_files_are_cut_and_replaced(saved, monkeypatch):
    model, path = saved
    monkeypatch.setattr(checkpoint, "PART_BYTES", 20_000)
    networks.save(path, model, SPEC, {})
    parts = sorted(path.parent.glob("*.safetensors"))
    assert len(parts) > 2 and not path.exists()
    assert max(part.stat().st_size for part in parts) < 60_000
    whole, found = networks.load(path)
    assert networks.load(parts[1])[1].tensors.keys() == found.tensors.keys()
    assert found.name == networks.load(parts[1])[1].name == "net"
    torch.testing.assert_close(whole.state_dict(), model.half().float().state_dict())
    parts[-1].unlink()
    with pytest.raises(networks.CheckpointError, match="expected its part"):
        networks.load(path)
    monkeypatch.setattr(checkpoint, "PART_BYTES", 10**9)
    networks.save(path, model, SPEC, {})
    assert [part.name for part in path.parent.glob("*.safetensors")] == ["net.safetensors"]


class Evil:
    def __reduce__(self):
        return print, ("a pickle ran code",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_unread(tmp_path, capsys, zipped):
    file = tmp_path / "evil.safetensors"
    if zipped:
        torch.save({"w": Evil()}, file)
    else:
        file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(networks.CheckpointError, match="got a pickle, which is refused"):
        networks.load(file)
    assert "ran code" not in capsys.readouterr().out


def test_truncated_foreign_and_empty_files(saved, tmp_path):
    _, path = saved
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(networks.CheckpointError, match="expected a complete safetensors"):
            networks.load(path)
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(networks.CheckpointError, match="expected a checkpoint of this package"):
        networks.load(tmp_path / "foreign.safetensors")


def test_wrong_architectures(saved):
    model, path = saved
    state = model.state_dict()
    facts = {"architecture": SPEC}
    checkpoint.write_checkpoint(path, {**state, "more": torch.zeros(1)}, facts)
    with pytest.raises(networks.CheckpointError, match=r"1 unknown .more"):
        networks.load(path)
    name = next(iter(state))
    checkpoint.write_checkpoint(path, {**state, name: torch.zeros(2)}, facts)
    with pytest.raises(networks.CheckpointError, match=f"expected {name} of shape"):
        networks.load(path)
    checkpoint.write_checkpoint(path, state, {"architecture": {"stage_one": {"name": "x"}}})
    with pytest.raises(networks.CheckpointError, match="expected an architecture"):
        networks.load(path)
    checkpoint.write_checkpoint(path, state, {})
    with pytest.raises(networks.CheckpointError, match="expected an architecture"):
        networks.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"stage_one": None},
        {"stage_two": 5},
        {"settings": 5},
        {"settings": {"focal": 0}},
        {"settings": {"focal": "wide"}},
        {"settings": {"input_size": [10**6, 10**6]}},
        {"stage_one": {**SPEC["stage_one"], "width": 1e9}},
    ],
)
def test_a_spoilt_header_is_refused(saved, change):
    model, path = saved
    spec = {"architecture": {**SPEC, **change}}
    checkpoint.write_checkpoint(path, model.state_dict(), spec)
    with pytest.raises(networks.CheckpointError, match="expected an architecture"):
        networks.load(path)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("[1]", "expected a checkpoint of this package"),
        ('{"format": "depth_two_stage/1", "parts": 5}', "expected file names as its parts, got 5"),
        ('{"format": "depth_two_stage/1", "parts": []}', "expected file names as its parts"),
        ('{"format": "depth_two_stage/1", "parts": ["../a", "b"]}', "expected file names"),
        ('{"format": "depth_two_stage/1"}', "expected an architecture"),
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path, header, says):
    from safetensors.torch import save_file

    path = tmp_path / "net.safetensors"
    save_file({"w": torch.zeros(3)}, path, {"depth_two_stage": header})
    with pytest.raises(networks.CheckpointError, match=says):
        networks.load(path)


def test_weights_that_are_no_numbers_are_refused(saved):
    model, path = saved
    state = model.state_dict()
    name = next(iter(state))
    broken = {**state, name: torch.full_like(state[name], float("nan"))}
    checkpoint.write_checkpoint(path, broken, {"architecture": SPEC})
    with pytest.raises(networks.CheckpointError, match=f"got NaN or infinity in {name}"):
        networks.load(path)


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(networks.CheckpointError, match="does not exist"):
        networks.load(tmp_path / "none.safetensors")
    with pytest.raises(networks.CheckpointError, match="one of the shipped"):
        networks.load("no-such-weights")
    with pytest.raises(networks.CheckpointError, match="expected a readable file"):
        networks.load(tmp_path)
