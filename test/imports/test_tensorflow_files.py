# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's files of weights: every form of them gives the same arrays; damage is an error."""

import pickle

import fcrn_files
import numpy as np
import pytest
from stored_arrays import FLAT, LAYERS, as_npy, flip, same

from depth_two_stage.checkpoints import reading, tensorflow_table
from depth_two_stage.checkpoints.restricted import CheckpointFileError


def as_python2_npy(path):
    path.write_bytes(fcrn_files.python2_npy(LAYERS))


def as_pickle(protocol):
    return lambda path: path.write_bytes(pickle.dumps(LAYERS, protocol))


def in_fortran_order(path):
    arrays = {n: {p: np.asfortranarray(a) for p, a in ps.items()} for n, ps in LAYERS.items()}
    np.save(path, arrays, allow_pickle=True)


@pytest.mark.parametrize(
    "write",
    [as_npy, as_python2_npy, in_fortran_order, *(as_pickle(protocol) for protocol in (2, 3, 4, 5))],
)
def test_every_npy_gives_the_same(tmp_path, write):
    path = tmp_path / "net.npy"
    write(path)
    source = reading.read(path)
    assert source.layout == "fcrn-npy" and source.files == [path]
    same(source.arrays, FLAT)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (np.zeros(3), "an array of float64 without names"),
        (np.array(["a", "b"], object), "got list"),
        (np.array({"conv1": np.zeros(3)}, object), "got Array in 'conv1'"),
        (np.array({"conv1": {"weights": [1.0]}}, object), "got list in conv1/weights"),
        (np.array({"conv1": {"weights": np.array([{}], object)}}, object), "conv1/weights"),
    ],
)
def test_other_npy_files_are_refused(tmp_path, content, got):
    np.save(tmp_path / "net.npy", content, allow_pickle=True)
    with pytest.raises(CheckpointFileError, match="expected a pickled dict") as error:
        reading.read(tmp_path / "net.npy")
    assert got in str(error.value)


# TensorFlow's checkpoints ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".index", ".meta", ".data-00000-of-00001", "folder"])
@pytest.mark.parametrize("snappy", [False, True])
def test_a_bundle_is_named_by_any_of_its_files(tmp_path, name, snappy):
    prefix = tmp_path / "NYU_FCRN.ckpt"
    fcrn_files.write_bundle(prefix, {**FLAT, "global_step": np.array(7)}, snappy)
    path = tmp_path if name == "folder" else tmp_path / f"NYU_FCRN.ckpt{name}"
    source = reading.read(path)
    assert source.layout == "fcrn-ckpt" and len(source.files) == 2
    same(source.arrays, {**FLAT, "global_step": np.array(7)})


def test_a_bundle_of_several_data_files(tmp_path):
    prefix = tmp_path / "net[1].ckpt"  # a name that is no pattern
    fcrn_files.write_bundle(prefix, FLAT, shards=3)
    source = reading.read(prefix)
    assert len(source.files) == 4
    same(source.arrays, FLAT)


def test_an_old_checkpoint_is_one_file(tmp_path):
    path = tmp_path / "NYU.ckpt"
    fcrn_files.write_old_checkpoint(path, {**FLAT, "step": np.array(7, np.int32)})
    source = reading.read(path, "fcrn-ckpt")
    same(source.arrays, FLAT)  # a counter is no weight


def test_checksums():
    """The check value of CRC-32C, and pieces side by side against bit by bit."""
    assert tensorflow_table.checksum(b"123456789") == 0xE3069283
    data = np.random.default_rng(0).integers(0, 256, 3 * tensorflow_table.LANE + 5, np.uint8)
    assert tensorflow_table.checksum(data) == fcrn_files.crc32c(data.tobytes())


def test_snappy_copies_may_overlap():
    # "ab", then eight more from two back, by each of the three kinds of copy.
    for copy in (
        bytes([1 | (8 - 4) << 2, 2]),
        bytes([2 | (8 - 1) << 2, 2, 0]),
        bytes([3 | (8 - 1) << 2, 2, 0, 0, 0]),
    ):
        assert tensorflow_table._unsnapped(b"\x0a\x04ab" + copy) == b"ababababab"
    long = bytes(range(256)) * 2
    tagged = b"\x80\x04" + bytes([61 << 2, 0xFF, 0x01]) + long
    assert tensorflow_table._unsnapped(tagged) == long
    for broken in (b"\x0a\x04ab", b"\x0a\x04ab" + bytes([2 | 7 << 2, 9, 0]), b"\x05\x04ab\x04ab"):
        with pytest.raises(ValueError, match="compressed block"):
            tensorflow_table._unsnapped(broken)


def test_damage_to_a_bundle_is_an_error(tmp_path):
    prefix = tmp_path / "net.ckpt"
    index, data = tmp_path / "net.ckpt.index", tmp_path / "net.ckpt.data-00000-of-00001"

    def broken(match, *damage):
        fcrn_files.write_bundle(prefix, FLAT)
        for change in damage:
            change()
        with pytest.raises(CheckpointFileError, match=match):
            reading.read(prefix)

    broken("wrong checksum", lambda: flip(data, 5000))
    broken("block with a wrong checksum", lambda: flip(index, 20))
    broken("without its end", lambda: flip(index, -1))
    broken("truncated net.ckpt.data", lambda: data.write_bytes(data.read_bytes()[:-8]))
    broken("no net.ckpt.data-00000-of-00001 beside it", data.unlink)
    broken("without its end", lambda: index.write_bytes(index.read_bytes()[:-30]))
    broken("without its end", lambda: index.write_bytes(b""))
    entry = fcrn_files.message
    header = (b"", entry((1, 1), (3, entry((1, 1)))))
    for match, entries in (
        ("without the header", [(b"a", b"")]),
        ("big-endian", [(b"", entry((1, 1), (2, 1)))]),
        ("no net.ckpt.data-00000-of-00002", [(b"", entry((1, 2)))]),
        ("in slices", [header, (b"a", entry((1, 1), (7, b"")))]),
        ("40 bytes in shard 0", [header, (b"a", entry((1, 1), (5, 40)))]),
        ("in shard 3", [header, (b"a", entry((1, 1), (3, 3), (5, 4)))]),
        ("unknown rank", [header, (b"a", entry((1, 1), (2, entry((3, 1)))))]),
        ("truncated", [header, (b"a", b"\x12\x7f")]),
    ):
        broken(match, lambda entries=entries: index.write_bytes(fcrn_files.table(entries)))
