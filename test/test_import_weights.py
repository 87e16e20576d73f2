# SPDX-License-Identifier: Apache-2.0
"""``import-weights`` as a user meets it: what fits, what does not, what is remembered."""

import hashlib
import json
import re
import signal
import subprocess
import sys

import authors_files
import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from depth_two_stage import cli, networks
from depth_two_stage.checkpoints import importing, layouts
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.checkpoints.restricted import CheckpointFileError
from depth_two_stage.networks.encoders import ResNet

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")


@pytest.fixture
def npy(tmp_path):
    """Write the .npy of a small network after a change: path."""

    def write(change=lambda layers: None, unit=2):
        layers = authors_files.fcrn_arrays(unit)
        change(layers)
        path = tmp_path / "NYU_ResNet-UpProj.npy"
        np.save(path, layers, allow_pickle=True)
        return path

    return write


@pytest.fixture
def best(tmp_path):
    """Write a model_best.pth.tar after a change of the module: path."""

    def write(
        change=lambda net: None, encoder="resnet18", decoder="upproj", modality="rgbd", **more
    ):
        path = tmp_path / "model_best.pth.tar"
        with authors_files.authors_modules() as classes:
            net = authors_files.sparse_to_dense(classes, encoder, decoder, len(modality), 4)
            change(net)
            authors_files.save_sparse_to_dense(path, net, classes, modality=modality, **more)
        return path

    return write


def run(capsys, *arguments):
    """Run a command in this process: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(map(str, arguments)))
    shown = capsys.readouterr()
    return left.value.code, shown.out, shown.err


def words(shown):
    """A table's text without its lines, as one line."""
    return " ".join(re.sub(r"[^ -~]", " ", shown).split())


# Counts of the published files -----------------------------------------------------------------


def full_size(layout):
    with torch.device("meta"):
        return networks.build(layout.spec).state_dict()


def test_the_released_network_has_the_published_counts():
    layout = layouts.fcrn({})
    state = full_size(layout)
    layers = {name.split("/")[0] for name in layout.names}
    kernels = [name for name in layout.names if name.endswith("/weights")]
    assert len(layers) == 157 and len(kernels) == 91 and len(layers) - len(kernels) == 66
    assert len(layout.names) == 394
    assert sum(name.endswith("/biases") for name in layout.names) == 39
    assert sum(state[ours].numel() for ours in layout.names.values()) == 63_633_665
    # Nothing of our network is left without a name, but for the counters of batches.
    left = state.keys() - set(layout.names.values())
    assert len(left) == 66 and all(name.endswith("num_batches_tracked") for name in left)
    assert tuple(state["stage_one.encoder.conv1.weight"].shape) == (64, 3, 7, 7)


def test_sparse_to_dense_has_the_published_counts():
    shapes = {
        "conv1.weight": (64, 4, 7, 7),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.conv3.weight": (256, 64, 1, 1),
        "decoder.layer1.upper_branch.conv1.weight": (512, 1024, 5, 5),
    }
    layout = layouts.sparse_to_dense({n: np.empty(s, "f4") for n, s in shapes.items()}, {})
    state = full_size(layout)
    assert len(layout.names) == 397 and state.keys() == set(layout.names.values())
    assert sum(not name.endswith("num_batches_tracked") for name in layout.names) == 331
    with torch.device("meta"):
        parameters = networks.build(layout.spec).parameters()
    assert sum(value.numel() for value in parameters) == 63_566_144


# The command -----------------------------------------------------------------------------------


def test_the_released_weights_by_command(capsys, npy, tmp_path):
    path, out, report = npy(), tmp_path / "fcrn", tmp_path / "summary.json"
    url = "https://example.org/NYU_ResNet-UpProj.npy"
    code, shown, err = run(
        capsys, "import-weights", path, "--source", url, "-o", out, "--json", report
    )
    assert code == 0 and not err
    written = tmp_path / "fcrn.safetensors"
    check = f"evaluate nyu --root DIR --split test --protocol E --sparse none --weights {written}"
    assert f"depth-two-stage {check}" in shown
    for wanted in ("394 all found", "rel 0.127, rms 0.573, log10 0.055", "fcrn-npy"):
        assert wanted in words(shown), shown
    # What the checkpoint remembers.
    model, checkpoint = networks.load(str(written))
    facts = checkpoint.facts["imported"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["sha256"] == digest and facts["files"] == {path.name: digest}
    assert facts["source"] == url and facts["layout"] == "fcrn-npy"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["date"])
    assert facts["published"] == "NYU, 654 test images: rel 0.127, rms 0.573, log10 0.055"
    assert facts["tensors"] == 394 and facts["ignored"] == 0
    summary = json.loads(report.read_text())
    assert summary.items() >= facts.items() and summary["output"] == str(written)
    # It is one file, in full precision, that rebuilds the model by itself.
    assert {p.name for p in tmp_path.glob("fcrn*")} == {"fcrn.safetensors", "fcrn.json"}
    assert all(v.dtype in (torch.float32, torch.int64) for v in checkpoint.tensors.values())
    assert model.settings.colour == "bytes" and model.settings.refined_size == (128, 160)


