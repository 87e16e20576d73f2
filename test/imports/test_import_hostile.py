# SPDX-License-Identifier: Apache-2.0
"""Pickles that would run something: none does, whatever file they come in."""

import builtins
import io
import os
import pickle
import struct
import zipfile

import fcrn_files
import numpy as np
import pytest
import sparse_to_dense_files
import torch

from depth_two_stage.checkpoints import reading, restricted, torch_file
from depth_two_stage.checkpoints.importing import import_weights
from depth_two_stage.checkpoints.restricted import CheckpointFileError

MARK = "depth_two_stage_was_here"
RUN = f"open('{MARK}', 'w').close()"


class Reduce:
    """Pickles as a call of a function by its name."""

    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module, name):
    """STACK_GLOBAL: protocol 4 takes dots in a name as a path of attributes."""
    return text(module) + text(name) + b"\x93"


SHELL = f"touch {MARK}"
# Programs of pickle: what stands before the final "." leaves one object.
PROGRAMS = {
    "os.system": pickle.dumps(Reduce(os.system, SHELL), 2)[:-1],
    "posix.system": b"cposix\nsystem\n(" + text(SHELL) + b"tR",
    "builtins.eval": pickle.dumps(Reduce(eval, RUN), 2)[:-1],
    "builtins.exec": pickle.dumps(Reduce(exec, RUN), 4)[:-1],
    "builtins.open": pickle.dumps(Reduce(builtins.open, MARK, "w"), 4)[:-1],
    "INST": b"(" + text(SHELL) + b"ios\nsystem\n",
    "OBJ": b"(cos\nsystem\n" + text(SHELL) + b"o",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(" + text(SHELL) + b"t\x81",
    "dotted": b"\x80\x04" + named("os", "path.os.system") + text(SHELL) + b"\x85R",
    "torch dotted": b"\x80\x04"
    + named("torch.nn.modules.module", "torch.os.system")
    + text(SHELL)
    + b"\x85R",
    "torch.nn.modules' imports": b"ctorch.nn.modules.module\nwarnings.os.system\n"
    + text(SHELL)
    + b"\x85R",
    "torch.load": b"ctorch\nload\n" + text("x") + b"\x85R",
    "torch.hub": b"ctorch.hub\nload\n" + text("x") + b"\x85R",
    "getattr": b"\x80\x04"
    + named("builtins", "getattr")
    + named("builtins", "dict")
    + text("__class__")
    + b"\x86R",
    "getattr of os": b"c__builtin__\ngetattr\n(cmodels\nResNet\n" + text("__init__") + b"tR",
    "getattr of a stub's own": b"c__builtin__\ngetattr\n(cmodels\nResNet\n"
    + text("__setstate__")
    + b"tR",
    "getattr chain": b"c__builtin__\ngetattr\n(c__builtin__\ngetattr\n" + text("_function") + b"tR",
    "numpy _reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n"
    + b"(K\x00t"
    + text("b")
    + b"tR",
    "numpy _reconstruct of a str": b"cnumpy.core.multiarray\n_reconstruct\n("
    + text(SHELL)
    + b"(K\x00t"
    + text("b")
    + b"tR",
    "numpy.testing": b"cnumpy.testing._private.utils\nrunstring\n(" + text(RUN) + b"}tR",
    "numpy.load": b"cnumpy\nload\n" + text("x") + b"\x85R",
    "numpy.f2py": b"cnumpy.distutils.exec_command\nexec_command\n" + text(SHELL) + b"\x85R",
    "dtype of objects": b"cnumpy\ndtype\n(" + text("O,f4") + b"tR",
    "codecs": b"c_codecs\nencode\n(" + text("a") + text("rot13") + b"tR",
    "codecs.open": b"ccodecs\nopen\n(" + text(MARK) + text("w") + b"tR",
    "state of a function": b"cnumpy.core.multiarray\n_reconstruct\n}"
    + text("__code__")
    + text("x")
    + b"sb",
    "slots of a function": b"cnumpy.core.multiarray\n_reconstruct\nN}"
    + text("_function")
    + b"cos\nsystem\ns\x86b",
    "state of a class": b"cmodels\nResNet\n}" + text("origin") + text("os.system") + b"sb",
    "slots of a class": b"cmodels\nResNet\nN}" + text("__new__") + b"cos\nsystem\ns\x86b",
    "extension registry": b"\x82\x01",
    "copyreg": b"ccopyreg\nadd_extension\n(" + text("os") + text("system") + b"K\x01tR",
    "bytearray of a number": b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R",
    "subprocess": b"csubprocess\nPopen\n(]" + text("touch") + b"a" + text(MARK) + b"atR",
    "functools": b"cfunctools\npartial\n(cos\nsystem\n" + text(SHELL) + b"tR",
    "models' own import": b"cmodels\nos.system\n" + text(SHELL) + b"\x85R",
    "torchvision's import": b"ctorchvision.models.resnet\nload_state_dict_from_url\n"
    + text("http://localhost/")
    + b"\x85R",
}


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path, monkeypatch):
    """After each test the mark must not be there; a shell would start in this folder."""
    monkeypatch.chdir(tmp_path)
    ran = []
    # What would run without leaving a mark.
    monkeypatch.setattr(os, "system", lambda command: ran.append(command))
    yield
    assert not (tmp_path / MARK).exists() and not ran


