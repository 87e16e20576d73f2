# SPDX-License-Identifier: Apache-2.0
"""``import-weights`` as a user meets it: what fits, what is remembered, no half file."""

import hashlib
import json
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from import_commands import run, words

from depth_two_stage import networks
from depth_two_stage.checkpoints import layouts
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.checkpoints.restricted import CheckpointFileError
from depth_two_stage.networks.encoders import ResNet

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")


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
