# SPDX-License-Identifier: Apache-2.0
"""Files of public weights as their authors' programs write them, small."""

import fcrn_files
import numpy as np
import pytest
import sparse_to_dense_files


@pytest.fixture
def npy(tmp_path):
    """Write the .npy of a small network after a change: path."""

    def write(change=lambda layers: None, unit=2):
        layers = fcrn_files.fcrn_arrays(unit)
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
        with sparse_to_dense_files.authors_modules() as classes:
            net = sparse_to_dense_files.sparse_to_dense(classes, encoder, decoder, len(modality), 4)
            change(net)
            sparse_to_dense_files.save_sparse_to_dense(
                path, net, classes, modality=modality, **more
            )
        return path

    return write
