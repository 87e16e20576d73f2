# SPDX-License-Identifier: Apache-2.0
"""ImageNet files into the encoders, whatever the number of their inputs."""

import copy
import hashlib
import json

import pytest
import torch
from imagenet_layouts import LAYOUTS, alexnet_layout, same, weights, without_classifier
from safetensors.torch import save_file

from depth_two_stage import networks
from depth_two_stage.networks import encoders, pretrained


@pytest.fixture(scope="module")
def resnet18():
    return weights(LAYOUTS["resnet18"][0])


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_torchvisions_files_load_with_every_name(name, tmp_path):
    shapes, entries = LAYOUTS[name]
    assert len(shapes) == entries
    state = weights(shapes)
    save_file(state, tmp_path / "imagenet.safetensors")
    encoder = encoders.encoder(name)
    facts = encoders.load_encoder(encoder, tmp_path / "imagenet.safetensors")
    assert same(encoder, without_classifier(state))
    content = (tmp_path / "imagenet.safetensors").read_bytes()
    assert facts == {
        "file": "imagenet.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "extra": "mean",
        "grey": "sum",
    }
    json.dumps(facts)  # it goes into a checkpoint's header


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "of before 1.6"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pth_files_of_both_formats_load_bare_or_wrapped(resnet18, tmp_path, zipped, wrapper):
    path = tmp_path / "resnet18.pth"
    content = resnet18 if wrapper is None else {wrapper: resnet18, "epoch": 90}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    encoder = encoders.encoder("resnet18")
    encoders.load_encoder(encoder, path)
    assert same(encoder, without_classifier(resnet18))


