# SPDX-License-Identifier: Apache-2.0
"""A network's arrays, as they are to come out of every form of file."""

import fcrn_files
import numpy as np

LAYERS = fcrn_files.fcrn_arrays(2)
FLAT = fcrn_files.flat(LAYERS)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def as_npy(path):
    np.save(path, LAYERS, allow_pickle=True)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