def test_sparse_to_dense_by_command(capsys, best, tmp_path):
    path, out = best(encoder="resnet50"), tmp_path / "out.safetensors"
    code, shown, _ = run(capsys, "import-weights", path, "-o", out)
    assert code == 0
    check = (
        "evaluate nyu --root DIR --split test --protocol centre --sparse bernoulli:200 "
        f"--anchor none --weights {out}"
    )
    assert f"depth-two-stage {check}" in shown
    shown = words(shown)
    assert "RMSE 0.237 m, REL 0.048, delta1 0.970" in shown and "331 all found" in shown
    model, checkpoint = networks.load(str(out))
    assert checkpoint.facts["imported"]["training"]["best_result"]["rmse"] == 0.237
    assert model.settings.sparse_input == "zeros" and model.settings.corners
    # E's fast form is what runs.
    assert "stage_one.decoder.0.upper.0.conv_a.weight" in checkpoint.tensors


def test_a_checkpoint_of_kitti_takes_its_frame(best, tmp_path):
    def wide(net):
        net.output_size = (228, 912)

    import_weights(best(wide), tmp_path / "out")
    model, _ = networks.load(str(tmp_path / "out.safetensors"))
    assert model.settings.input_size == model.settings.refined_size == (228, 912)
    assert model.settings.max_depth == 100 and model.settings.focal == pytest.approx(721.5)


def test_it_predicts_evaluates_and_is_a_stage_one(capsys, npy, best, tmp_path, nyu_folder):
    out = tmp_path / "net.safetensors"
    picture = next((nyu_folder / "val" / "rgb").iterdir())
    for path, sparse in ((npy(), "none"), (best(modality="d"), "bernoulli:200")):
        assert run(capsys, "import-weights", path, "-o", out)[0] == 0
        engine = ("--engine", "torch", "--device", "cpu")
        code, _, err = run(
            capsys, "predict", picture, "-o", tmp_path / "p", "--weights", out, *engine
        )
        assert code == 0, err
        report = tmp_path / "report.json"
        code, _, err = run(
            capsys,
            *("evaluate", "nyu", "--root", nyu_folder, "--sparse", sparse, "--weights", out),
            *("--anchor", "none", "--json", report, *engine),
        )
        assert code == 0, err
        assert json.loads(report.read_text())["results"][sparse]["refined"]["images"] > 0
    spec, weights = networks.plug(networks.architecture("two-stage-rgbd-18", 0.125), str(out))
    plugged = networks.build(spec)
    plugged.stage_one.load_state_dict(weights)
    assert plugged.settings.colour == "unit" and plugged.stage_two is not None
    # Another stage one takes its own colours along.
    spec, _ = networks.plug(spec, "fcrn18-rgb", 0.125)
    settings = networks.build(spec).settings
    assert settings.colour == "imagenet" and not settings.corners


@pytest.fixture
def nyu_folder(tmp_path):
    """Two frames of 480×640 in the folder layout."""
    rng = np.random.default_rng(0)
    root = tmp_path / "nyu"
    for kind in ("rgb", "depth"):
        (root / "val" / kind).mkdir(parents=True)
    for number in range(2):
        small = rng.integers(0, 255, (15, 20, 3), np.uint8)
        rgb = cv2.resize(small, (640, 480), interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(root / "val" / "rgb" / f"{number:04d}.jpg"), rgb)
        depth = np.full((480, 640), 2500 + 100 * number, np.uint16)
        cv2.imwrite(str(root / "val" / "depth" / f"{number:04d}.png"), depth)
    return root


