# SPDX-License-Identifier: Apache-2.0
"""Models in the real format of Hugging Face, small, and weights made of one."""

import shutil

import pytest

from depth_two_stage import cli


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """One folder of each kind."""
    import huggingface as tiny
    from small_models import KINDS

    from depth_two_stage.networks import coarse

    coarse.quiet_transformers()  # quiet from here on
    root = tmp_path_factory.mktemp("huggingface")
    return {kind: tiny.write(root / kind, kind) for kind in KINDS}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of Depth Anything's folder to spoil."""
    return shutil.copytree(folders["depth_anything"], tmp_path / "model")


@pytest.fixture(scope="session")
def weights(folders, tmp_path_factory):
    """A checkpoint that the command made of Depth Anything's folder."""
    path = tmp_path_factory.mktemp("plugged") / "anything.safetensors"
    with pytest.raises(SystemExit) as ended:
        cli.main(["plug", f"hf:{folders['depth_anything']}", "-o", str(path)])
    assert ended.value.code == 0
    return path
