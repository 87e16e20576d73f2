# SPDX-License-Identifier: Apache-2.0
"""``import-weights`` as a command and as a function, and a small torchvision file."""

import re

import pytest
import safetensors.torch
import torch

from depth_two_stage import cli, networks
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.checkpoints.restricted import CheckpointFileError


def run(capsys, *arguments):
    """Run a command in this process: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(map(str, arguments)))
    shown = capsys.readouterr()
    return left.value.code, shown.out, shown.err


def words(shown):
    """A table's text without its lines, as one line."""
    return " ".join(re.sub(r"[^ -~]", " ", shown).split())


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