def test_variances_beyond_fp16_stay_when_a_half_file_is_written(npy, tmp_path):
    def change(layers):
        layers["bn_conv1"]["variance"][:] = 1e5

    import_weights(npy(change), tmp_path / "net")
    model, checkpoint = networks.load(str(tmp_path / "net.safetensors"))
    networks.save(tmp_path / "half.safetensors", model, checkpoint.facts["architecture"], {})
    again, half = networks.load(str(tmp_path / "half.safetensors"))
    assert again.stage_one.encoder.bn1.running_var.tolist() == [1e5, 1e5]
    kinds = {name: value.dtype for name, value in half.tensors.items()}
    assert kinds["stage_one.encoder.bn1.running_var"] == torch.float32
    assert kinds["stage_one.encoder.conv1.weight"] == torch.float16


# What does not fit -----------------------------------------------------------------------------


def refused(path, tmp_path, **options):
    """The error of an import, after which nothing is written and an older file stands."""
    out = tmp_path / "kept.safetensors"
    out.write_bytes(b"the file before")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointFileError) as error:
        import_weights(path, out, **options)
    assert out.read_bytes() == b"the file before" and sorted(tmp_path.iterdir()) == before
    assert str(error.value).startswith(str(path))
    return str(error.value)


def test_all_that_does_not_fit_is_listed(npy, tmp_path):
    def change(layers):
        del layers["layer2x_br1_ConvB"], layers["bn3d_branch2c"]["variance"]
        layers["conv1"]["weights"] = layers["conv1"]["weights"][:5]
        layers["ConvPred"]["biases"] = np.zeros(2, np.float32)
        layers["bn2a_branch1"]["mean"][:] = np.nan
        layers["bn2a_branch1"]["variance"][0] = -1
        layers["layer1"]["biases"] = layers["layer1"]["biases"].astype(int)

    text = refused(npy(change), tmp_path)
    assert "expected the 394 tensors of FCRN" in text and "got 386 of them" in text
    assert (
        "3 missing: bn3d_branch2c/variance (16,), layer2x_br1_ConvB/weights (2, 3, 32, 16), "
        "layer2x_br1_ConvB/biases (16,)"
    ) in text
    assert "5 of another shape or type: " in text
    assert "conv1/weights (expected (7, 7, 3, 2), got (5, 7, 3, 2))" in text
    assert "ConvPred/biases (expected (1,), got (2,))" in text
    assert "bn2a_branch1/mean (expected finite values, got NaN or infinity)" in text
    assert "bn2a_branch1/variance (expected variances, got -1.0)" in text
    assert "layer1/biases (expected floating point, got int64)" in text


def test_names_nobody_asks_for_are_ignored_with_a_count(npy, tmp_path, capsys):
    def change(layers):
        layers["fc1000"] = {"weights": np.zeros((2, 3), np.float32), "biases": np.zeros(3, "f4")}

    code, shown, _ = run(capsys, "import-weights", npy(change), "-o", tmp_path / "out")
    assert code == 0 and "394 all found, 2 ignored" in shown
    _, checkpoint = networks.load(str(tmp_path / "out.safetensors"))
    assert checkpoint.facts["imported"]["ignored"] == 2


def test_b_and_c_swapped_is_an_error(npy, tmp_path):
    def change(layers):
        b, c = "layer4x_br2_ConvB", "layer4x_br2_ConvC"
        layers[b], layers[c] = layers[c], layers[b]

    text = refused(npy(change), tmp_path)
    assert "layer4x_br2_ConvB/weights (expected (2, 3, 16, 8), got (3, 2, 16, 8))" in text


def test_another_architecture_is_an_error(npy, best, tmp_path):
    def other(layers):
        kept = layers.pop("conv1")
        layers.clear()
        layers["vgg_conv1"] = kept

    text = refused(npy(other), tmp_path)
    assert "got 0 of them; 394 missing: conv1/weights" in text and "ConvPred/biases" in text

    def deeper(net):
        net.layer1.append(net.layer1[1])

    text = refused(best(deeper), tmp_path)
    assert "unknown: layer1.2.conv1.weight" in text
    text = refused(best(lambda net: delattr(net, "decoder")), tmp_path)
    assert "decoder: expected one of upproj, upconv, deconv2, deconv3" in text

    def resnet34(net):
        for layer, count in zip(
            (net.layer1, net.layer2, net.layer3, net.layer4), (3, 4, 6, 3), strict=True
        ):
            while len(layer) < count:
                layer.append(layer[-1])

    assert "expected ResNet-18 or ResNet-50, got ResNet-34" in refused(best(resnet34), tmp_path)

    def two_channels(net):
        net.conv1 = torch.nn.Conv2d(2, 2, 7, 2, 3, bias=False)

    text = refused(best(two_channels), tmp_path)
    assert "expected the channels of d, rgb or rgbd (1, 3, 4), got 2" in text
    assert "got 1 g" in refused(best(modality="g"), tmp_path)

    def biased(net):
        net.conv3.bias = torch.nn.Parameter(torch.zeros(1))

    assert "1 unknown: conv3.bias" in refused(best(biased), tmp_path)


