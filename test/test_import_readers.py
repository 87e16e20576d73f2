# SPDX-License-Identifier: Apache-2.0
"""The files of public weights: every form of them gives the same arrays; damage is an error."""

import collections
import pickle
import struct
import types
import zipfile

import authors_files
import numpy as np
import pytest
import torch
from torch import nn

from depth_two_stage.checkpoints import reading, tensorflow_table, torch_file
from depth_two_stage.checkpoints.restricted import CheckpointFileError

# torch's, of the source text that the old format keeps of a class.
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")

LAYERS = authors_files.fcrn_arrays(2)
FLAT = authors_files.flat(LAYERS)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# .npy ------------------------------------------------------------------------------------------


def as_npy(path):
    np.save(path, LAYERS, allow_pickle=True)


def as_python2_npy(path):
    path.write_bytes(authors_files.python2_npy(LAYERS))


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
    authors_files.write_bundle(prefix, {**FLAT, "global_step": np.array(7)}, snappy)
    path = tmp_path if name == "folder" else tmp_path / f"NYU_FCRN.ckpt{name}"
    source = reading.read(path)
    assert source.layout == "fcrn-ckpt" and len(source.files) == 2
    same(source.arrays, {**FLAT, "global_step": np.array(7)})


def test_a_bundle_of_several_data_files(tmp_path):
    prefix = tmp_path / "net[1].ckpt"  # a name that is no pattern
    authors_files.write_bundle(prefix, FLAT, shards=3)
    source = reading.read(prefix)
    assert len(source.files) == 4
    same(source.arrays, FLAT)


def test_an_old_checkpoint_is_one_file(tmp_path):
    path = tmp_path / "NYU.ckpt"
    authors_files.write_old_checkpoint(path, {**FLAT, "step": np.array(7, np.int32)})
    source = reading.read(path, "fcrn-ckpt")
    same(source.arrays, FLAT)  # a counter is no weight


def test_checksums():
    """The check value of CRC-32C, and pieces side by side against bit by bit."""
    assert tensorflow_table.checksum(b"123456789") == 0xE3069283
    data = np.random.default_rng(0).integers(0, 256, 3 * tensorflow_table.LANE + 5, np.uint8)
    assert tensorflow_table.checksum(data) == authors_files.crc32c(data.tobytes())


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


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_damage_to_a_bundle_is_an_error(tmp_path):
    prefix = tmp_path / "net.ckpt"
    index, data = tmp_path / "net.ckpt.index", tmp_path / "net.ckpt.data-00000-of-00001"

    def broken(match, *damage):
        authors_files.write_bundle(prefix, FLAT)
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
    entry = authors_files.message
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
        broken(match, lambda entries=entries: index.write_bytes(authors_files.table(entries)))


# torch.save ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """(the authors' classes, a network, its state) while their modules are importable."""
    with authors_files.authors_modules() as classes:
        net = authors_files.sparse_to_dense(classes, "resnet18", "upproj", 4, 4)
        state = {name: value.numpy().copy() for name, value in net.state_dict().items()}
        yield classes, net, state


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: {"model": net, "epoch": 3},
        lambda net: net,
        lambda net: nn.DataParallel(net),
        lambda net: {"model": net.state_dict()},
        lambda net: {"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}},
        lambda net: net.state_dict(),
    ],
    ids=["dict", "module", "parallel", "state", "parallel state", "bare state"],
)
def test_whole_modules_and_states(tmp_path, made, wrap, zipped):
    _, net, state = made
    path = tmp_path / "model_best.pth.tar"
    torch.save(wrap(net), path, _use_new_zipfile_serialization=zipped)
    source = reading.read(path)
    assert source.layout == "sparse-to-dense"
    same(source.arrays, state)


@pytest.mark.parametrize("zipped", [False, True])
def test_what_a_file_says_of_its_training(tmp_path, made, zipped):
    classes, net, _ = made
    path = tmp_path / "model_best.pth.tar"
    net.output_size = torch.Size((228, 912))
    authors_files.save_sparse_to_dense(path, net, classes, zipped)
    net.output_size = (228, 304)
    facts = reading.read(path).facts
    assert facts["epoch"] == 14 and facts["arch"] == "resnet50" and facts["modality"] == "rgbd"
    assert facts["best_result"] == {"rmse": 0.237, "absrel": 0.048, "delta1": 0.97}
    assert facts["output_size"] == [228, 912]


def test_modules_of_torch_0_4(tmp_path, made, monkeypatch):
    """They point at a function of torch.nn.backends, and have no counter of batches."""
    import sys

    classes, _, _ = made
    net = authors_files.sparse_to_dense(classes, "resnet18", "deconv2", 3, 4)
    thnn = types.ModuleType("torch.nn.backends.thnn")

    def _get_thnn_function_backend():
        raise AssertionError("it was called")

    _get_thnn_function_backend.__module__ = thnn.__name__
    _get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    thnn._get_thnn_function_backend = _get_thnn_function_backend
    monkeypatch.setitem(sys.modules, thnn.__name__, thnn)

    class Backend:
        def __reduce__(self):
            return _get_thnn_function_backend, ()

    for module in net.modules():
        module._backend = Backend()
        if isinstance(module, nn.BatchNorm2d):
            del module._buffers["num_batches_tracked"]
    torch.save({"model": net}, tmp_path / "net", _use_new_zipfile_serialization=False)
    found = reading.read(tmp_path / "net").arrays
    assert not any("tracked" in name for name in found)
    np.testing.assert_array_equal(found["conv3.weight"], net.conv3.weight.detach().numpy())