def test_the_programs_do_harm_where_nothing_stops_them(tmp_path):
    """Otherwise the tests below could not fail."""
    for name in ("builtins.eval", "builtins.exec"):
        pickle.loads(PROGRAMS[name] + b".")
        assert (tmp_path / MARK).exists(), name
        (tmp_path / MARK).unlink()
    pickle.loads(PROGRAMS["posix.system"] + b".")
    assert (tmp_path / MARK).exists()
    (tmp_path / MARK).unlink()


def npy_file(path, program):
    """The program in the place of a layer's parameters, beside good ones."""
    layers = fcrn_files.fcrn_arrays(2)
    good = pickle.dumps(layers["conv1"], 2)[2:-1]
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    body = b"\x80\x04}(" + text("conv1") + good + text("evil") + program + b"u."
    path.write_bytes(start + body)


def raw_file(path, program):
    """A pickle without NumPy's header."""
    path.write_bytes(b"\x80\x02" + program + b".")


def legacy_file(path, program):
    """The old format of torch.save, the program as one of the values."""
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001)]
    parts.append(pickle.dumps({"little_endian": True}, 2))
    parts.append(b"\x80\x02}(" + text("epoch") + b"K\x01" + text("model") + program + b"u.")
    path.write_bytes(b"".join(parts) + pickle.dumps([], 2))


def zip_file(path, program):
    """The new format of torch.save, likewise."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + text("model") + program + b"u.")
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("write", [npy_file, raw_file, legacy_file, zip_file])
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_runs(tmp_path, write, name):
    path, out = tmp_path / "file", tmp_path / "out.safetensors"
    write(path, PROGRAMS[name])
    with pytest.raises(CheckpointFileError) as error:
        import_weights(path, out)
    assert str(path) in str(error.value) and "expected" in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize("when", ["best_result", "args", "optimizer", "key"])
def test_nothing_runs_beside_a_good_network(tmp_path, when):
    """A whole file of the authors', with one more thing in it."""
    path = tmp_path / "model_best.pth.tar"
    with sparse_to_dense_files.authors_modules() as classes, pytest.warns(UserWarning):
        net = sparse_to_dense_files.sparse_to_dense(classes, "resnet18", "upconv", 3, 2)
        content = {"epoch": 1, "arch": "resnet18", "model": net, "best_result": None}
        evil = Reduce(os.system, SHELL)
        if when == "key":
            content["more"] = [(evil, 1)]
        else:
            content[when] = evil
        kept, os.system.__qualname__ = os.system.__qualname__, "system"
        os.system.__module__, os.system.__name__ = "os", "system"
        torch.save(content, path, _use_new_zipfile_serialization=False)
        os.system.__qualname__ = kept
    with pytest.raises(CheckpointFileError, match=r"os\.system, which is refused"):
        import_weights(path, tmp_path / "out")


def test_references_outside_the_file_are_refused(tmp_path):
    for write, program in (
        (npy_file, text("x") + b"Q"),
        (legacy_file, text("x") + b"Q"),
        (zip_file, b"(" + text("file") + text("/etc/passwd") + b"tQ"),
    ):
        write(tmp_path / "file", program)
        with pytest.raises(CheckpointFileError, match="refused"):
            import_weights(tmp_path / "file", tmp_path / "out")


def test_a_stub_keeps_what_it_was_given_and_does_nothing():
    program = b"cmodels\nResNet\n)\x81}" + text("__class__") + b"K\x01sb."
    stub = restricted.loads(program, stubs=torch_file.STUBS)
    assert isinstance(stub, restricted.Stub) and stub.state == {"__class__": 1}
    assert type(stub).origin == "models.ResNet" and not callable(stub)


def test_deep_and_endless_pickles_end(tmp_path):
    for program in (
        b"]" * 100_000 + b"a" * 99_999,
        b"(" * 1000,
        b"]r\xff\xff\xff\x7fj\xff\xff\xff\x7f",
        b"2" * 10,
    ):
        raw_file(tmp_path / "file", program)
        with pytest.raises(CheckpointFileError):
            import_weights(tmp_path / "file", tmp_path / "out")
    # Lists that hold each other twice over, 2⁶⁴ items if somebody walked them.
    program = b"]q\x00" + b"".join(
        b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(64)
    )
    raw_file(tmp_path / "file", program)
    with pytest.raises(CheckpointFileError, match="got list"):
        import_weights(tmp_path / "file", tmp_path / "out")


