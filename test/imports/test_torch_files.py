# SPDX-License-Identifier: Apache-2.0
"""torch's files of weights: every form of them gives the same arrays; damage is an error."""

import collections
import pickle
import struct
import types
import zipfile

import numpy as np
import pytest
import sparse_to_dense_files
import torch
from stored_arrays import as_npy, flip, same
from torch import nn

from depth_two_stage.checkpoints import reading, torch_file
from depth_two_stage.checkpoints.restricted import CheckpointFileError

# torch's, of the source text that the old format keeps of a class.
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")


@pytest.fixture(scope="module")
def made():
    """(the authors' classes, a network, its state) while their modules are importable."""
    with sparse_to_dense_files.authors_modules() as classes:
        net = sparse_to_dense_files.sparse_to_dense(classes, "resnet18", "upproj", 4, 4)
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
    sparse_to_dense_files.save_sparse_to_dense(path, net, classes, zipped)
    net.output_size = (228, 304)
    facts = reading.read(path).facts
    assert facts["epoch"] == 14 and facts["arch"] == "resnet50" and facts["modality"] == "rgbd"
    assert facts["best_result"] == {"rmse": 0.237, "absrel": 0.048, "delta1": 0.97}
    assert facts["output_size"] == [228, 912]


def test_modules_of_torch_0_4(tmp_path, made, monkeypatch):
    """They point at a function of torch.nn.backends, and have no counter of batches."""
    import sys

    classes, _, _ = made
    net = sparse_to_dense_files.sparse_to_dense(classes, "resnet18", "deconv2", 3, 4)
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