def legacy(program, storages):
    """The old format round a program; storages (key, float32 values)."""
    parts = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [b"\x80\x02" + program + b".", pickle.dumps([key for key, _ in storages], 2)]
    for _, values in storages:
        parts.append(struct.pack("<q", len(values)) + np.asarray(values, "<f4").tobytes())
    return b"".join(parts)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(key, size, view=b"N"):
    where = text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cuda:0")
    return b"(" + where + b"K" + bytes([size]) + view + b"tQ"


def test_variables_of_torch_0_3_and_views_of_storages(tmp_path):
    """Parameters were objects made of a tensor; a storage might show a part of another."""
    view = b"(" + text("v") + b"K\x02K\x03t"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor\n("
        + storage("7", 6, view)
        + b"K\x01K\x01K\x02\x86K\x01K\x01\x86tR"
    )
    parameter = b"ctorch.nn.parameter\nParameter\n" + tensor + b"\x85R(\x89\x89}tb"
    path = tmp_path / "net.pth"
    path.write_bytes(legacy(b"}" + text("conv1.weight") + parameter + b"s", [("7", range(6))]))
    found = reading.read(path).arrays
    assert found["conv1.weight"].tolist() == [[3.0, 4.0]]  # 2 of the view, 1 of the tensor


@pytest.mark.parametrize("zipped", [False, True])
def test_types_and_strides(tmp_path, zipped):
    whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = {
        "conv1.weight": whole.permute(2, 0, 1),
        "half": whole.half(),
        "brain": whole.bfloat16(),
        "double": whole.double()[1],
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 3),
    }
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    found = reading.read(tmp_path / "net.pth").arrays
    same(found, {name: value.float().numpy() for name, value in state.items()})
    assert found["half"].dtype == found["brain"].dtype == np.float32


@pytest.mark.parametrize("zipped", [False, True])
def test_damage_to_a_file_of_torch_is_an_error(tmp_path, zipped):
    path = tmp_path / "net.pth"
    state = collections.OrderedDict(a=torch.ones(500), b=torch.zeros(500))
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) - 1000, len(data) // 2, 60):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointFileError, match="expected"):
            reading.read(path)


def test_a_changed_byte_of_a_zip_is_an_error(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"conv1.weight": torch.ones(5000)}, path)
    flip(path, path.read_bytes().index(np.ones(9, np.float32).tobytes()) + 40)
    with pytest.raises(CheckpointFileError, match="CRC"):
        reading.read(path)


def test_another_byte_order(tmp_path):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(CheckpointFileError, match="byte order"):
        reading.read(path)


def test_a_storage_that_is_not_in_the_file(tmp_path):
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage("7", 1) + b"K\x00K\x01\x85K\x01\x85tR"
    )
    program = b"}" + text("a") + tensor + b"s"
    (tmp_path / "net.pth").write_bytes(legacy(program, []))
    with pytest.raises(CheckpointFileError, match="other storages"):
        reading.read(tmp_path / "net.pth")
    (tmp_path / "net.pth").write_bytes(legacy(program, [("7", [1, 2])]))
    with pytest.raises(CheckpointFileError, match="a storage of 2 numbers for 1"):
        reading.read(tmp_path / "net.pth")


# Which layout ----------------------------------------------------------------------------------


def test_other_files_and_layouts(tmp_path):
    for name, content in (
        ("empty", b""),
        ("text", b"hello, this is no checkpoint at all, but long enough to look at"),
        ("zip", b"PK\x03\x04 and then nothing that a zip has at its end"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointFileError, match="got a file that starts with"):
            reading.read(tmp_path / name)
    with pytest.raises(CheckpointFileError, match="No such file"):
        reading.read(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointFileError, match=r"a folder with one \.index"):
        reading.read(tmp_path / "folder")
    as_npy(tmp_path / "net.npy")
    with pytest.raises(CheckpointFileError, match="expected the layout torchvision, got fcrn-npy"):
        reading.read(tmp_path / "net.npy", "torchvision")
    with pytest.raises(CheckpointFileError, match="layout: expected one of auto, fcrn-npy"):
        reading.read(tmp_path / "net.npy", "caffe")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointFileError, match="expected a module or a state dict, got list"):
        reading.read(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(CheckpointFileError, match="expected tensors by name, got none"):
        reading.read(tmp_path / "none.pth")


def test_a_module_without_its_children(tmp_path, made):
    classes, _, _ = made
    net = classes.ResNet()
    net.conv1 = nn.Conv2d(3, 2, 1)
    net._modules["conv2"] = "not a module"
    torch.save({"model": net}, tmp_path / "net.pth")
    with pytest.raises(CheckpointFileError, match=r"conv2\.: expected a module, got str"):
        reading.read(tmp_path / "net.pth")
    assert torch_file.is_torch(tmp_path / "net.pth")