def test_errors_are_one_line(capsys, npy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = npy(lambda layers: layers.pop("layer1"))
    good = tmp_path / "good.npy"
    np.save(good, authors_files.fcrn_arrays(2), allow_pickle=True)
    for arguments, wanted in (
        ((broken, "-o", "out"), "2 missing: layer1/weights"),
        (("nothing.npy", "-o", "out"), "nothing.npy: expected a file"),
        ((good, "-o", "out", "--layout", "caffe"), "layout: expected one of auto"),
        ((good, "-o", "out", "--model", "fcrn50-rgb"), "model: expected none"),
        ((good,), "Missing option"),
        ((good, "-o", tmp_path), "expected a writable file, got a folder"),
        ((good, "-o", good / "out"), "expected a writable file, got Not a directory"),
        ((good, "-o", "out", "--json", good / "out"), "expected a writable file"),
    ):
        code, _, err = run(capsys, "import-weights", *arguments)
        assert code not in (0, None) and len(err.strip().splitlines()) == 1
        assert wanted in err
    assert not list(tmp_path.glob("*.safetensors"))


# Interrupted -----------------------------------------------------------------------------------

# The import stops where half of the file is on the disk, says so and waits.
HALF = """
import sys, time
import depth_two_stage.networks.checkpoint as checkpoint
from contextlib import contextmanager
real = checkpoint.atomic_write
@contextmanager
def slow(path, mode="wb"):
    with real(path, mode) as stream:
        class Stream:
            def write(self, data):
                stream.write(data[: len(data) // 2]); stream.flush()
                print("half", flush=True)
                time.sleep(600)
        yield Stream()
checkpoint.atomic_write = slow
from depth_two_stage import cli
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("how", "before"),
    [
        (signal.SIGKILL, False),
        (signal.SIGKILL, True),
        (signal.SIGTERM, True),
        (signal.SIGINT, False),
    ],
)
def test_an_interrupted_import_leaves_no_half_file(npy, tmp_path, how, before):
    path, folder = npy(), tmp_path / "results"
    folder.mkdir()
    out = folder / "net.safetensors"
    if before:
        import_weights(path, out)
    old = {p.name: p.read_bytes() for p in folder.iterdir()}
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, "import-weights", str(path), "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "half"
    assert len(list(folder.iterdir())) == len(old) + 1  # half of it, under another name
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    left = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {name: data for name, data in left.items() if not name.startswith(".")} == old
    if how != signal.SIGKILL:  # which no process sees
        assert left == old and "Traceback" not in err
    # The next import clears up and goes through.
    import_weights(path, out)
    assert {p.name for p in folder.iterdir()} == {"net.safetensors", "net.json"}
    networks.load(str(out))


def test_the_imported_file_is_not_written_over(tmp_path):
    encoder = ResNet("resnet18", width=0.125)
    path = tmp_path / "encoder.safetensors"
    safetensors.torch.save_file(encoder.state_dict(), path)
    content = path.read_bytes()
    with pytest.raises(CheckpointFileError, match="expected another file than the imported one"):
        import_weights(path, path)
    assert path.read_bytes() == content


# ImageNet encoders -----------------------------------------------------------------------------


def imagenet(path, name="resnet18", width=0.125, change=lambda state: None, zipped=True):
    """A file of torchvision's: encoder and classifier; the state without the classifier."""
    torch.manual_seed(1)
    encoder = networks.encoders.encoder(name, 3, width)
    for value in encoder.state_dict().values():
        if value.is_floating_point():
            value += 0.01 * torch.randn(value.shape).abs()
    state = encoder.state_dict()
    last = "classifier.6" if name in ("vgg16", "alexnet") else "fc"
    whole = {**state, f"{last}.weight": torch.zeros(1000, 8), f"{last}.bias": torch.zeros(1000)}
    change(whole)
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(whole, path)
    else:
        torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    return state


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


def test_a_checkpoint_of_this_package_is_no_import(tmp_path):
    imagenet(tmp_path / "net.pth")
    import_weights(tmp_path / "net.pth", tmp_path / "out")
    text = refused(tmp_path / "out.safetensors", tmp_path)
    assert "got a checkpoint of this package" in text