def tensor_file(path, program, zipped):
    """A file of torch.save with one storage of four ones; STORAGE in the program refers to it."""
    where = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04"
    value = program.replace(b"STORAGE", where + (b"tQ" if zipped else b"NtQ"))
    content = b"\x80\x02}" + text("conv1.weight") + value + b"s."
    ones = np.ones(4, np.float32).tobytes()
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/data/0", ones)
    else:
        parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
        parts += [content, pickle.dumps(["0"], 2), struct.pack("<q", 4), ones]
        path.write_bytes(b"".join(parts))


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(STORAGEK\x00K\x04\x85K\x01\x85\x89)tR"


@pytest.mark.parametrize("zipped", [False, True])
def test_what_was_checked_cannot_be_changed_afterwards(tmp_path, zipped):
    """A view past the end of its numbers would read this process's memory."""
    path = tmp_path / "file"
    tensor_file(path, TENSOR, zipped)
    assert reading.read(path).arrays["conv1.weight"].tolist() == [1, 1, 1, 1]
    size = b"}" + text("size") + b"J\xff\xff\xff\x7f"
    for change in (
        TENSOR + b"}" + text("offset") + b"J\x00\x00\x00\x80sb",
        TENSOR + size + b"\x85sb",
        TENSOR.replace(b"STORAGE", b"STORAGE" + size + b"sb"),
        b"ctorch\nFloatStorage\nN}" + text("name") + text("Double") + b"s\x86b",
    ):
        tensor_file(path, change, zipped)
        with pytest.raises(CheckpointFileError, match="a new state of"):
            reading.read(path)
    tensor_file(path, TENSOR, zipped)  # nor was anything of this process
    assert reading.read(path).arrays["conv1.weight"].tolist() == [1, 1, 1, 1]


def test_attributes_of_a_dict_take_no_methods_place(tmp_path):
    """Python's own OrderedDict would call what the file says."""
    program = b"ccollections\nOrderedDict\n)R}" + text("items") + b"cos\nsystem\nsb"
    zip_file(tmp_path / "file", program)
    with pytest.raises(CheckpointFileError, match=r"os\.system, which is refused"):
        reading.read(tmp_path / "file")
    zip_file(tmp_path / "file", program.replace(b"cos\nsystem\n", b"c__builtin__\nlist\n"))
    with pytest.raises(CheckpointFileError, match="expected tensors by name, got none"):
        reading.read(tmp_path / "file")


def test_modules_that_hold_each_other(tmp_path):
    """A ring, and a tower in which each of forty modules holds the next twice: 2⁴⁰ visits."""
    made = b"cmodels\nResNet\n)\x81q\x00}" + text("_modules") + b"}" + text("a")
    zip_file(tmp_path / "file", made + b"h\x00ssb")
    with pytest.raises(CheckpointFileError, match="expected 10000 modules at most, 16 deep"):
        reading.read(tmp_path / "file")
    tower = b"cmodels\nResNet\n)\x81}" + text("_modules") + b"}sbq\x00"
    for number in range(40):
        twice = b"(" + text("a") + b"h" + bytes([number]) + text("b") + b"h" + bytes([number])
        tower += b"0cmodels\nResNet\n)\x81}" + text("_modules") + b"}" + twice + b"usb"
        tower += b"q" + bytes([number + 1])
    zip_file(tmp_path / "file", tower)
    with pytest.raises(CheckpointFileError, match="expected 10000 modules at most, 16 deep"):
        reading.read(tmp_path / "file")


def test_a_zip_that_claims_more_than_it_holds(tmp_path):
    """A compressed storage of zeros, and one shorter than its tensor."""
    net = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    buffer = io.BytesIO()
    torch.save(net, buffer)
    with zipfile.ZipFile(buffer) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    (storage,) = [name for name in content if "/data/" in name]
    for kind, data in ((zipfile.ZIP_DEFLATED, content[storage]), (zipfile.ZIP_STORED, b"1234")):
        with zipfile.ZipFile(tmp_path / "file", "w") as archive:
            for name, value in content.items():
                if name == storage:
                    archive.writestr(name, data, kind)
                else:
                    archive.writestr(name, value)
        with pytest.raises(CheckpointFileError, match="a storage of"):
            import_weights(tmp_path / "file", tmp_path / "out")


def test_a_tensor_that_looks_beyond_its_storage(tmp_path):
    values = np.zeros(4, np.float32)
    storage = torch_file.Storage("<f4", 4)
    storage.fill(values.tobytes())
    with pytest.raises(ValueError, match="beyond its 4 numbers"):
        torch_file.Tensor(storage, 0, (2, 3), (3, 1)).numpy()
    with pytest.raises(ValueError, match="without storage, size or stride"):
        torch_file.Tensor(storage, -4, (2, 2), (2, 1))
    with pytest.raises(ValueError, match="without storage, size or stride"):
        torch_file.Tensor(storage, 0, (2, 2), (-2, 1))
    assert torch_file.Tensor(storage, 1, (3,), (1,)).numpy().shape == (3,)
