# SPDX-License-Identifier: Apache-2.0
"""``import-weights`` of torchvision's encoders."""

import pytest
import torch
from import_commands import imagenet, refused, run

from depth_two_stage import networks
from depth_two_stage.checkpoints import importing
from depth_two_stage.checkpoints.importing import import_weights


@pytest.mark.parametrize(
    ("file", "zipped"), [("net.pth", True), ("net.pth", False), ("net.safetensors", True)]
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16"])
def test_an_imagenet_encoder(capsys, tmp_path, file, zipped, name):
    state = imagenet(tmp_path / file, name, zipped=zipped)
    code, shown, err = run(capsys, "import-weights", tmp_path / file, "-o", tmp_path / "out")
    assert code == 0, err
    assert "2 dropped" in shown and "untrained" in shown
    model, checkpoint = networks.load(str(tmp_path / "out.safetensors"))
    found = model.stage_one.encoder.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    facts = checkpoint.facts["imported"]
    assert facts["model"] == importing.ENCODER_MODELS[name] and facts["published"] is None
    # Twice the same, the untrained layers too.
    again = tmp_path / "again.safetensors"
    import_weights(tmp_path / file, again)
    assert torch.equal(
        networks.load(str(again))[0].stage_one.predict.weight, model.stage_one.predict.weight
    )


@pytest.mark.parametrize("fourth", ["mean", "zero"])
def test_the_fourth_channel(tmp_path, fourth):
    state = imagenet(tmp_path / "net.pth")
    import_weights(tmp_path / "net.pth", tmp_path / "out", model="fcrn18-rgbd", fourth=fourth)
    model, _ = networks.load(str(tmp_path / "out.safetensors"))
    stem = model.stage_one.encoder.conv1.weight
    assert stem.shape[1] == 4 and torch.equal(stem[:, :3], state["conv1.weight"])
    wanted = state["conv1.weight"].mean(1) if fourth == "mean" else torch.zeros(8, 7, 7)
    torch.testing.assert_close(stem[:, 3], wanted)


def test_an_old_encoder_without_counters(tmp_path):
    def change(state):
        for name in [name for name in state if name.endswith("num_batches_tracked")]:
            del state[name]

    state = imagenet(tmp_path / "net.pth", change=change)
    import_weights(tmp_path / "net.pth", tmp_path / "out")
    found = networks.load(str(tmp_path / "out.safetensors"))[0].stage_one.encoder.state_dict()
    assert found.keys() == state.keys()


def test_encoders_that_do_not_fit(tmp_path):
    def change(state):
        del state["layer2.0.bn1.weight"]
        state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"][:, :3]
        state["attention.weight"] = torch.zeros(3)

    path = tmp_path / "net.pth"
    imagenet(path, change=change)
    text = refused(path, tmp_path)
    assert "1 missing: layer2.0.bn1.weight (16,)" in text
    assert "layer3.0.conv1.weight (expected (32, 16, 3, 3), got (32, 3, 3, 3))" in text
    assert "1 unknown: attention.weight" in text

    imagenet(path)
    text = refused(path, tmp_path, model="fcrn50-rgb")
    assert "model: expected one with the encoder resnet18, got fcrn50-rgb of resnet50" in text
    assert "nearest: fcrn18-rgb" in refused(path, tmp_path, model="fcrn18-rgp")
    assert "extra: expected one of mean, zero, got 'ones'" in refused(path, tmp_path, fourth="ones")
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, path)
    assert "got torchvision's (64-192-384-256-256)" in refused(path, tmp_path)
    torch.save({"patch_embed.weight": torch.zeros(64, 3, 16, 16)}, path)
    assert "expected torchvision's names" in refused(path, tmp_path)