def test_parallel_modules_half_precision_and_old_files_without_counters_load(resnet18, tmp_path):
    state = {
        f"module.{name}": value.half()
        for name, value in resnet18.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(state, tmp_path / "old.pth")
    encoder = encoders.encoder("resnet18")
    encoders.load_encoder(encoder, tmp_path / "old.pth")
    found = encoder.state_dict()
    assert found["layer4.1.bn2.running_var"].dtype == torch.float32
    assert torch.equal(found["conv1.weight"], resnet18["conv1.weight"].half().float())
    assert found["bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("model", "layout"),
    [("fcrn18-rgb", "resnet18"), ("two-stage-rgbd-18", "resnet18"), ("vgg-upconv", "vgg16")],
)
def test_the_encoder_of_a_whole_network_is_found_and_nothing_else_changes(model, layout, tmp_path):
    state = weights(LAYOUTS[layout][0])
    torch.save(state, tmp_path / "weights.pth")
    model = networks.build(model)
    before = copy.deepcopy(model.state_dict())
    networks.load_encoder(model, tmp_path / "weights.pth", "zero")
    stem = next(iter(state))
    for name, value in model.state_dict().items():
        inner = name.removeprefix("stage_one.encoder.")
        if inner == stem:
            assert torch.equal(value[:, :3], state[stem]) and not value[:, 3:].any()
        else:
            expected = before[name] if inner == name else state[inner]
            assert torch.equal(value, expected), name


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_does_not_run(tmp_path, zipped, resnet18):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return open, (str(marker), "w")

    path = tmp_path / "evil.pth"
    torch.save({**resnet18, "x": Evil()}, path, _use_new_zipfile_serialization=zipped)
    encoder = encoders.encoder("resnet18", 3, 1 / 8)
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(networks.CheckpointError, match=r"evil.pth: expected tensors alone"):
        encoders.load_encoder(encoder, path)
    assert not marker.exists() and same(encoder, before)


def broken_files(folder, state):
    """Files that are no weights, and what is said of each."""
    torch.save(state, folder / "whole.pth")
    save_file(state, folder / "whole.safetensors")
    for name in ("whole.pth", "whole.safetensors"):
        content = (folder / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(content[: len(content) // 2])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("weights")
    (folder / "folder.pth").mkdir()
    torch.save([torch.ones(2)], folder / "list.pth")
    torch.save({}, folder / "nothing.pth")
    torch.save({"conv1.weight": 3}, folder / "number.pth")
    torch.save({1: torch.ones(2)}, folder / "nameless.pth")
    torch.save({**state, "bn1.bias": torch.full((8,), float("nan"))}, folder / "nan.pth")
    return {
        "cut-whole.pth": "expected a complete .pth file",
        "cut-whole.safetensors": "expected a complete .safetensors or .pth file",
        "empty.pth": "expected a complete .safetensors or .pth file",
        "text.pth": "expected a complete .safetensors or .pth file",
        "folder.pth": "expected a readable file, got Is a directory",
        "missing.pth": "expected a readable file, got No such file",
        "list.pth": "expected a state dict, got list",
        "nothing.pth": "expected a state dict, got dict without entries",
        "number.pth": "expected tensors by name, got int for 'conv1.weight'",
        "nameless.pth": "expected tensors by name, got Tensor for 1",
        "nan.pth": "expected finite weights, got NaN or infinity in bn1.bias",
    }


def test_damaged_and_foreign_files_are_named(tmp_path):
    encoder = encoders.encoder("resnet18", 3, 1 / 8)
    before = copy.deepcopy(encoder.state_dict())
    for name, message in broken_files(tmp_path, before).items():
        with pytest.raises(networks.CheckpointError) as caught:
            encoders.load_encoder(encoder, tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}"), name
        assert "\n" not in str(caught.value)
    assert same(encoder, before)


# --- what does not fit ---------------------------------------------------------------------------


def refused(encoder, state, **options):
    """The message of a refusal, after which the encoder is as it was."""
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(ValueError, match="expected") as caught:
        encoders.load_imagenet(encoder, state, **options)
    assert same(encoder, before)
    return str(caught.value)


def test_missing_unknown_and_misshapen_names_are_listed_before_the_first_copy(resnet18):
    state = dict(resnet18)
    for name in ("layer4.1.conv2.weight", "bn1.bias"):
        del state[name]
    state["layer5.0.conv1.weight"] = torch.ones(1)
    state["layer2.0.bn1.weight"] = torch.ones(5)
    state["layer1.0.conv1.weight"] = torch.ones(64, 64, 3, 3, dtype=torch.uint8)
    message = refused(encoders.encoder("resnet18"), state, source="resnet18.pth")
    assert message == (
        "resnet18.pth: expected torchvision's names and shapes for ResNet of width 1, got "
        "2 missing (bn1.bias, layer4.1.conv2.weight); 1 unknown (layer5.0.conv1.weight); "
        "1 of another shape (layer2.0.bn1.weight: expected shape (128,), got (5,)); "
        "1 of another kind of number (layer1.0.conv1.weight: expected torch.float32, "
        "got torch.uint8)"
    )


def test_long_lists_show_ten_names_and_a_count(resnet18):
    message = refused(encoders.encoder("resnet50"), resnet18)
    assert "missing (" in message and "of another shape (" in message
    missing = message.split("missing (")[1].split(")")[0]
    assert missing.count(",") == 10 and missing.rsplit(", ", 1)[1].startswith("and ")
    count = int(message.split("got ")[1].split(" missing")[0])
    assert missing.endswith(f"and {count - 10} more")


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_widths_are_refused_with_the_reason(name):
    message = refused(encoders.encoder(name, 3, 0.5), weights(LAYOUTS[name][0]))
    assert "width 0.5" in message and "the files fit the published width, 1, alone" in message


def test_torchvisions_alexnet_is_refused_with_the_reason_and_e_s_own_loads():
    encoder = encoders.encoder("alexnet", 4)
    message = refused(encoder, weights(alexnet_layout()))
    assert "features.0.weight: expected shape (96, 4, 11, 11), got (64, 4, 11, 11)" in message
    assert "96-256-384-384-256" in message and "64-192-384-256-256" in message
    state = weights(alexnet_layout((96, 256, 384, 384, 256)))
    encoders.load_imagenet(encoder, state)
    found = encoder.state_dict()
    assert torch.equal(found["features.0.weight"][:, :3], state["features.0.weight"])
    assert torch.equal(found["features.10.bias"], state["features.10.bias"])


def test_a_network_without_encoder_is_refused(tmp_path):
    for name in ("cnn", "scrx-rgb", "single-cgan-rgb"):
        model = networks.build(networks.architecture(name, 1 / 8))
        with pytest.raises(ValueError, match="model: expected a network with one of the encoders"):
            networks.load_encoder(model, tmp_path / "never-opened.pth")


def test_the_classifier_of_another_net_is_no_excuse(resnet18):
    # Only what begins with fc. or classifier. is dropped: fc1 is unknown.
    assert "1 unknown (fc1.weight)" in refused(
        encoders.encoder("resnet18"), {**resnet18, "fc1.weight": torch.ones(1)}
    )


# --- the stem ------------------------------------------------------------------------------------

RGB = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)


# Kernel 0, upper left: 0, 4, 8 for red, green, blue: sum 12, mean 4; kernel 1: 12, 16, 20.


@pytest.mark.parametrize(
    ("channels", "options", "first", "second"),
    [
        (1, {}, [12], [48]),
        (1, {"grey": "mean"}, [4], [16]),
        (2, {}, [12, 4], [48, 16]),
        (2, {"grey": "mean", "extra": "zero"}, [4, 0], [16, 0]),
        (3, {"extra": "zero"}, [0, 4, 8], [12, 16, 20]),
        (4, {}, [0, 4, 8, 4], [12, 16, 20, 16]),
        (4, {"extra": "zero"}, [0, 4, 8, 0], [12, 16, 20, 0]),
        (5, {}, [0, 4, 8, 4, 4], [12, 16, 20, 16, 16]),
        (5, {"extra": "zero"}, [0, 4, 8, 0, 0], [12, 16, 20, 0, 0]),
        (7, {}, [0, 4, 8, 4, 4, 4, 4], [12, 16, 20, 16, 16, 16, 16]),
    ],
)
def test_the_first_kernel_for_any_number_of_inputs_by_hand(channels, options, first, second):
    stem = pretrained.fit_stem(RGB, channels, **options)
    assert stem.shape == (2, channels, 2, 2)
    assert stem[:, :, 0, 0].tolist() == [first, second]


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("extra", ["mean", "zero"])
def test_stems_of_every_input_load(name, channels, extra):
    state = weights(LAYOUTS[name][0])
    encoder = encoders.encoder(name, channels)
    encoders.load_imagenet(encoder, state, extra)
    stem, rgb = next(iter(encoder.state_dict().values())), next(iter(state.values()))
    if channels == 1:
        torch.testing.assert_close(stem[:, 0], rgb[:, 0] + rgb[:, 1] + rgb[:, 2])
        return
    assert torch.equal(stem[:, :3], rgb)
    more = (
        (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3 if extra == "mean" else torch.zeros_like(rgb[:, 0])
    )
    for channel in range(3, channels):
        torch.testing.assert_close(stem[:, channel], more)


def test_a_grey_picture_is_answered_as_its_three_equal_channels_were(resnet18):
    colour, grey = encoders.encoder("resnet18", 3), encoders.encoder("resnet18", 1)
    for encoder in (colour, grey):
        encoders.load_imagenet(encoder, resnet18)
        encoder.eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_a_file_of_the_same_four_inputs_is_copied_and_another_number_is_refused(resnet18):
    four = {**resnet18, "conv1.weight": torch.rand(64, 4, 7, 7)}
    encoder = encoders.encoder("resnet18", 4)
    encoders.load_imagenet(encoder, four)
    assert torch.equal(encoder.conv1.weight, four["conv1.weight"])
    assert "conv1.weight: expected shape (64, 5, 7, 7), got (64, 4, 7, 7)" in refused(
        encoders.encoder("resnet18", 5), four
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra": "random"}, "extra: expected one of mean, zero, got 'random'"),
        ({"grey": "max"}, "grey: expected one of sum, mean, got 'max'"),
    ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_wrong_settings_are_named(resnet18, options, message, channels):
    assert refused(encoders.encoder("resnet18", channels), resnet18, **options) == message
